"""Wall-clock time and memory of new processes, as reported by the operating system."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import active_children, get_context
from typing import Any, NamedTuple

import pyperf

from benchmarks.timing import Bench, median


class Cost(NamedTuple):
    """The cost of a process: seconds, and peak resident memory in MB (10⁶ bytes)."""

    seconds: float
    megabytes: float


def costs(bench: Bench, commands: Mapping[str, Sequence[str]], *, code: int = 0, rounds: int = 5) -> dict[str, Cost]:
    """Return the median cost of each command in new processes, run in turns; the first run of each does not count.

    A process inherits its parent's peak memory, so this process must stay small: it does not import numpy.

    Args:
        bench: whether to run once only.
        commands: the commands, by name.
        code: their expected exit code.
        rounds: how often to run each.
    """
    rounds = 1 if bench.quick else rounds
    found: dict[str, list[Cost]] = {name: [] for name in commands}
    for place in range(rounds + 1):
        for name in list(commands)[:: -1 if place % 2 else 1]:
            cost = _run(commands[name], code)
            if place or bench.quick:
                found[name].append(cost)
    return {name: Cost(*(median(list(each)) for each in zip(*runs, strict=True))) for name, runs in found.items()}


def _run(command: Sequence[str], code: int) -> Cost:
    start = pyperf.perf_counter()
    none = subprocess.DEVNULL
    process = subprocess.Popen(command, env=_compiled(), stdin=none, stdout=none, stderr=none)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = pyperf.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != code:
        raise RuntimeError(f"exit code {process.returncode} instead of {code}: {' '.join(command)}")
    return Cost(seconds, usage.ru_maxrss * 1024 / 1e6)


def _compiled() -> dict[str, str]:
    """The environment, in which the first run of a process keeps what Python compiles, as an installation has it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def apart(function: str, *arguments: Any) -> Any:
    """Call a function in a new process, so that its memory and threads end with it.

    Args:
        function: `module:function` in this package; by name, so that its imports happen only in the new process.
        *arguments: its arguments.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_call, function, arguments).result()
        except KeyboardInterrupt:
            for child in active_children():  # else the pool would wait until the measurement ends
                child.terminate()
            raise


def _call(function: str, arguments: tuple[Any, ...]) -> Any:
    return named(function)(*arguments)


def named(function: str) -> Callable[..., Any]:
    """Return the function of this package with the name `module:function`."""
    module, name = function.split(":")
    found: Callable[..., Any] = getattr(import_module(f"benchmarks.{module}"), name)
    return found
