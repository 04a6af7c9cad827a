"""Ranks for a whole adapter from its spectra, compared with the time to read the spectra."""

from __future__ import annotations

from benchmarks import made
from benchmarks.sizes import LLAMA
from benchmarks.target import Line, Target
from benchmarks.timing import Bench


def ranks(bench: Bench) -> list[Line]:
    """LLaMA2-7B size, for half of its parameters."""
    from msplora_analysis import load_spectra, plan_ranks

    adapter = made.adapter(bench.folder / "adapter", LLAMA)
    table = load_spectra(adapter)
    found = bench.medians(
        {"plan": lambda: plan_ranks(table, keep=0.5), "read": lambda: load_spectra(adapter)}, rounds=5
    )
    work = "planned ranks for half of the parameters, LLaMA2-7B size, r = 64"
    return [Line(work, "reading its spectra table", found["plan"], found["read"], Target("at most", 1))]
