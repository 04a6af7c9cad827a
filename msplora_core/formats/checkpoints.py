"""A training that left adapters behind: one adapter, or a Trainer's checkpoints, epoch by epoch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from msplora_core.errors import FileError
from msplora_core.formats.other.model_folder import is_model_folder
from msplora_core.formats.recognising import CONFIG, OTHER_WEIGHTS, PEFT_WEIGHTS
from msplora_core.runs import RunDirectory
from msplora_core.runs.snapshot import LAST_EPOCH
from msplora_core.storage.folder import inside
from msplora_core.storage.json_file import read_json_object
from msplora_core.storage.torch_file import TORCH_SUFFIXES

_CHECKPOINT = re.compile(r"checkpoint-(\d{1,9})")
_NO_ADAPTER = re.compile(
    r"(optimizer|scheduler|scaler|training_args|rng_state(_\d+)?|random_states_\d+|pytorch_model.*|model.*|"
    r"diffusion_pytorch_model.*|embeddings?)\.[a-z]+"
)
_SEED = re.compile(r"(?:^|[-_./])(?:seed|s)[-_=]?(\d{1,9})(?=$|[-_./])", re.IGNORECASE)
_TASKS = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst-2", "sst2", "sts-b", "stsb", "wnli", "boolq", "cb", "copa",
          "multirc", "record", "wic", "wsc", "squad", "xsum", "e2e", "dart", "webnlg", "gsm8k", "math", "hellaswag",
          "winogrande", "piqa", "siqa", "arc-e", "arc-c", "obqa", "alpaca", "samsum")  # fmt: skip
_TASK = re.compile(rf"(?:^|[-_./])(?:task[-_=]([^-_./]+)|({'|'.join(_TASKS)}))(?=$|[-_./])", re.IGNORECASE)


class Checkpoint(NamedTuple):
    """One adapter of a training.

    Args:
        epoch: when it was saved.
        step: optimiser steps until then; None if unknown.
        path: its folder or file.
    """

    epoch: int
    step: int | None
    path: Path


@dataclass(frozen=True)
class AdapterRun:
    """One training, as its adapters tell it.

    Args:
        path: the folder or file.
        checkpoints: ascending. A single adapter is epoch 1.
        task: as the names of the folders say; empty if they do not.
        seed: likewise; None if they do not.
        notes: sentences that a reader of the numbers should know.
    """

    path: Path
    checkpoints: tuple[Checkpoint, ...]
    task: str
    seed: int | None
    notes: tuple[str, ...] = ()


def recognise_run(path: Path, *, models: bool = False) -> Callable[[], AdapterRun] | None:
    """Whether a path looks like an adapter, or like a folder of checkpoints; only names are looked at.

    Args:
        path: a file or folder.
        models: whether whole models count, too, since their base is known.

    Returns:
        What opens it, and may raise an `AdapterFileError`; None if it is neither.
    """
    if path.is_file():
        weights = path.suffix in (".safetensors", *TORCH_SUFFIXES) and not _NO_ADAPTER.fullmatch(path.name)
        return (lambda: _single(path)) if weights else None
    if not path.is_dir():
        return None
    checkpoints = _checkpoint_folders(path, models)
    if checkpoints:
        return lambda: _with_checkpoints(path, checkpoints)
    return (lambda: _single(path)) if _holds_adapter(path, models) else None


def task_and_seed(path: Path) -> tuple[str, int | None]:
    """What the name of a file or folder, or else those of the folders around it, say of task and seed.

    Example:
        >>> task_and_seed(Path("study/mrpc/lora-r8-seed-3")), task_and_seed(Path("roberta-base-MNLI"))
        (('mrpc', 3), ('mnli', None))
    """
    parts = path.resolve().parts[-3:]
    tasks = [match for part in parts for match in _TASK.finditer(part)]
    seeds = [match for part in parts for match in _SEED.finditer(part)]
    task = (tasks[-1][1] or tasks[-1][2]).lower() if tasks else ""
    return task, int(seeds[-1][1]) if seeds else None


def find_runs(path: Path) -> list[Callable[[], AdapterRun]]:
    """The trainings at or below a path, by name; links are followed where they lead straight to one.

    Of a run directory it is the adapter that was saved at the end, or the checkpoints if it has not come to that.

    Args:
        path: an adapter's folder or file, a folder of checkpoints, or a folder with such at any depth.

    Returns:
        What opens each of them, as `recognise_run` gives it.
    """
    opened = recognise_run(path)
    if opened is not None:
        return [opened]
    if not path.is_dir():
        return []
    if RunDirectory.is_run(path):
        run = RunDirectory(path)
        return find_runs(run.adapter_path) or find_runs(run.checkpoints_path)
    found = []
    for entry in sorted(path.iterdir()):
        if entry.name.startswith("."):
            continue
        if not entry.is_symlink():
            found += find_runs(entry)
        elif (opened := recognise_run(entry)) is not None:
            found.append(within(path, entry, opened))
    return found


Opened = TypeVar("Opened")


def within(folder: Path, link: Path, opened: Callable[[], Opened]) -> Callable[[], Opened]:
    """What opens a source that a link leads to, if that does not lead out of the folder: else it raises.

    Example:
        >>> within(Path("."), Path("adapter.safetensors"), lambda: "opened")()
        'opened'
    """

    def checked() -> Opened:
        inside(folder, str(link.relative_to(folder)))
        return opened()

    return checked


def _single(path: Path) -> AdapterRun:
    return AdapterRun(path, (Checkpoint(1, None, path),), *task_and_seed(path))


def _checkpoint_folders(path: Path, models: bool) -> list[tuple[int, str]]:
    """Step and name of each checkpoint that holds an adapter."""
    found = ((_CHECKPOINT.fullmatch(entry.name), entry) for entry in path.iterdir())
    return sorted((int(match[1]), entry.name) for match, entry in found if match and _holds_adapter(entry, models))


def _holds_adapter(path: Path, models: bool) -> bool:
    names = (CONFIG, *PEFT_WEIGHTS, *OTHER_WEIGHTS)
    return any((path / name).exists() or (path / name).is_symlink() for name in names) or (
        models and is_model_folder(path)
    )


def _with_checkpoints(path: Path, checkpoints: list[tuple[int, str]]) -> AdapterRun:
    folders = [inside(path, name) for _, name in checkpoints]
    steps = [step for step, _ in checkpoints]
    epochs = [_epoch(folder) for folder in folders]
    known = [round(epoch) for epoch in epochs if epoch is not None and abs(epoch - round(epoch)) < 0.02]
    if len(set(known)) == len(folders):  # saved once an epoch
        found = sorted(map(Checkpoint, known, steps, folders))
        return AdapterRun(path, tuple(found), *task_and_seed(path))
    shown = ", ".join(map(str, steps[:3])) + (f", ..., {steps[-1]}" if len(steps) > 3 else "")
    note = f"{path.name}: not saved once an epoch; its {len(steps)} checkpoints are numbered, at steps {shown}."
    return AdapterRun(
        path, tuple(map(Checkpoint, range(1, len(steps) + 1), steps, folders)), *task_and_seed(path), (note,)
    )


def _epoch(folder: Path) -> float | None:
    """The epoch that a checkpoint's trainer_state.json states; None where it does not."""
    state = folder / "trainer_state.json"
    if not state.exists():
        return None
    try:
        epoch = read_json_object(inside(folder, state.name)).get("epoch")
    except FileError:  # damaged: its step is known from its name
        return None
    return float(epoch) if isinstance(epoch, int | float) and 0 <= epoch <= LAST_EPOCH else None
