"""Work shared among processes, where Python's own share of it would keep threads waiting for each other."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_handed_over: tuple[Callable[[Any], Any], Sequence[Any]]


def in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], n_jobs: int, *, chunk: int = 1, least: int = 1
) -> Iterator[Result]:
    """`map(function, items)`, in order, by several processes on Linux and by this one elsewhere.

    They are forked, so that items may be what cannot be sent to another process; results must be what can.

    Args:
        function: what to do with an item.
        items: all of them.
        n_jobs: how many processes, as in scikit-learn: -1 for one a core.
        chunk: how many items a process takes at a time.
        least: fewer items than this are not worth a process.

    Example:
        >>> list(in_processes(lambda number: number**2, range(4), n_jobs=2))
        [0, 1, 4, 9]
    """
    processes = process_count(len(items), n_jobs, least)
    if processes == 1:
        yield from map(function, items)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    context = get_context("fork")
    with ProcessPoolExecutor(processes, context, initializer=_hand_over, initargs=(function, items)) as pool:
        yield from pool.map(_done, range(len(items)), chunksize=chunk)


def process_count(items: int, n_jobs: int, least: int = 1) -> int:
    """How many processes so many items are worth."""
    wanted = (os.cpu_count() or 1) if n_jobs < 0 else n_jobs
    return max(1, min(wanted, items // least)) if sys.platform == "linux" else 1


def _hand_over(function: Callable[[Any], Any], items: Sequence[Any]) -> None:
    global _handed_over
    _handed_over = function, items


def _done(place: int) -> Any:
    function, items = _handed_over
    return function(items[place])
