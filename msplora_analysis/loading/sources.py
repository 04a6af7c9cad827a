"""Find the sources of spectra below a folder: run directories and adapters."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple

from msplora_analysis.loading.adapter_source import adapter_source
from msplora_analysis.loading.run_source import run_source
from msplora_analysis.loading.source import Source
from msplora_core.errors import MSPLoraError, RunDirectoryError
from msplora_core.formats import AdapterRun, local_path, read_adapter, recognise_run
from msplora_core.formats.weight_files import is_copy
from msplora_core.runs import RunDirectory, RunRecord
from msplora_core.runs.directory import holds_tuning
from msplora_core.storage.walk import walk
from msplora_core.wording import listed


class Found(NamedTuple):
    """A source that was found.

    Args:
        name: path below the given path; for a single source the name of that path.
        open: opens it, or raises an error.
    """

    name: str
    open: Callable[[], Source]


def find_sources(
    path: str | os.PathLike[str],
    *,
    alpha: float | None = None,
    base: str | os.PathLike[str] | None = None,
    module: str | Collection[str] = (),
    model: str | None = None,
    task: str | None = None,
    seed: int | None = None,
    factors: bool = False,
    inner: bool = False,
) -> list[Found]:
    """Find the sources at or below a path, in natural order.

    The folder of a source is not searched further, hidden folders are left out, and a link is followed only if its
    target is itself a source: a run anywhere, or an adapter within the folder.

    Args:
        path: a run, an adapter, or a study, i.e. a folder that contains such at any depth; or hf://owner/name.
        alpha, base, module, model, task, seed, factors: what is read, and how (see `load_spectra`). By default, model,
            task and seed of an adapter inside a run directory are those of the run's record.
        inner: whether to read recorded inner products, too.

    Returns:
        At least one source.

    Raises:
        RunDirectoryError: if there is no source.
        AdapterFileError: if the path does not exist, or there is nothing on the hub.
    """
    root = local_path(path)
    if (record := _record_above(root)) is not None:
        model, task, seed = model or record.model, task or record.task, record.seed if seed is None else seed
    read = partial(read_adapter, alpha=alpha, base=base, module=module)

    def recognise(place: Path) -> Callable[[], Source] | None:
        if RunDirectory.is_run(place):
            return partial(run_source, place, factors=factors, inner=inner)
        opened = recognise_run(place, models=base is not None)
        if opened is None:
            return None
        name, check = _name(root, place), base is None and not module
        return lambda: adapter_source(
            opened(), name, read, model=model, task=task, seed=seed, factors=factors, check=check
        )

    walked = walk(root, recognise, follow=RunDirectory.is_run, skip=lambda place: holds_tuning(place) or is_copy(place))
    found = [Found(_name(root, place), opened) for place, opened in walked]
    if not found:
        raise RunDirectoryError(
            root,
            expected="a run directory (with run.json), an adapter, or a folder of such",
            found=_what_is_there(root),
            hint="msplora-analyze train makes runs; a full fine-tune needs its base model (--base)",
        )
    return found


def _record_above(root: Path) -> RunRecord | None:
    """The record of the run that an adapter is part of: `RUN/adapter`, `RUN/checkpoints/checkpoint-10`, or its file."""
    place = root.resolve()
    for folder in (place, *list(place.parents)[:2]):
        run = RunDirectory(folder.parent)
        if folder in (run.adapter_path, run.checkpoints_path) and RunDirectory.is_run(run.path):
            with contextlib.suppress(MSPLoraError):
                return run.read_record()
    return None


def run_directories(path: str | os.PathLike[str]) -> list[tuple[str, RunDirectory]]:
    """Return the run directories at or below a path, with names as from `find_sources`; may be empty."""

    def recognise(place: Path) -> Callable[[], RunDirectory] | None:
        return partial(RunDirectory, place) if RunDirectory.is_run(place) else None

    root = Path(path)
    walked = walk(root, recognise, follow=RunDirectory.is_run, skip=holds_tuning)
    return [(_name(root, place), opened()) for place, opened in walked]


def trainings(path: str | os.PathLike[str]) -> list[tuple[str, AdapterRun]]:
    """Return the adapters and folders of checkpoints at or below a path that lie in no run directory.

    Args:
        path: a path on this disk.

    Returns:
        Names as from `find_sources` and what was found, without what cannot be opened; may be empty.
    """

    def recognise(place: Path) -> Callable[[], AdapterRun | None] | None:
        return (lambda: None) if RunDirectory.is_run(place) else recognise_run(place)

    root, found = Path(path), list[tuple[str, AdapterRun]]()
    for place, opened in walk(root, recognise, skip=lambda place: holds_tuning(place) or is_copy(place)):
        with contextlib.suppress(MSPLoraError):
            if (run := opened()) is not None:
                found.append((_name(root, place), run))
    return found


def _name(root: Path, place: Path) -> str:
    return root.resolve().name if place == root else place.relative_to(root).as_posix()


def _what_is_there(root: Path) -> str:
    if not root.is_dir():
        return "a file"
    return listed(sorted(entry.name for entry in root.iterdir()), 5) or "an empty folder"
