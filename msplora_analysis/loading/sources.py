"""Where spectra come from: run directories and adapters, found wherever they lie below a folder.

A reader looks at one path and gives the source that it is, or None. Another kind is another reader in `READERS`.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from msplora_core.components import ComponentKey, component_spectra
from msplora_core.errors import FileError, MSPLoraError, RunDirectoryError
from msplora_core.formats import Adapter, AdapterRun, local_path, read_adapter, recognise_run
from msplora_core.formats.checkpoints import within
from msplora_core.placement import stack_name
from msplora_core.runs import RunDirectory, RunRecord
from msplora_core.runs.directory import holds_tuning


class Moment(NamedTuple):
    """The spectra at one moment of a training.

    Args:
        epoch: 0 before the first step.
        step: optimiser steps so far; None if unknown.
        spectra: singular values by component key.
    """

    epoch: float
    step: int | None
    spectra: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Source:
    """One run, or what stands for one.

    Args:
        method: the method with what tells its variants apart: `lora-r8`, `msplora-8-4-2`.
        model: the base model.
        task: what it was trained on; empty if unknown.
        seed: of the training; None if unknown.
        modules: module types in the order of the model, as far as known.
        moments: reads the source: yields one moment after the other, one in memory at a time, and puts the
            error of each that cannot be read into the list it is given.
        notes: sentences that a reader of the numbers should know.
        stacks: list of layers and shapes by module type, as far as known: only what agrees in them is averaged.
    """

    method: str
    model: str
    task: str
    seed: int | None
    modules: list[str]
    moments: Callable[[list[MSPLoraError]], Iterator[Moment]]
    notes: list[str] = field(default_factory=list)
    stacks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AdapterOptions:
    """What adapters that this toolkit did not train leave open.

    Args:
        alpha: α, for files that do not hold it.
        base: the base model of full fine-tunes.
        module: module types, or ends of module paths, to keep; all where empty.
        model: their base model; as each of them says where not given.
        task: what they were trained on; as the folders' names say where not given.
        seed: of the training; likewise.
    """

    alpha: float | None = None
    base: str | os.PathLike[str] | None = None
    module: tuple[str, ...] = ()
    model: str | None = None
    task: str | None = None
    seed: int | None = None


Reader = Callable[[Path, AdapterOptions], Callable[[], Source] | None]


def run_reader(path: Path, options: AdapterOptions) -> Callable[[], Source] | None:
    """Recognise a run directory."""
    return (lambda: _run_source(path)) if RunDirectory.is_run(path) else None


def adapter_reader(path: Path, options: AdapterOptions) -> Callable[[], Source] | None:
    """Recognise an adapter, or the checkpoints of a training."""
    opened = recognise_run(path, models=options.base is not None)
    return None if opened is None else lambda: _adapter_source(opened(), options)


READERS: tuple[Reader, ...] = (run_reader, adapter_reader)


def find_run_directories(path: str | os.PathLike[str]) -> list[tuple[str, RunDirectory]]:
    """The run directories at or below a path, named and ordered as `find_sources` does; none is no error."""
    root = Path(path)
    if RunDirectory.is_run(root):
        return [(root.resolve().name, RunDirectory(root))]
    names = [name for name, _ in _below(root, root, AdapterOptions(), (run_reader,))]
    return [(name, RunDirectory(root / name)) for name in sorted(names, key=_natural)]


def find_sources(
    path: str | os.PathLike[str], options: AdapterOptions | None = None
) -> list[tuple[str, Callable[[], Source]]]:
    """The sources at or below a path, named by where they lie in it, in natural order.

    A source's own folder is not searched for more, hidden folders are left out, and links to folders are
    followed only where they lead straight to a source: to a run anywhere, to an adapter within the folder.

    Args:
        path: a run, an adapter, or a study: a folder with such at any depth; or an adapter's hub id.
        options: for adapters.

    Returns:
        Names and what opens each source (which may raise).

    Raises:
        RunDirectoryError: if there is no source there.
        AdapterFileError: if there is nothing there at all, and it is no hub id that can be fetched.
    """
    root, options = local_path(path), options or AdapterOptions()
    opened = _recognised(root, options)
    if opened is not None:
        return [(root.resolve().name, opened)]
    found = sorted(_below(root, root, options), key=lambda item: _natural(item[0]))
    if not found:
        raise RunDirectoryError(
            root,
            expected="a run directory (with run.json), an adapter, or a folder of such",
            found=_what_is_there(root),
            hint="msplora-analyze train makes runs; a full fine-tune needs its base model (--base)",
        )
    return found


def _recognised(
    path: Path, options: AdapterOptions, readers: tuple[Reader, ...] = READERS
) -> Callable[[], Source] | None:
    return next((opened for reader in readers if (opened := reader(path, options)) is not None), None)


def _below(
    folder: Path, root: Path, options: AdapterOptions, readers: tuple[Reader, ...] = READERS
) -> Iterator[tuple[str, Callable[[], Source]]]:
    if not folder.is_dir():
        return
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise RunDirectoryError(folder, expected="a folder that can be read", found=str(error)) from error
    for entry in entries:
        path = Path(entry.path)
        if holds_tuning(path):
            continue
        opened = _recognised(path, options, readers)
        if opened is not None:
            if entry.is_symlink() and not RunDirectory.is_run(path):  # a stranger's adapter does not lead elsewhere
                opened = within(root, path, opened)
            yield path.relative_to(root).as_posix(), opened
        elif not entry.is_symlink():
            yield from _below(path, root, options, readers)


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

    def moments(errors: list[MSPLoraError]) -> Iterator[Moment]:
        failed: list[FileError] = []
        for snapshot in run.snapshots(failed):
            yield Moment(snapshot.epoch, snapshot.step, snapshot.spectra)
        errors.extend(failed)

    return Source(
        record.method, record.model, record.task, record.seed, record.modules, moments, stacks=_stacks_of(record)
    )


def _stacks_of(record: RunRecord) -> dict[str, str]:
    """Stack by module type (see `stack_name`), of the components as the record describes them.

    Records without lists of layers: where a model has several stacks, every module type begins with its stack.
    """
    shapes: dict[str, list[tuple[int, int]]] = {}
    lists: dict[str, str] = {}
    for component in record.components:
        with contextlib.suppress(MSPLoraError, KeyError, TypeError, ValueError):  # an untrusted record
            module = ComponentKey.parse(component["key"]).module
            out, columns = component["shape"]
            shapes.setdefault(module, []).append((int(out), int(columns)))
            lists[module] = str(component["stack"])
    prefixes = {module: module.partition(".")[0] for module in shapes if "." in module}
    if not lists and len(prefixes) == len(shapes) and len(set(prefixes.values())) > 1:
        lists = prefixes
    return {module: stack_name(lists.get(module, ""), found) for module, found in shapes.items()}


def _adapter_source(run: AdapterRun, options: AdapterOptions) -> Source:
    def opened(path: Path) -> Adapter:
        return read_adapter(path, alpha=options.alpha, base=options.base, module=options.module)

    adapter = _last(run, opened)

    def moments(errors: list[MSPLoraError]) -> Iterator[Moment]:
        for epoch, step, path in run.checkpoints:
            try:
                one = adapter if path == adapter.path else opened(path)
                yield Moment(epoch, step, component_spectra(one.components()))
            except MSPLoraError as error:
                errors.append(error)

    model = adapter.model if options.model is None else options.model
    task = run.task if options.task is None else options.task
    seed = run.seed if options.seed is None else options.seed
    modules = list(dict.fromkeys(line.module for line in adapter.modules()))
    notes = [*adapter.notes, *run.notes]
    if not model:
        notes.append("The base model is not known; adapters without one are taken to be of the same.")
    return Source(adapter.method, model, task, seed, modules, moments, notes, adapter.stacks())


def _last(run: AdapterRun, opened: Callable[[Path], Adapter]) -> Adapter:
    """The last checkpoint that can be opened; if there is none, the error of the last of all."""
    failed: MSPLoraError | None = None
    for checkpoint in reversed(run.checkpoints):
        try:
            return opened(checkpoint.path)
        except MSPLoraError as error:
            failed = failed or error
    assert failed is not None
    raise failed


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
