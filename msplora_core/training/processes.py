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
    """Whether this process writes and speaks: the first of a run's, or the only one.

    Known before torch is loaded, by what the launcher sets.
    """
    return int(os.environ.get("RANK", "0")) == 0


def started_processes() -> int:
    """How many processes the launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def wait_for_all() -> None:
    """Let every process of the run arrive here."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether an error says that another process is gone, which each backend words in its own way."""
    text = str(error).lower()
    return any(sign in text for sign in ("connection closed by peer", "connection reset", "broken pipe", "nccl"))


@contextmanager
def told_when_terminated(path: Path) -> Iterator[None]:
    """Turn SIGTERM, as schedulers and launchers send it, into an error that says what becomes of the run.

    Args:
        path: the run directory.

    Raises:
        TrainingError: where the signal strikes.
    """

    def stop(_: int, __: FrameType | None) -> None:
        raise TrainingError(
            f"{path}: ended by a signal to terminate; what was recorded stays, and --resume goes on from there"
        )

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
