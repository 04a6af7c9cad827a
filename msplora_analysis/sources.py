"""Where spectra come from: run directories, found wherever they lie below a folder.

A reader looks at one path and gives the source that it is, or None. Another format is another reader in `READERS`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import MSPLoraError, RunDirectoryError
from msplora_core.snapshots import RunDirectory

Epochs = Iterator[tuple[int, Mapping[str, NDArray[np.float64]]]]


@dataclass(frozen=True, eq=False)
class Source:
    """One run, or what stands for one.

    Args:
        method: the method with what tells its variants apart: `lora-r8`, `msplora-8-4-2`.
        model: the base model.
        task: what it was trained on; empty if unknown.
        seed: of the training; None if unknown.
        modules: module types in the order of the model, as far as known.
        epochs: reads the source: yields each epoch with its spectra by component key, one in memory at a
            time, and puts the error of each epoch that cannot be read into the list it is given.
    """

    method: str
    model: str
    task: str
    seed: int | None
    modules: list[str]
    epochs: Callable[[list[MSPLoraError]], Epochs]


Reader = Callable[[Path], Callable[[], Source] | None]


def run_reader(path: Path) -> Callable[[], Source] | None:
    """Recognise a run directory."""
    return (lambda: _run_source(path)) if RunDirectory.is_run(path) else None


READERS: tuple[Reader, ...] = (run_reader,)


def find_sources(path: str | os.PathLike[str]) -> list[tuple[str, Callable[[], Source]]]:
    """The sources at or below a path, named by where they lie in it, in natural order.

    A source's own folder is not searched for more, hidden folders are left out, and links to folders are
    followed only where they lead straight to a source.

    Args:
        path: a run, or a study: a folder with runs at any depth.

    Returns:
        Names and what opens each source (which may raise).

    Raises:
        RunDirectoryError: if there is nothing there, or no source in it.
    """
    root = Path(path)
    if not root.exists():
        raise RunDirectoryError(root, expected="a run directory or a folder of runs", found="nothing there")
    opened = _recognised(root)
    if opened is not None:
        return [(root.resolve().name, opened)]
    found = sorted(_below(root, root), key=lambda item: _natural(item[0]))
    if not found:
        raise RunDirectoryError(
            root,
            expected="a run directory (with run.json) or a folder of runs",
            found=_what_is_there(root),
            hint="msplora-analyze train makes runs",
        )
    return found


def _recognised(path: Path) -> Callable[[], Source] | None:
    return next((opened for reader in READERS if (opened := reader(path)) is not None), None)


def _below(folder: Path, root: Path) -> Iterator[tuple[str, Callable[[], Source]]]:
    if not folder.is_dir():
        return
    try:
        entries = [entry for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")]
    except OSError as error:
        raise RunDirectoryError(folder, expected="a folder that can be read", found=str(error)) from error
    for entry in entries:
        path = Path(entry.path)
        opened = _recognised(path)
        if opened is not None:
            yield path.relative_to(root).as_posix(), opened
        elif not entry.is_symlink():
            yield from _below(path, root)


def _run_source(path: Path) -> Source:
    run = RunDirectory(path)
    record = run.read_record()
    if not run.snapshot_paths():
        raise RunDirectoryError(
            path / "snapshots",
            expected="a snapshot for each epoch (epoch-0000.safetensors, ...)",
            found="none",
            hint="the run has not recorded anything yet, or its snapshots were not copied with it",
        )

    def epochs(errors: list[MSPLoraError]) -> Epochs:
        failed: list[RunDirectoryError] = []
        for snapshot in run.snapshots(failed):
            yield snapshot.epoch, snapshot.spectra
        errors.extend(failed)

    return Source(record.method, record.model, record.task, record.seed, record.modules, epochs)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Numbers by value, so that run-10 follows run-9."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def _what_is_there(root: Path) -> str:
    if not root.is_dir():
        return "a file"
    names = sorted(entry.name for entry in root.iterdir())
    if not names:
        return "an empty folder"
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
