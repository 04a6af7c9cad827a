"""Data of GLUE tasks, from the official files or the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from msplora_core.errors import DataFileError, MissingDependencyError
from msplora_core.training.data.examples import Examples
from msplora_core.training.tasks import Task


def read_split(path: Path, task: Task) -> Examples:
    if not path.is_file():
        raise DataFileError(
            path,
            expected=f"a data file of {task.folder}",
            found="no such file",
            hint=f"--data-dir is the folder that contains {task.folder}/{path.name}",
        )
    return read_tsv(path, task)


def read_tsv(path: Path, task: Task) -> Examples:
    """Read a TSV file of the official GLUE download. Quote characters are plain text.

    Raises:
        DataFileError: with the line, for bytes that are not UTF-8, a missing column, a row with too few or
            too many columns, or an unknown label.
    """
    lines = _lines(path)
    header = list(task.columns)
    first = 1
    if not header and lines:
        header, first = lines.pop(0).split("\t"), 2
    for name in (*task.text_columns, task.label_column):
        if name not in header:
            raise DataFileError(path, key="line 1", expected=f"a column {name!r}", found="\t".join(header) or "nothing")
    text_places = [header.index(name) for name in task.text_columns]
    label_place = header.index(task.label_column)
    examples = Examples([], [])
    for number, line in enumerate(lines, first):
        cells = line.split("\t")
        if len(cells) != len(header):
            raise DataFileError(path, key=f"line {number}", expected=f"{len(header)} columns", found=len(cells))
        try:
            examples.labels.append(task.label(cells[label_place]))
        except ValueError as error:
            raise DataFileError(path, key=f"line {number}", expected=str(error), found=cells[label_place]) from None
        examples.texts.append(tuple(cells[place] for place in text_places))
    if not examples:
        raise DataFileError(path, expected="at least one example", found="none")
    return examples


def _lines(path: Path) -> list[str]:
    """Return the lines, split at \\n and \\r\\n only: sentences may hold other characters of `str.splitlines`."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataFileError(
            path, key=f"line {line}", expected="UTF-8 text", found=data[error.start : error.end]
        ) from None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def read_hub(task: Task, split: str) -> Examples:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingDependencyError("datasets", purpose="fetching task data from the hub", extra="train") from error
    try:
        rows = load_dataset("nyu-mll/glue", task.name, split=split)
    except Exception as error:  # the network and the hub's client raise many types
        raise DataFileError(
            f"nyu-mll/glue/{task.name}",
            expected="the task on the Hugging Face hub",
            found=f"{type(error).__name__}: {error}",
            hint="without a network, give --data-dir with the official GLUE files",
        ) from error
    columns = [rows[name] for name in task.hub_columns or task.text_columns]
    return Examples(list(zip(*columns, strict=True)), list(rows["label"]))
