"""Several processes of one run, as `torchrun` and `accelerate launch` start them."""

from __future__ import annotations

import os


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
