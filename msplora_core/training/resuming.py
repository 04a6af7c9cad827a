"""Resume a run from its last complete checkpoint, without the records after it."""

from __future__ import annotations

import errno
import json
import math
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from msplora_core.errors import FileError, RunDirectoryError
from msplora_core.runs import RunDirectory, read_snapshot
from msplora_core.storage.atomic import write_atomically
from msplora_core.training.processes import wait_for_all

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from msplora_core.training.attaching.attachment import Attachment

_MARK = "complete"
_FULL = 2**20
"""Bytes free on a disk that is taken to be full."""


class MarkCheckpoints(TrainerCallback):
    """Mark each checkpoint as complete once every process has written its part."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        wait_for_all()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _MARK).touch()


class NewSchedule(TrainerCallback):
    """Begin a resumed training at the learning rate of its own schedule, not at that of the checkpoint's.

    They differ if the training now has more epochs.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, lr_scheduler: Any = None, **_: Any
    ) -> None:
        if state.global_step:
            lr_scheduler.last_epoch -= 1
            lr_scheduler.step()


class SaveTrained(TrainerCallback):
    """Save the trained weights when training ends."""

    def __init__(self, run: RunDirectory, attachment: Attachment) -> None:
        self.run, self.attachment = run, attachment

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self.attachment.save(model, self.run.adapter_path)


def full_disk(run: RunDirectory, error: Exception) -> RunDirectoryError | None:
    """Return the error to raise if training failed because the disk is full; the writer of checkpoints does not say so.

    Args:
        run: the run.
        error: what ended the training.
    """
    free = shutil.disk_usage(run.path).free
    if getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT) and free > _FULL:
        return None
    found = f"{free // 1000:,} kB free ({error or type(error).__name__})"
    hint = "make room, then resume: finished epochs are kept"
    return RunDirectoryError(run.path, expected="room on the disk for a checkpoint", found=found, hint=hint)


def last_checkpoint(run: RunDirectory) -> Path | None:
    """Return the latest complete checkpoint of a run, or None."""
    complete = [mark.parent for mark in run.checkpoints_path.glob(f"checkpoint-*/{_MARK}")]
    return max(complete, key=_step, default=None)


def keep_checkpoint(run: RunDirectory, kept: Path | None) -> None:
    """Delete all checkpoints of a run but one, or all where None."""
    for other in run.checkpoints_path.glob("checkpoint-*"):
        if other != kept:
            shutil.rmtree(other)


def rewind(run: RunDirectory, checkpoint: Path | None) -> None:
    """Delete what a run wrote after a checkpoint.

    Args:
        run: the run directory.
        checkpoint: the last complete one; None to delete everything.
    """
    step = _step(checkpoint) if checkpoint else -1
    for other in run.checkpoints_path.glob("checkpoint-*"):
        if _step(other) > step:
            shutil.rmtree(other)
    forget_after(run, step)


def forget_after(run: RunDirectory, step: int) -> None:
    """Delete the snapshots and metrics after a step; -1 for all."""
    for path in run.snapshot_paths():
        with suppress(FileError):  # keep a damaged one; it is replaced if its epoch is trained again
            if step < 0 or read_snapshot(path).step > step:
                path.unlink()
    if run.metrics_path.is_file():  # always rewritten, without a last line that was cut short
        kept = [event for event in run.read_metrics() if event.get("step", 0) <= step] if step >= 0 else []
        write_atomically(run.metrics_path, "".join(json.dumps(event) + "\n" for event in kept).encode())


def earlier_records(run: RunDirectory) -> str:
    """Return what a folder holds of an earlier training, in words; empty if nothing.

    An unfinished run.json alone, and evaluations before the first step, do not count.
    """
    if there := run.snapshot_paths():
        return f"{len(there)} snapshots"
    if any(event.get("step") for event in run.read_metrics([])):
        return run.metrics_path.name
    return "a finished run.json" if run.record_path.is_file() and run.read_record().finished else ""


def continue_at(run: RunDirectory, step: int, epoch: float) -> None:
    """Prepare a run directory for a training that is resumed at a step.

    Records after the step are deleted. If the training had ended within an epoch, the snapshot of that epoch becomes
    a snapshot within it.

    Args:
        run: the run directory.
        step: optimiser steps done.
        epoch: epochs done.
    """
    forget_after(run, step)
    ended = run.snapshot_path(math.ceil(epoch))
    if not float(epoch).is_integer() and ended.is_file():
        run.write_snapshot(replace(read_snapshot(ended), epoch=epoch))
        ended.unlink()


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))
