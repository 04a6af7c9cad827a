"""Several processes of one run, as `torchrun` and `accelerate launch` start them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from msplora_core.errors import TrainingError


def is_main_process() -> bool:
    """Return whether this process writes files and messages: the first of a run's, or the only one.

    The launcher's environment says it, so torch need not be loaded.
    """
    return int(os.environ.get("RANK", "0")) == 0


def started_processes() -> int:
    """Return how many processes the launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def wait_for_all() -> None:
    """Wait until every process of the run is here."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def is_lost_connection(error: RuntimeError) -> bool:
    """Return whether an error says that another process is gone; each backend has its own words for it."""
    text = str(error).lower()
    return any(sign in text for sign in ("connection closed by peer", "connection reset", "broken pipe", "nccl"))


def ended_early(path: Path) -> TrainingError:
    """Return the error of a run that was ended from outside.

    When a process of a run dies, the launcher terminates the others, so each may see the lost connection or the
    signal first. One message serves both.
    """
    several = ", or because another process of the run ended" if started_processes() > 1 else ""
    return TrainingError(
        f"{path}: ended by a signal to terminate{several}; what was recorded stays, and --resume continues from there"
    )


@contextmanager
def told_when_terminated(path: Path) -> Iterator[None]:
    """Turn SIGTERM, as schedulers and launchers send it, into an error that says what becomes of the run.

    Once an error is on its way, further signals are ignored: the process ends by itself, after the message.

    Args:
        path: the run directory.

    Raises:
        TrainingError: where the signal arrives.
    """

    def stop(_: int, __: FrameType | None) -> None:
        raise ended_early(path)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BaseException:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    signal.signal(signal.SIGTERM, before)
