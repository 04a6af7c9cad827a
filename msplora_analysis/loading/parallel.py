"""Distribute work over processes, since threads would wait for Python's global lock."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from msplora_core.errors import MSPLoraError, ParameterError

if TYPE_CHECKING:
    from concurrent.futures import Executor

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_BEHIND = 4
"""Processes that work while this one makes the items: it could not keep more of them busy."""
_SIGNAL_OF_PARENTS_END = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
_handed_over: tuple[Callable[[Any], Any], Sequence[Any]]


def in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], n_jobs: int, *, chunk: int = 1, least: int = 1
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, computed by several processes if that is faster.

    Processes are forked, so items need not be picklable; results must be. They start when this function is called, and
    compute while the caller does something else.

    Args:
        function: of one item.
        items: all items.
        n_jobs: number of processes, as in scikit-learn: -1 for one a core that this process may use, -2 for one less.
        chunk: number of items that a process takes at a time.
        least: number of items per process for which another process is worth its start.

    Example:
        >>> list(in_processes(lambda number: number**2, range(4), n_jobs=2))
        [0, 1, 4, 9]
    """
    processes = process_count(len(items), n_jobs, least)
    if processes == 1:
        return map(function, items)
    with _a_killed_process_told():
        pool = _started(processes, _hand_over, function, items)
        return _until_done(pool, pool.map(_done, range(len(items)), chunksize=chunk))


def while_made(function: Callable[[Item], Result], items: Iterable[Item], n_jobs: int) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, computed by other processes while further items are made.

    Unlike those of `in_processes`, items are pickled, and so is the function.

    Args:
        function: of one item.
        items: made one after the other.
        n_jobs: number of processes, as for `in_processes`.

    Example:
        >>> list(while_made(abs, range(-3, 0), n_jobs=2))
        [3, 2, 1]
    """
    processes = process_count(_MOST_BEHIND, n_jobs)
    if processes == 1:
        yield from map(function, items)
        return
    with _a_killed_process_told(), _started(processes, _begin) as pool:
        yield from pool.map(function, items)


def beside(other: Callable[[], object], function: Callable[[], Result]) -> Result:
    """Return `function()`, computed by another process while this one calls `other()`, if there are two cores.

    The process is forked, so `function` need not be picklable; its result must be. Its warnings are issued here.

    Args:
        other: for example imports; with one core it is called first.
        function: the work.

    Example:
        >>> beside(lambda: print("meanwhile"), lambda: 6 * 7)
        meanwhile
        42
    """
    if process_count(2, -1) == 1:
        other()
        return function()
    with _a_killed_process_told(), _started(1, _hand_over, _recorded, [function]) as pool:
        found = pool.submit(_done, 0)
        other()
        result: Result
        result, caught = found.result()
    for warning in caught:
        warnings.warn_explicit(*warning)
    return result


def _recorded(function: Callable[[], Result]) -> tuple[Result, list[tuple[Warning | str, type[Warning], str, int]]]:
    with warnings.catch_warnings(record=True) as caught:
        return function(), [(one.message, one.category, one.filename, one.lineno) for one in caught]


def process_count(items: int, n_jobs: int, least: int = 1) -> int:
    """Return the number of processes to start for a number of items.

    One if forking is unsafe: on systems other than Linux, and after torch was imported, since its threads do not
    survive a fork.

    Raises:
        ParameterError: if `n_jobs` is 0.
    """
    if n_jobs == 0:
        raise ParameterError("n_jobs", expected="at least 1, or from -1 down", found=n_jobs)
    if sys.platform != "linux" or "torch" in sys.modules:
        return 1
    wanted = max(1, len(os.sched_getaffinity(0)) + 1 + n_jobs) if n_jobs < 0 else n_jobs
    return max(1, min(wanted, items // least))


def _started(processes: int, begin: Callable[..., None], *arguments: Any) -> Executor:
    """Return a pool whose processes have been forked; each calls `begin(*arguments)` first."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(processes, get_context("fork"), initializer=begin, initargs=arguments)
    # Python drops signals that reach a process between its fork and its first line: held back until it has begun
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        pool.submit(int)  # the first task starts all processes
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    return pool


@contextmanager
def _a_killed_process_told() -> Iterator[None]:
    """Raise an `MSPLoraError` where one of the processes ended before its work."""
    from concurrent.futures.process import BrokenProcessPool

    try:
        yield
    except BrokenProcessPool:
        raise MSPLoraError(
            "a process of this work was killed, probably for lack of memory: free some, or work in one process, by "
            "n_jobs=1 in Python, and on the command line by `taskset -c 0` before the command"
        ) from None


def _begin() -> None:
    """Let this process end with the one that forked it: at Ctrl-C without a word, and if that one is killed."""
    import gc
    from ctypes import CDLL

    gc.freeze()  # what the other has made lives on here: scanning it would only copy its memory
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as in a shell's background, where Ctrl-C is for others
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    CDLL(None).prctl(_SIGNAL_OF_PARENTS_END, signal.SIGKILL)


def _hand_over(function: Callable[[Any], Any], items: Sequence[Any]) -> None:
    global _handed_over
    _begin()
    _handed_over = function, items


def _until_done(pool: Executor, results: Iterator[Result]) -> Iterator[Result]:
    with _a_killed_process_told(), pool:
        yield from results


def _done(place: int) -> Any:
    function, items = _handed_over
    return function(items[place])
