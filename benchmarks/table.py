"""The table of results: for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyperf

from benchmarks.target import Line

_HEADERS = ("work", "ours", "compared with", "its", "ratio", "target", "met")
_PACKAGES = ("msplora", "numpy", "pandas", "matplotlib", "torch", "transformers", "peft", "weightwatcher", "typer")
_WIDTH = 220


@dataclass
class Result:
    """The results of a run of the benchmarks.

    Args:
        lines: the lines of the table.
        failed: rows that failed, each with its error.
    """

    lines: list[Line] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def machine() -> str:
    """Return the processor and the number of cores."""
    facts = pyperf.Run([1.0], metadata={"name": "machine"}).get_metadata()
    return f"{facts.get('cpu_model_name', platform.processor())}, {_cores()} cores"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the relevant packages that are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def as_record(result: Result) -> dict[str, Any]:
    """Return the result as values for JSON."""
    lines = [line.record() for line in result.lines]
    return {"machine": machine(), "versions": versions(), "lines": lines, "failed": result.failed}


def as_markdown(result: Result) -> str:
    """Return the table and, below it, the machine and the versions."""
    rows = [_HEADERS, ("---",) * len(_HEADERS), *(_cells(line) for line in result.lines)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return "\n\n".join([table, *_notes(result)])


def print_lines(lines: list[Line]) -> None:
    """Print lines of the table on standard error."""
    for line in lines:
        work, ours, peer, peers, ratio, target, met = _cells(line)
        print(f"  {work}: {ours}; {peer}: {peers}; {ratio} (target {target}: {met.strip('*')})", file=sys.stderr)


def print_table(result: Result) -> None:
    """Print the table on standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH  # in a file nothing is wrapped to 80 columns
    table = Table(*_HEADERS, box=box.SIMPLE_HEAD, pad_edge=False)
    for place in (1, 3, 4):
        table.columns[place].justify = "right"
    for line in result.lines:
        table.add_row(*_cells(line), style=None if line.met else "red")
    console.print(table)
    for note in _notes(result):
        console.print(note, markup=False, soft_wrap=True)


def _cells(line: Line) -> tuple[str, ...]:
    ratio = line.missing or "–" if line.ratio is None else line.target.shown(line.ratio)
    met = "yes" if line.met else "**no**" if line.ratio is not None else "not measured"
    unit = line.target.unit
    return line.work, _amount(line.ours, unit), line.peer, _amount(line.peers, unit), ratio, str(line.target), met


def _notes(result: Result) -> list[str]:
    met = sum(line.met for line in result.lines)
    facts = ", ".join(f"{name} {number}" for name, number in versions().items())
    failed = [f"{name} could not be measured: {reason}" for name, reason in result.failed.items()]
    return [f"{met} of {len(result.lines)} met.", *failed, f"Medians on {machine()}; {facts}."]


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "MB":
        return f"{value:.0f} MB"
    if value >= 100:
        return f"{value:.0f} s"
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
