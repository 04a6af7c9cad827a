"""`trainer_state.json`, which the Trainer of transformers saves with each checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from msplora_core.errors import FileError
from msplora_core.runs.snapshot import LAST_EPOCH, LAST_STEP
from msplora_core.storage.folder import inside
from msplora_core.storage.json_file import read_json_object

_NAME = "trainer_state.json"


class TrainerState(NamedTuple):
    """The state of a training when a checkpoint was saved.

    Args:
        epoch: NaN if unknown.
        step: optimiser steps so far; None if unknown.
        planned: number of epochs that were planned; NaN if unknown.
        ended: whether the training ended here, as planned or stopped early; also if no plan is known.
        best: name of the folder of the best checkpoint so far; empty if unknown.
    """

    epoch: float = math.nan
    step: int | None = None
    planned: float = math.nan
    ended: bool = True
    best: str = ""


def read_trainer_state(folder: Path) -> TrainerState:
    """Read the state in a folder; one that is missing or damaged tells nothing.

    Raises:
        FileError: if the file leads out of the folder.

    Example:
        >>> import json, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> state = {"epoch": 2.0, "global_step": 20, "max_steps": 100}
        >>> _ = (folder / "trainer_state.json").write_text(json.dumps(state))
        >>> read_trainer_state(folder)
        TrainerState(epoch=2.0, step=20, planned=10.0, ended=False, best='')
    """
    if not (folder / _NAME).exists():
        return TrainerState()
    path = inside(folder, _NAME)
    try:
        content = read_json_object(path)
    except FileError:
        return TrainerState()
    epoch, step, last = content.get("epoch"), content.get("global_step"), content.get("max_steps")
    epoch = float(epoch) if isinstance(epoch, int | float) and 0 <= epoch <= LAST_EPOCH else math.nan
    step = step if isinstance(step, int) and 0 <= step <= LAST_STEP else None
    best = content.get("best_model_checkpoint")
    name = Path(best).name if isinstance(best, str) else ""
    if not step or not isinstance(last, int) or not 0 < last <= LAST_STEP:
        return TrainerState(epoch, step, best=name)
    return TrainerState(epoch, step, epoch * last / step, step >= last or _stopped(content), name)


def _stopped(content: Any) -> bool:
    """Whether the training was told to stop, as by early stopping."""
    for name in ("stateful_callbacks", "TrainerControl", "args", "should_training_stop"):
        content = content.get(name) if isinstance(content, Mapping) else None
    return content is True
