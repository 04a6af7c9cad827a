"""An adapter on disk, written as plain LoRA of PEFT for tools that support only LoRA. No torch."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from msplora_core.conversion.origin import Origin, origin_of
from msplora_core.conversion.plain import PlainModule, plain_configuration, plain_module
from msplora_core.errors import FileError, UnsupportedAdapterError
from msplora_core.formats import Adapter, find_runs, local_path, read_adapter
from msplora_core.formats.stored import StoredUpdate
from msplora_core.formats.weight_files import CONFIG, PEFT_WEIGHTS
from msplora_core.linalg.truncation import check_limit
from msplora_core.linalg.updates import LowRankUpdate
from msplora_core.placement import natural_order


@dataclass(frozen=True)
class Conversion:
    """What a conversion wrote.

    Args:
        modules: what was written, in natural order of the paths.
        notes: sentences that a user of the result should know.
    """

    modules: list[PlainModule]
    notes: tuple[str, ...] = ()


def convert_adapter(
    path: str | PathLike[str],
    out: str | PathLike[str],
    *,
    alpha: float | None = None,
    rank: int | None = None,
    energy: float | None = None,
) -> Conversion:
    """Write an adapter as plain LoRA of PEFT, with the same updates or with the best of lower rank.

    The scaling is folded into the factors, which are float32. A trained head and biases are taken over. An adapter
    of a diffusion pipeline with several models becomes one folder for each. The folder appears when all of it is
    written. PEFT's LoRA ignores dilation and padding modes of convolutions: merge such an adapter after loading it.

    Args:
        path: an adapter's folder or file in any format that `read_adapter` reads, `hf://owner/name`, a run
            directory, or a folder of checkpoints, of which the last is converted.
        out: the folder to write; new or empty.
        alpha: α, for files that do not hold it.
        rank: keep at most this many ranks of each module.
        energy: instead, keep at least this share of Σσ² of each module.

    Returns:
        The modules written, and notes.

    Raises:
        AdapterFileError: if the adapter cannot be read.
        UnsupportedAdapterError: if its updates are more than low-rank products, or its modules have no names; for a
            rank or an energy beside a convolution with groups.
        FileError: if there are several adapters, or the folder cannot be written or is not empty.
        ParameterError: for an invalid rank or energy.
    """
    if rank is not None or energy is not None:
        check_limit(rank, energy)
    target = Path(out)
    _check_target(target)
    adapter, notes = _opened(local_path(path), alpha)
    origin = origin_of(adapter)
    scales = {key.scale for key in adapter.keys}
    whole = "total" if "total" in scales else "layer"
    modules = [
        _module(adapter, stored, rank, energy)
        for stored, key in zip(adapter.updates, adapter.keys, strict=True)
        if key.scale == whole
    ]
    modules.sort(key=lambda module: natural_order(module.path))
    _write(target, origin, modules)
    return Conversion(modules, (*notes, *adapter.notes, *origin.notes))


def _opened(place: Path, alpha: float | None) -> tuple[Adapter, list[str]]:
    """The adapter at a path, the last where it is a folder of checkpoints."""
    runs = find_runs(place)
    if len(runs) > 1:
        raise FileError(place, expected="one adapter", found=f"{len(runs)}", hint="name one of them")
    if not runs:
        return read_adapter(place, alpha=alpha), []
    run = runs[0]()
    last = run.checkpoints[-1].path
    notes = [f"{last.name} is converted, the last of {len(run.checkpoints)} checkpoints."]
    return read_adapter(last, alpha=alpha), [*run.notes, *(notes if len(run.checkpoints) > 1 else ())]


def _module(adapter: Adapter, stored: StoredUpdate, rank: int | None, energy: float | None) -> PlainModule:
    update = stored.load()
    if not isinstance(update, LowRankUpdate):
        raise UnsupportedAdapterError(
            f"{adapter.path}: {stored.path}: expected low-rank factors, found those of {adapter.method}"
        )
    layout = stored.layout
    return plain_module(
        stored.path,
        update,
        rank=rank,
        energy=energy,
        embedding=layout.embedding,
        kernel=layout.kernel,
        groups=layout.groups,
    )


def _check_target(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise FileError(target, expected="a folder to write into", found="a file")
    if target.is_dir() and any(target.iterdir()):
        raise FileError(target, expected="a new or empty folder", found="one with files in it")


def _write(target: Path, origin: Origin, modules: list[PlainModule]) -> None:
    """Write to a temporary folder and rename it, so that the folder is complete or absent."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        beside.mkdir(parents=True)
        for model in origin.models or ("",):
            own = [module for module in modules if module.path.startswith(f"{model}.")] if model else modules
            if model:
                own = [replace(module, path=module.path.removeprefix(f"{model}.")) for module in own]
            _write_adapter(beside / model if len(origin.models) > 1 else beside, origin, own)
        beside.replace(target)
    except OSError as error:
        raise FileError(target, expected="a folder to write into", found=error.strerror or str(error)) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_adapter(folder: Path, origin: Origin, modules: list[PlainModule]) -> None:
    written: dict[str, NDArray[Any]] = {name: tensor.load() for name, tensor in origin.beside.items()}
    for module in modules:
        written |= module.tensors()
    config: Mapping[str, Any] = plain_configuration(origin.configuration, {one.path: one for one in modules})
    folder.mkdir(exist_ok=True)
    contiguous = {name: np.ascontiguousarray(values) for name, values in written.items()}
    save_file(contiguous, folder / PEFT_WEIGHTS[0], metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
