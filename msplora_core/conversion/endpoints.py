"""Input and output of a conversion on disk: the adapter to read, and the folder to write."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from msplora_core.conversion.origin import Origin
from msplora_core.errors import FileError, UnsupportedAdapterError
from msplora_core.formats import Adapter, find_runs, local_path, read_adapter
from msplora_core.formats.stored import StoredUpdate
from msplora_core.formats.weight_files import CONFIG, CONVERTED_FROM, PEFT_WEIGHTS
from msplora_core.linalg.updates import LowRankUpdate
from msplora_core.wording import natural_order


@dataclass(frozen=True, eq=False)
class AdapterFiles:
    """The contents of an adapter's folder.

    Args:
        tensors: by the names that PEFT uses in files.
        configuration: the content of `adapter_config.json`.
    """

    tensors: Mapping[str, NDArray[Any]]
    configuration: Mapping[str, Any]


def open_adapter(path: str | PathLike[str], alpha: float | None) -> tuple[Adapter, list[str]]:
    """Return the adapter at a path (the last of a folder of checkpoints) and notes.

    Raises:
        AdapterFileError: if it cannot be read.
        FileError: if there are several.
    """
    place = local_path(path)
    runs = find_runs(place)
    if len(runs) > 1:
        raise FileError(place, expected="one adapter", found=f"{len(runs)}", hint="name one of them")
    if not runs:
        return read_adapter(place, alpha=alpha), []
    run = runs[0]()
    notes = [f"Converted: {run.last.name}, the last of {len(run.checkpoints)} checkpoints."]
    is_checkpoint = len(run.checkpoints) > 1 and run.last != run.path
    return read_adapter(run.last, alpha=alpha), [*run.notes, *(notes if is_checkpoint else ())]


def whole_updates(adapter: Adapter) -> list[StoredUpdate]:
    """Return the update of each adapted module, summed over scales, in natural order of the paths."""
    whole = adapter.whole
    updates = [stored for stored, key in zip(adapter.updates, adapter.keys, strict=True) if key.scale == whole]
    return sorted(updates, key=lambda stored: natural_order(stored.path))


def low_rank_factors(adapter: Adapter, stored: StoredUpdate) -> LowRankUpdate:
    """Read an update as two factors.

    Raises:
        UnsupportedAdapterError: if it is not a product of two factors.
    """
    update = stored.load()
    if not isinstance(update, LowRankUpdate):
        raise UnsupportedAdapterError(
            f"{adapter.path}: {stored.path}: expected low-rank factors, found those of {adapter.method}"
        )
    return update


def check_target(target: Path) -> None:
    """Check that a folder can be written: it is new or empty.

    Raises:
        FileError: otherwise.
    """
    if target.exists() and not target.is_dir():
        raise FileError(target, expected="a folder to write into", found="a file")
    if target.is_dir() and any(target.iterdir()):
        raise FileError(target, expected="a new or empty folder", found="one with files in it")


def by_model(origin: Origin, paths: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the paths of each model of a pipeline, with the paths in that model; under "" for a single model."""
    paths = list(paths)
    if not origin.models:
        return {"": {path: path for path in paths}}
    return {
        model: {path: path.removeprefix(f"{model}.") for path in paths if path.startswith(f"{model}.")}
        for model in origin.models
    }


def write_adapters(
    target: Path, origin: Origin, adapters: Mapping[str, AdapterFiles], converted_from: str = ""
) -> None:
    """Write one adapter into a folder, or several into subfolders, atomically.

    Args:
        target: the folder, new or empty; one that exists stays the same, as a shell may be in it.
        origin: holds the tensors to copy.
        adapters: by the name of the model.
        converted_from: the method of the original, if the factors are not those of its training.

    Raises:
        FileError: if it cannot be written.
    """
    target = target.resolve()  # the current folder, `.`, has no name
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        beside.mkdir(parents=True)
        for model, files in adapters.items():
            _write(beside / model if len(adapters) > 1 else beside, origin, files, converted_from)
        if target.is_dir():
            for entry in beside.iterdir():
                entry.replace(target / entry.name)
        else:
            beside.replace(target)
    except OSError as error:
        raise FileError(target, expected="a folder to write into", found=error.strerror or str(error)) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write(folder: Path, origin: Origin, files: AdapterFiles, converted_from: str) -> None:
    tensors = {name: tensor.load() for name, tensor in origin.beside.items()} | dict(files.tensors)
    folder.mkdir(exist_ok=True)
    contiguous = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    mark = {CONVERTED_FROM: converted_from} if converted_from else {}
    save_file(contiguous, folder / PEFT_WEIGHTS[0], metadata={"format": "pt"} | mark)
    content = json.dumps(files.configuration, indent=2, sort_keys=True)
    (folder / CONFIG).write_text(content + "\n", encoding="utf-8")
