"""The interface of launchers, which train runs and report events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from msplora_core.training.run_config import RunConfig


@dataclass(frozen=True)
class Event:
    """An event of a run.

    Args:
        config: the run.
        kind: `started`, `step`, `epoch`, `finished`, `failed`, or `taken`: another process trains it, or has done so
            meanwhile.
        step: optimiser steps so far.
        steps: of the whole run.
        epoch: the evaluated epoch.
        loss: mean training loss of the epoch; None if unknown.
        metric: of the task.
        score: of the epoch; None if it is undefined.
        error: why it failed.
    """

    config: RunConfig
    kind: Literal["started", "step", "epoch", "finished", "failed", "taken"]
    step: int = 0
    steps: int = 0
    epoch: int = 0
    loss: float | None = None
    metric: str = ""
    score: float | None = None
    error: str = ""


Watch = Callable[[Event], object]
"""Receives events while a launcher works."""

Launcher = Callable[[Sequence[RunConfig], Watch], None]
"""Trains runs in any order, reports events, and returns when all have ended. A failed run does not stop the others."""
