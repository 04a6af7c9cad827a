"""Checkpoints that are whole: which one to resume from after a kill at any moment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from msplora_core.runs import RunDirectory
from msplora_core.storage.atomic import write_atomically
from msplora_core.training.processes import wait_for_all

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

_MARK = "complete"


class MarkCheckpoints(TrainerCallback):
    """Marks each checkpoint once every process has written its part of it."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        wait_for_all()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _MARK).touch()


class SaveAdapter(TrainerCallback):
    """Saves the adapter in PEFT's format when training ends."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            model.save_pretrained(self.run.adapter_path)


def last_checkpoint(run: RunDirectory) -> Path | None:
    """The latest complete checkpoint of a run; None where there is none."""
    complete = [mark.parent for mark in run.checkpoints_path.glob(f"checkpoint-*/{_MARK}")]
    return max(complete, key=_step, default=None)


def rewind(run: RunDirectory, checkpoint: Path | None) -> None:
    """Take back what a run recorded after a checkpoint, so that going on from there records it anew.

    Args:
        run: the run directory.
        checkpoint: the last complete one; None to take back everything.
    """
    step = _step(checkpoint) if checkpoint else -1
    for other in run.checkpoints_path.glob("checkpoint-*"):
        if _step(other) > step:
            shutil.rmtree(other)
    epoch = _epochs(checkpoint) if checkpoint else -1
    for path in run.snapshot_paths():
        if int(path.stem.removeprefix("epoch-")) > epoch:
            path.unlink()
    kept = [event for event in run.read_metrics() if event.get("step", 0) <= step]
    write_atomically(run.metrics_path, "".join(json.dumps(event) + "\n" for event in kept).encode())


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _epochs(checkpoint: Path) -> int:
    return round(float(json.loads((checkpoint / "trainer_state.json").read_bytes())["epoch"]))
