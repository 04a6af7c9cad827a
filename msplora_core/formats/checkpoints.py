"""The adapters of one training: a single one, or a Trainer's checkpoints."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

from msplora_core.errors import AdapterFileError, FileError, MSPLoraError, UnsupportedAdapterError
from msplora_core.formats.other.model_folder import is_model_folder
from msplora_core.formats.recognising import read_adapter
from msplora_core.formats.trainer_state import TrainerState, read_trainer_state
from msplora_core.formats.weight_files import (
    CONFIG,
    OTHER_WEIGHTS,
    PEFT_WEIGHTS,
    checksums,
    is_copy,
    may_hold_adapter,
    weight_files,
)
from msplora_core.runs import RunDirectory
from msplora_core.storage.folder import first_present, inside
from msplora_core.storage.walk import walk

_WEIGHTS = (*PEFT_WEIGHTS, *OTHER_WEIGHTS)
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,9})")
_NEAR_WHOLE = 0.02
"""The Trainer counts an epoch that ends with incomplete gradient accumulation as, say, 0.997."""


class Checkpoint(NamedTuple):
    """One adapter of a training.

    Args:
        epoch: when it was saved; NaN if unknown.
        step: optimiser steps until then; None if unknown.
        path: its folder or file.
    """

    epoch: float
    step: int | None
    path: Path


@dataclass(frozen=True)
class AdapterRun:
    """The adapters of one training.

    Args:
        path: the folder or file.
        checkpoints: in the order of their steps; at least one.
        notes: remarks on the numbers, one sentence each.
        planned: number of epochs that were planned; NaN if unknown.
        finished: whether the training reached its end, as far as known.
    """

    path: Path
    checkpoints: tuple[Checkpoint, ...]
    notes: tuple[str, ...] = ()
    planned: float = math.nan
    finished: bool = True

    @property
    def last(self) -> Path:
        """The adapter at the end."""
        return self.checkpoints[-1].path


def recognise_run(path: Path, *, models: bool = False) -> Callable[[], AdapterRun] | None:
    """Recognise an adapter, or a folder of checkpoints, by the names of its files.

    Args:
        path: a file or folder.
        models: whether to recognise whole models, too; reading them needs their base.

    Returns:
        A function that opens it or raises an `AdapterFileError`; None if it is neither, or holds several adapters in
        files of their own.
    """
    if path.is_file():
        return (lambda: _single(path)) if may_hold_adapter(path) else None
    if not path.is_dir():
        return None
    checkpoints = _checkpoint_folders(path, models)
    if checkpoints:
        return lambda: _with_checkpoints(path, checkpoints)
    return (lambda: _single(path)) if _holds_adapter(path, models) and not _holds_several(path) else None


def recognise_saved(run: RunDirectory) -> Callable[[], AdapterRun] | None:
    """Recognise the final adapter of a run directory, or its checkpoints if there is none yet; as `recognise_run`."""
    if run.adapter_path.is_dir() and _holds_adapter(run.adapter_path, models=False):
        return lambda: _single(run.adapter_path)
    return recognise_run(run.checkpoints_path)


def find_runs(path: Path) -> list[Callable[[], AdapterRun]]:
    """Find the trainings at or below a path.

    In a run directory, the final adapter is found, or the checkpoints if there is none yet.

    Args:
        path: an adapter's folder or file, a folder of checkpoints, or a folder that contains such at any depth.

    Returns:
        For each a function that opens it, as from `recognise_run`.
    """
    return [opened for _, opened in walk(path, _adapters_of_run, skip=is_copy)]


def _adapters_of_run(path: Path) -> Callable[[], AdapterRun] | None:
    if not RunDirectory.is_run(path):
        return recognise_run(path)
    return recognise_saved(RunDirectory(path)) or (lambda: _without_adapter(path))


def _without_adapter(path: Path) -> AdapterRun:
    run = RunDirectory(path)
    if run.adapter_path.is_dir():
        raise UnsupportedAdapterError(
            f"{path}: expected a run that saved an adapter, found the model that {run.read_record().method} trained; "
            "svd shows what the run recorded"
        )
    raise AdapterFileError(path, expected="a run with adapter/ or checkpoints/", found="neither")


def _checkpoint_folders(path: Path, models: bool) -> list[tuple[int, str]]:
    """Step and name of each checkpoint that holds an adapter."""
    found = ((_CHECKPOINT.fullmatch(entry.name), entry) for entry in path.iterdir())
    return sorted((int(match[1]), entry.name) for match, entry in found if match and _holds_adapter(entry, models))


def _holds_adapter(path: Path, models: bool) -> bool:
    """Whether a folder is one adapter: it has PEFT's files, or a single file of weights with another known name."""
    if any(_present(path / name) for name in (CONFIG, *PEFT_WEIGHTS)) or (models and is_model_folder(path)):
        return True
    return any(_present(path / name) for name in OTHER_WEIGHTS) and len({one.stem for one in weight_files(path)}) == 1


