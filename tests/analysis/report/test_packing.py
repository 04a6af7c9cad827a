"""Numbers in the page's short form are those of the tables, to four digits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msplora_analysis.report.embedded import square
from msplora_analysis.report.packing import packed

CODE = (Path(__file__).parents[3] / "msplora_analysis/report/assets/data.js").read_text()
VENDOR = (Path(__file__).parents[3] / "msplora_analysis/report/vendor/d3.min.js").read_text()


@pytest.fixture
def unpacked(browser: Any) -> Any:
    """The page's own decoder."""
    page = browser.new_page()
    page.add_script_tag(content=VENDOR)
    start, end = CODE.index("const PACKED"), CODE.index("function asRows")
    page.add_script_tag(content=CODE[start:end])
    yield lambda text: page.evaluate("(text) => unpacked(text)", text)
    page.close()


def test_numbers_of_every_size_come_back_with_four_digits(unpacked: Any) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=2000) * 10 ** random.uniform(-20, 10, 2000)
    values[:8] = 0, np.nan, np.inf, 9.9996, -0.99995, 1e-23, 9.999e10, 1000
    text = packed(values)
    assert text is not None
    assert len(text) == 3 * len(values)
    expected = [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]
    assert unpacked(text) == expected


def test_what_has_too_many_sizes_stays_a_list() -> None:
    assert packed([1e-30]) is None
    assert packed([[1e12, 1]]) is None
    assert square([[1e-30, 1], [0.5, np.nan]]) == [[1e-30, 1.0], [0.5, None]]


def test_nothing_in_it_needs_an_escape() -> None:
    text = packed(np.random.default_rng(0).normal(size=9000))
    assert text is not None
    assert not set(text) & set("\"\\&<>'") - {"'"}
    assert len(set(text)) > 80
