"""The command: `python -m benchmarks`."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer

from benchmarks.rows import ROWS, measured
from benchmarks.table import Result, as_markdown, as_record, print_table


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"A row: {', '.join(ROWS)}. May be repeated.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Measure once only, to see that it works.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table for the README.")] = False,
) -> None:
    """Measure how fast it is beside what people use today. Wants a machine that does nothing else; under 10 minutes.

    Example: python -m benchmarks --only kernel-roberta --json
    """
    names = only or list(ROWS)
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise typer.BadParameter(f"expected one of {', '.join(ROWS)}, found {', '.join(unknown)}", param_hint="--only")
    result = Result()
    for place, name in enumerate(names, 1):
        print(f"[{place}/{len(names)}] {name}", file=sys.stderr, flush=True)
        start = time.monotonic()
        try:
            result.lines += measured(name, quick)
        except Exception as error:
            result.failed[name] = f"{type(error).__name__}: {error}"
            print(f"  failed: {result.failed[name]}", file=sys.stderr)
        print(f"  {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    if as_json:
        print(json.dumps(as_record(result), indent=2))
    elif markdown:
        print(as_markdown(result))
    else:
        print_table(result)
    if result.failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
