"""`msplora-analyze report`: a run or a study as one page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from msplora_analysis import Analysis


def report(
    path: Annotated[
        str, typer.Argument(metavar="RUN_OR_STUDY", help="A run, an adapter, or a folder of such; or hf://owner/name.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file.", show_default="analysis/report.html in the run or study"),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The same, to compare with.", show_default="the LoRA runs in RUN_OR_STUDY")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write the results of `svd` as one page: verdicts, interactive pictures, tables. The page sends no requests.

    `svd` writes the same page next to its tables and figures, and has the options that choose what is measured.

    Example: msplora-analyze report runs -o runs.html

    Example: msplora-analyze report runs/mrpc-msplora --baseline runs/mrpc-lora --open
    """
    from functools import partial

    from msplora_analysis import analyse, draw_figures, write_report
    from msplora_analysis.report.homes import home
    from msplora_cli.console import say, warnings_told

    with warnings_told():
        analysis = while_drawing_loads(partial(analyse, path, baseline=baseline, n_jobs=-1))
        page = write_report(
            analysis, out or home(analysis.path) / "report.html", figures=draw_figures(analysis), made=how_it_was_made()
        )
    say(f"{page} ({page.stat().st_size / 1e6:.1f} MB)")
    if show:
        open_page(page)
    if analysis.failed:
        raise typer.Exit(1)


def while_drawing_loads(work: "Callable[[], Analysis]") -> "Analysis":
    """Return `work()`, computed by another process while this one loads what draws."""
    from importlib import import_module

    from msplora_analysis.loading.parallel import beside
    from msplora_analysis.report.pictures import load_drawing

    import_module("pandas")  # once, for both processes
    return beside(load_drawing, work)


def how_it_was_made() -> dict[str, str]:
    """Return the command line and the time."""
    import shlex
    import sys
    from datetime import UTC, datetime

    command = shlex.join(["msplora-analyze", *sys.argv[1:]])
    return {"command": command, "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}


def open_page(page: Path) -> None:
    """Open a page in the system's browser, or print its path."""
    import webbrowser

    from msplora_cli.console import say

    if not webbrowser.open(page.resolve().as_uri()):
        say(f"no browser found here: open {page.resolve()} yourself")
