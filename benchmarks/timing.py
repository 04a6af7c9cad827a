"""Timing side by side: calls take turns, and each has its median."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyperf

_SHORTEST = 0.05  # seconds; shorter calls are repeated to take this long
_LONGEST = 1.0  # seconds; longer calls need no warm-up


@dataclass(frozen=True)
class Bench:
    """The settings of a measurement.

    Args:
        folder: for files; deleted afterwards.
        quick: measure everything only once, to see that it works.
    """

    folder: Path
    quick: bool = False

    def medians(
        self, calls: Mapping[str, Callable[[], object]], *, rounds: int = 9, seconds: float = 15.0
    ) -> dict[str, float]:
        """Return the median seconds of each call.

        The calls take turns, every other round in reverse order, so that other load on the machine affects all of
        them. They are timed with pyperf's clock, and short calls are repeated, as in pyperf.

        Args:
            calls: the calls to time, by name.
            rounds: how often to time each.
            seconds: a call is not timed again once it took this long in total.
        """
        values: dict[str, list[float]] = {name: [] for name in calls}
        loops = {}
        for name, call in calls.items():
            first = _seconds(call)
            if first > _LONGEST or self.quick:
                values[name].append(first)
            loops[name] = 1 if self.quick else max(1, math.ceil(_SHORTEST / first))
        for place in range(0 if self.quick else rounds):
            for name in list(calls)[:: -1 if place % 2 else 1]:
                spent = sum(values[name]) * loops[name]
                if len(values[name]) < rounds and (not values[name] or spent < seconds):
                    values[name].append(_seconds(calls[name], loops[name]))
        return {name: median(each) for name, each in values.items()}


def median(values: list[float]) -> float:
    """Return the median of timings, as computed by pyperf."""
    return float(pyperf.Benchmark([pyperf.Run(values, collect_metadata=False, metadata={"name": "call"})]).median())


def _seconds(call: Callable[[], object], loops: int = 1) -> float:
    start = pyperf.perf_counter()
    for _ in range(loops):
        call()
    return float((pyperf.perf_counter() - start) / loops)
