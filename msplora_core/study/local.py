"""The launcher for this machine: several workers at a time, each with its share of the cores."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING, Any

from msplora_core.errors import FileError
from msplora_core.study.entries import Failure, log_path, look, note_failure
from msplora_core.study.launcher import Event, Watch
from msplora_core.study.worker import to_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from msplora_core.training.run_config import RunConfig

_COMMAND = (sys.executable, "-m", "msplora_core.study.worker")
_MOST_JOBS = 4  # by default, since each holds a model
_PATIENCE = 10.0  # seconds until a worker is killed


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_jobs() -> int:
    """Return the default number of runs at a time: one a core, at most 4 (see the benchmark `jobs`); one with a GPU."""
    import torch

    return 1 if torch.cuda.is_available() else min(cores(), _MOST_JOBS)


class LocalLauncher:
    """Trains runs in processes of this machine, which end with it at SIGTERM and SIGINT.

    Args:
        jobs: runs at a time; by default `default_jobs()`.
    """

    def __init__(self, jobs: int | None = None) -> None:
        self.jobs = jobs

    def __call__(self, configs: Sequence[RunConfig], watch: Watch) -> None:
        """Train the runs.

        Raises:
            KeyboardInterrupt: after a signal, when the workers have ended.
        """
        if configs:
            _run(_train_all(configs, self.jobs or default_jobs(), watch))


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end; in another thread if this one has a running event loop, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    with closing(asyncio.new_event_loop()) as loop, ThreadPoolExecutor(1) as thread:
        task = loop.create_task(work)
        end = thread.submit(loop.run_until_complete, task)
        try:
            end.result()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(task.cancel)
            end.result()


async def _train_all(configs: Sequence[RunConfig], jobs: int, watch: Watch) -> None:
    jobs = min(jobs, len(configs))
    queue = _open(configs, watch)
    me = asyncio.current_task()
    assert me is not None
    if threading.current_thread() is threading.main_thread():  # other threads cannot have signal handlers
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(jobs):
                group.create_task(_work(queue, max(1, cores() // jobs), watch))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _work(queue: Iterator[RunConfig], threads: int, watch: Watch) -> None:
    """Train runs with one worker, replaced when it is killed."""
    for config in queue:
        async with _worker(config, threads) as worker:
            alive = await _follow(worker, config, watch)
            while alive and (following := next(queue, None)) is not None:
                alive = await _follow(worker, following, watch)


def _open(configs: Sequence[RunConfig], watch: Watch) -> Iterator[RunConfig]:
    """Yield the runs that are neither done nor trained by another process when their turn comes."""
    for config in configs:
        if look(config).state in ("done", "running"):
            watch(Event(config, "taken"))
        else:
            yield config


@asynccontextmanager
async def _worker(first: RunConfig, threads: int) -> AsyncIterator[Process]:
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    folder = log_path(first).parent
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "workers.log").open("ab") as log:
        worker = await asyncio.create_subprocess_exec(
            *_COMMAND, stdin=PIPE, stdout=PIPE, stderr=log, env=os.environ | counts, start_new_session=True
        )
    try:
        yield worker
    finally:
        assert worker.stdin is not None
        worker.stdin.close()
        try:
            async with asyncio.timeout(_PATIENCE):
                await worker.wait()
        except TimeoutError:
            worker.kill()
            await worker.wait()


async def _follow(worker: Process, config: RunConfig, watch: Watch) -> bool:
    """Let a worker train a run and pass on its events. Return whether the worker is still alive."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    watch(Event(config, "started"))
    with suppress(ConnectionError):  # the worker has died; its output ends, too
        worker.stdin.write(to_line(config).encode())
        await worker.stdin.drain()
    async for line in worker.stdout:
        event = Event(config, **json.loads(line))
        watch(event)
        if event.kind in ("finished", "failed", "taken"):
            return True
    code = await worker.wait()
    error = f"its process {_ended(code)}; see {log_path(config)} and workers.log beside it"
    with suppress(FileError):
        note_failure(config, Failure(error))
    watch(Event(config, "failed", error=error))
    return False


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by {signal.Signals(-code).name}"
