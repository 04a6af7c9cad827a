"""The command: `python -m benchmarks`."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from benchmarks.rows import ROWS, measured
from benchmarks.table import Result, as_markdown, as_record, print_lines, print_table

LATEST = Path(".benchmarks") / "latest.json"
"""The results so far, written after every row."""


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"A row: {', '.join(ROWS)}. May be repeated.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Measure once only, to see that it works.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table for benchmarks/README.md.")] = False,
) -> None:
    """Measure the toolkit side by side with the tools in use today. Needs an idle machine; takes under 10 minutes.

    Every row is shown as soon as it is measured. If you stop the command, the rows so far are printed and kept in
    .benchmarks/latest.json.

    Example: python -m benchmarks --only kernel-roberta --json
    """
    names = only or list(ROWS)
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise typer.BadParameter(f"expected one of {', '.join(ROWS)}, found {', '.join(unknown)}", param_hint="--only")
    signal.signal(signal.SIGTERM, _interrupt)
    result, begun, stopped = Result(), time.monotonic(), False
    try:
        for place, name in enumerate(names, 1):
            _row(result, name, f"[{place}/{len(names)}]", quick, show=not (as_json or markdown))
    except KeyboardInterrupt:
        stopped = True
    print(f"{time.monotonic() - begun:.0f} s{', stopped' if stopped else ''}", file=sys.stderr)
    if as_json:
        print(json.dumps(as_record(result), indent=2))
    elif markdown:
        print(as_markdown(result))
    else:
        print_table(result)
    if result.failed or stopped:
        raise typer.Exit(130 if stopped else 1)


def _row(result: Result, name: str, place: str, quick: bool, *, show: bool) -> None:
    """Measure one row, add it to the result, show it and save it to disk."""
    print(f"{place} {name}", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        lines = measured(name, quick)
        result.lines += lines
        if show:
            print_lines(lines)
    except Exception as error:
        result.failed[name] = f"{type(error).__name__}: {error}"
        print(f"  failed: {result.failed[name]}", file=sys.stderr)
    LATEST.parent.mkdir(exist_ok=True)
    LATEST.write_text(json.dumps(as_record(result), indent=2) + "\n", encoding="utf-8")
    print(f"  {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
