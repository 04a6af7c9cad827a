"""What launchers have in common: they train runs and tell of each how it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from msplora_core.training.run_config import RunConfig


@dataclass(frozen=True)
class Event:
    """What happened to a run.

    Args:
        config: the run.
        kind: `started`, `step`, `epoch`, `finished`, `failed`, or `taken`: another process trains it, or has done so
            meanwhile.
        step: optimiser steps so far.
        steps: of the whole run.
        epoch: that was evaluated.
        metric: of the task.
        score: of the epoch; None where it is not defined.
        error: why it failed.
    """

    config: RunConfig
    kind: Literal["started", "step", "epoch", "finished", "failed", "taken"]
    step: int = 0
    steps: int = 0
    epoch: int = 0
    metric: str = ""
    score: float | None = None
    error: str = ""


Watch = Callable[[Event], object]
"""Receives events while a launcher works."""

Launcher = Callable[[Sequence[RunConfig], Watch], None]
"""Trains runs in any order, tells how they go, and returns when none is left. A run that fails does not stop it."""