def _present(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _holds_several(folder: Path) -> bool:
    """Whether several of a folder's files are adapters of their own."""
    files = weight_files(folder)
    own = (file for file in files if not is_copy(file) and _is_adapter(folder, file.name))
    return len(files) > 1 and len(list(islice(own, 2))) > 1


def _is_adapter(folder: Path, name: str) -> bool:
    with suppress(MSPLoraError):
        read_adapter(inside(folder, name))
        return True
    return False


def _single(path: Path) -> AdapterRun:
    state = read_trainer_state(path) if path.is_dir() else TrainerState()
    is_checkpoint = _CHECKPOINT.fullmatch(path.name) is not None
    return AdapterRun(path, (_checkpoint(path, state),), (), state.planned, state.ended or not is_checkpoint)


def _with_checkpoints(path: Path, checkpoints: list[tuple[int, str]]) -> AdapterRun:
    folders = {name: inside(path, name) for _, name in checkpoints}
    states = list(map(read_trainer_state, folders.values()))
    found, state = list(map(_checkpoint, folders.values(), states)), states[-1]
    own, notes = _sums(path), list[str]()
    if own is None and any(_present(path / name) for name in _WEIGHTS):
        notes.append("The adapter beside the checkpoints cannot be read; the last of them is the end of the training.")
    elif own is not None and own != _sums(found[-1].path):
        end = _checkpoint(path, read_trainer_state(path))
        later = (end.step or 0) > (found[-1].step or 0)
        found = [*found, end] if later else [*found[:-1], found[-1]._replace(path=path)]
        is_best = state.best in folders and own == _sums(folders[state.best])
        where = "saved after" if later else "the best of them, and takes the place of" if is_best else "other than"
        notes.append(f"The end of the training is the adapter beside its checkpoints, {where} the last of them.")
    found, more = _timed(path, found)
    return AdapterRun(path, tuple(found), (*notes, *more), state.planned, state.ended or own is not None)


def _sums(folder: Path) -> Counter[tuple[int, int]] | None:
    """The checksums of an adapter's weights; None if there are none, or they cannot be read."""
    with suppress(FileError):
        weights = first_present(folder, *_WEIGHTS)
        return None if weights is None else checksums(weights)
    return None


def _timed(path: Path, found: list[Checkpoint]) -> tuple[list[Checkpoint], list[str]]:
    """Checkpoints with their epochs if all are known and ascend, whole ones if each ends one; with notes."""
    epochs = [one.epoch for one in found]
    if any(later <= earlier for earlier, later in pairwise(epochs)):
        note = f"{path.name}: the epochs in its trainer_state.json files do not ascend; its steps are used."
        return [one._replace(epoch=math.nan) for one in found], [note]
    if any(map(math.isnan, epochs)):  # some epochs are unknown: use steps for all
        return [one._replace(epoch=math.nan) for one in found], []
    whole = [float(round(epoch)) for epoch in epochs]
    near = all(abs(epoch - number) < _NEAR_WHOLE for epoch, number in zip(epochs, whole, strict=True))
    if near and len(set(whole)) == len(whole):
        return [one._replace(epoch=number) for one, number in zip(found, whole, strict=True)], []
    return found, []


def _checkpoint(path: Path, state: TrainerState) -> Checkpoint:
    """An adapter with its epoch and step, from the state beside it or the folder's name."""
    named = _CHECKPOINT.fullmatch(path.name)
    return Checkpoint(state.epoch, int(named[1]) if named else state.step, path)
