"""The examples of a task, from files, the hub or the grammar."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from msplora_core.training.data.examples import Examples
from msplora_core.training.data.glue import read_hub, read_split
from msplora_core.training.data.grammar import generate
from msplora_core.training.data.instructions import Instructions, split_instructions
from msplora_core.training.tasks import Task


class TaskData(NamedTuple):
    """The examples for training and for evaluation."""

    train: Examples | Instructions
    dev: Examples | Instructions


def read_task(task: Task, data_dir: Path | str | None = None) -> TaskData:
    """Return the training and the development examples of a task.

    Args:
        task: which task.
        data_dir: the folder with the official layout, `STS-B/train.tsv`, or with the file of instructions; by default
            the Hugging Face hub, or the current folder for instructions.

    Raises:
        DataFileError: if a file is missing or malformed, or the hub does not answer.
    """
    if task.generated:
        return TaskData(generate(task.name, "train"), generate(task.name, "dev"))
    if task.instructions:
        return TaskData(*split_instructions(_file(task, data_dir)))
    if data_dir is None:
        return TaskData(read_hub(task, "train"), read_hub(task, "validation"))
    folder = Path(data_dir) / task.folder
    return TaskData(read_split(folder / "train.tsv", task), read_split(folder / "dev.tsv", task))


def data_digest(task: Task, data_dir: Path | str | None) -> str:
    """Return the SHA-256 of a file of instructions; empty for other tasks, or if the file cannot be read."""
    if not task.instructions:
        return ""
    try:
        with _file(task, data_dir).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _file(task: Task, data_dir: Path | str | None) -> Path:
    return Path(data_dir or "") / task.folder
