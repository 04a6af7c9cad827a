"""Several processes of one run, started by `torchrun` or `accelerate launch`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from msplora_core.errors import TrainingError


def is_main_process() -> bool:
    """Return whether this process writes files and messages: the first or only one of a run.

    Read from the launcher's environment, without loading torch.
    """
    return int(os.environ.get("RANK", "0")) == 0


def started_processes() -> int:
    """Return the number of processes that the launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def wait_for_all() -> None:
    """Wait until every process of the run has reached this point."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def is_lost_connection(error: RuntimeError) -> bool:
    """Return whether an error says that another process has ended; each backend words it differently."""
    text = str(error).lower()
    return any(sign in text for sign in ("connection closed by peer", "connection reset", "broken pipe", "nccl"))


def ended_early(path: Path) -> TrainingError:
    """Return the error of a run that was terminated from outside.

    When a process of a run dies, the launcher terminates the others, so each may first see the lost connection or the
    signal. The message is the same.
    """
    several = ", or because another process of the run ended" if started_processes() > 1 else ""
    return TrainingError(
        f"{path}: ended by a signal to terminate{several}; its records are kept, and --resume continues from there"
    )


class _Terminated(BaseException):
    """The signal has arrived. No `Exception`: those are caught by libraries, which would train on or raise another."""


@contextmanager
def told_when_terminated(path: Path) -> Iterator[None]:
    """Turn SIGTERM, which schedulers and launchers send, into an error with a message on the run.

    After an error, further signals are ignored, so that the process can print its message.

    Args:
        path: the run directory.

    Raises:
        TrainingError: when the signal arrives.
    """

    def stop(_: int, __: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BaseException as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if isinstance(error, _Terminated):
            raise ended_early(path) from None
        raise
    signal.signal(signal.SIGTERM, before)
