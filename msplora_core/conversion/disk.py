"""An adapter on the disk, made a plain LoRA adapter that tools which know only LoRA can load. No torch."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from msplora_core.conversion.plain import PlainModule, plain_configuration, plain_module
from msplora_core.errors import AdapterFileError, FileError, UnsupportedAdapterError
from msplora_core.formats import Adapter, read_adapter
from msplora_core.formats.files import CONFIG, PEFT_WEIGHTS
from msplora_core.linalg.truncation import check_limit
from msplora_core.linalg.updates import LowRankUpdate
from msplora_core.runs import RunDirectory
from msplora_core.storage.folder import first_present
from msplora_core.storage.json_file import read_json_object
from msplora_core.storage.tensor_file import read_tensor_file
from msplora_core.storage.tensors import Tensor

_FACTORS = (".lora_", ".msplora_", ".vera_", ".ranknum")
_CHANGING_THE_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")


def convert_adapter(
    path: str | PathLike[str],
    out: str | PathLike[str],
    *,
    rank: int | None = None,
    energy: float | None = None,
) -> list[PlainModule]:
    """Write an adapter as plain LoRA of PEFT, with the same updates or with the best of lower rank.

    The scaling is folded in, the factors are float32, and what else the adapter holds (a trained head, biases) is
    taken over. The folder appears when all of it is written.

    Args:
        path: an adapter's folder, in PEFT's format, or a run directory.
        out: the folder to write; new or empty.
        rank: keep at most this many ranks of each module.
        energy: instead, keep at least this share of Σσ² of each module.

    Returns:
        What was written, module by module.

    Raises:
        AdapterFileError: if the adapter cannot be read, or is not in PEFT's format.
        UnsupportedAdapterError: if its update is more than a low-rank product.
        FileError: if the folder cannot be written, or holds something.
        ParameterError: for a rank or an energy that cannot be.
    """
    if rank is not None or energy is not None:
        check_limit(rank, energy)
    source, target = Path(path), Path(out)
    _check_target(target)
    adapter = read_adapter(RunDirectory(source).adapter_path if RunDirectory.is_run(source) else path)
    original = _configuration(adapter)
    tensors = _tensors(adapter)
    modules = {}
    scales = {key.scale for key in adapter.keys}
    whole = "total" if "total" in scales else "layer"
    for stored, key in zip(adapter.updates, adapter.keys, strict=True):
        if key.scale == whole:
            update = stored.load()
            if not isinstance(update, LowRankUpdate):
                raise UnsupportedAdapterError(
                    f"{adapter.path}: {stored.path}: expected low-rank factors, found those of {adapter.method}"
                )
            modules[stored.path] = plain_module(
                stored.path,
                update,
                rank=rank,
                energy=energy,
                embedding=_is_embedding(stored.path, original, tensors),
                kernel=_kernel(stored.path, tensors),
            )
    written: dict[str, NDArray[Any]] = {
        name: tensor.load() for name, tensor in tensors.items() if not any(part in name for part in _FACTORS)
    }
    for module in modules.values():
        written |= module.tensors()
    _write(target, plain_configuration(original, modules), written)
    return list(modules.values())


def _configuration(adapter: Adapter) -> Mapping[str, Any]:
    """The adapter's own configuration, if its method can be made plain LoRA."""
    place = adapter.path / CONFIG
    if adapter.format != "PEFT" or not place.is_file():
        raise AdapterFileError(adapter.path, expected=f"an adapter of PEFT, with {CONFIG}", found=adapter.format)
    content = read_json_object(place)
    initialisation = str(content.get("init_lora_weights")).lower()
    reasons = {
        "DoRA's magnitudes, which LoRA has none of": content.get("use_dora"),
        "biases of the adapter (lora_bias)": content.get("lora_bias"),
        "adapted parameters (target_parameters)": content.get("target_parameters"),
        f"the initialisation {initialisation}, which changed the base model": initialisation.startswith(
            _CHANGING_THE_BASE
        ),
    }
    for reason, holds in reasons.items():
        if holds:
            raise UnsupportedAdapterError(f"{place}: expected low-rank updates alone, found {reason}")
    return content


def _tensors(adapter: Adapter) -> Mapping[str, Tensor]:
    weights = first_present(adapter.path, *PEFT_WEIGHTS)
    assert weights is not None  # it has just been read
    return read_tensor_file(weights).tensors


def _is_embedding(path: str, original: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    """Whether a module is an embedding: LoRA's names say it, or MSPLoRA's configuration."""
    placement = original.get("placement") or {}
    named = f"base_model.model.{path}.lora_embedding_A" in tensors
    return named or bool(placement.get(path, {}).get("embedding"))


def _kernel(path: str, tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Input channels and kernel of a convolution, as LoRA's A has them."""
    first = tensors.get(f"base_model.model.{path}.lora_A.weight")
    return first.shape[1:] if first else ()


def _check_target(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise FileError(target, expected="a folder to write into", found="a file")
    if target.is_dir() and any(target.iterdir()):
        raise FileError(target, expected="a new or empty folder", found="one with files in it")


def _write(target: Path, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write beside the place and rename, so that the folder is there whole or not at all."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        beside.mkdir(parents=True)
        contiguous = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
        save_file(contiguous, beside / PEFT_WEIGHTS[0], metadata={"format": "pt"})
        (beside / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        beside.replace(target)
    except OSError as error:
        raise FileError(target, expected="a folder to write into", found=error.strerror or str(error)) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
