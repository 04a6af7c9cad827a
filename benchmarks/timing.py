"""Side by side: calls that take turns, and the median of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyperf

_SHORTEST = 0.05  # seconds; shorter calls are repeated until they take so long
_LONGEST = 1.0  # seconds; longer calls need no warming up


@dataclass(frozen=True)
class Bench:
    """What a row is given to measure with.

    Args:
        folder: for files; gone afterwards.
        quick: measure everything once only, to see that it works.
    """

    folder: Path
    quick: bool = False

    def medians(
        self, calls: Mapping[str, Callable[[], object]], *, rounds: int = 9, seconds: float = 15.0
    ) -> dict[str, float]:
        """Median seconds of each call.

        The calls take turns, every other round in reverse, so that what else happens on the machine happens to all
        of them. Timed with pyperf's clock, and short calls repeated, as it does.

        Args:
            calls: what to time, by name.
            rounds: how often, for calls that leave the time.
            seconds: a call that took so long in all is not timed again.
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
    """The median of timings, as pyperf takes it."""
    return float(pyperf.Benchmark([pyperf.Run(values, collect_metadata=False, metadata={"name": "call"})]).median())


def _seconds(call: Callable[[], object], loops: int = 1) -> float:
    start = pyperf.perf_counter()
    for _ in range(loops):
        call()
    return float((pyperf.perf_counter() - start) / loops)
