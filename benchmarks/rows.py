"""The rows of the table, by name. Each is a function of this package, run in a process of its own."""

from __future__ import annotations

import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from benchmarks.processes import apart, named
from benchmarks.target import Line
from benchmarks.timing import Bench

ROWS = {
    "kernel-llama": "kernel:llama",
    "kernel-ill-conditioned": "kernel:ill_conditioned",
    "kernel-roberta": "kernel:roberta",
    "process-adapter": "commands:adapter",
    "process-figures": "commands:figures",
    "process-page": "commands:page",
    "process-help": "commands:answers",
    "triangular": "choices:triangular",
    "pdf": "choices:pdf",
    "divergence": "divergence:pairwise",
    "nulls": "nulls:rotation",
    "plan": "plans:ranks",
    "inner-products": "overlaps:pairs",
    "process-overlap": "overlaps:process",
    "intruders": "foreign:intruders",
    "folder": "folder:thousand_adapters",
    "step": "step:training_step",
    "joined": "step:joined_product",
    "snapshots": "training:snapshots",
    "interference": "training:interference",
    "training": "training:tokens",
    "jobs": "jobs:jobs",
}


def measured(name: str, quick: bool = False) -> list[Line]:
    """Return the lines of a row.

    Raises:
        Exception: if the measurement fails.
    """
    with tempfile.TemporaryDirectory(prefix="msplora-bench-") as folder:
        found: list[Line] = apart("rows:run", ROWS[name], Path(folder), quick)
        return found


def run(function: str, folder: Path, quick: bool) -> list[Line]:
    """Measure a row in this process, with a folder for its files. Only the table is written to standard output."""
    with redirect_stdout(sys.stderr):
        found: list[Line] = named(function)(Bench(folder, quick))
        return found
