"""A real browser for the page: the system's Chromium, without a window."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for the tests of one file: while it is open, playwright keeps an event loop in this thread."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    root = os.geteuid() == 0  # Chromium's sandbox does not run for root
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*ARGUMENTS, *(["--no-sandbox"] if root else [])]
        )
        yield found
        found.close()


class Visit:
    """A page in the browser, and what it did that it should not."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: (self.errors.append(dialog.message), dialog.dismiss()))


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page, and at the end see that it sent nothing and complained of nothing."""
    visits: list[tuple[Visit, Path]] = []

    def opened(path: Path, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **options})
        seen = Visit(context.new_page())
        visits.append((seen, path))
        seen.page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            seen.page.wait_for_selector("html[data-ready]")
        return seen.page

    yield opened
    for seen, path in visits:
        assert [url for url in seen.requests if not url.startswith("data:")] == [path.as_uri()]
        assert seen.errors == []
        seen.page.context.close()


@pytest.fixture
def page(visit: Callable[..., Any], folder: Path) -> Any:
    """The page of the analysis that the file of tests has written."""
    return visit(folder / "report.html")
