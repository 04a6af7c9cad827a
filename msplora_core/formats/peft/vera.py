"""PEFT's VeRA: ΔW = diag(b)·B·diag(d)·A, with A and B random and shared by all layers (Kopiczko et al. 2310.11454)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import MissingDependencyError, UnsupportedAdapterError
from msplora_core.formats.contents import Contents, Found
from msplora_core.formats.notes import beside_notes
from msplora_core.formats.other.model_folder import read_model_tensors
from msplora_core.formats.peft.configuration import PeftConfig, module_path
from msplora_core.formats.stored import StoredUpdate, grouped, needed, size_of
from msplora_core.linalg.updates import MOST_ELEMENTS, LowRankUpdate, Update
from msplora_core.methods import method_name
from msplora_core.storage.tensors import Tensor

_NAMES = re.compile(r"(?P<path>.+)\.(?P<part>vera_lambda_b|vera_lambda_d)(\.[^.]+)?")
_SHARED = re.compile(r"base_model\.(?P<part>vera_A|vera_B)(\.[^.]+)?")

Projection = Callable[[], NDArray[Any]]


def recognise(contents: Contents) -> bool:
    return contents.has_peft_type("VERA")


def read(contents: Contents) -> Found:
    config = contents.config
    assert config is not None
    groups, rest = grouped(contents.tensors.values(), _NAMES)
    shared = {match["part"]: contents.tensors[name] for name in rest if (match := _SHARED.fullmatch(name))}
    vectors = {module_path(name): needed(parts, "vera_lambda_b", "vera_lambda_d") for name, parts in groups.items()}
    for b, d in vectors.values():
        if len(b.shape) != 1 or len(d.shape) != 1 or not math.prod(b.shape) or not math.prod(d.shape):
            wrong = b if len(b.shape) != 1 or not math.prod(b.shape) else d
            raise wrong.error("a vector", f"shape {list(wrong.shape)}")
    if shared:
        A, B = needed(shared, "vera_A", "vera_B")
        widths = _widths(contents, vectors) if contents.base else dict.fromkeys(vectors, A.shape[-1])
        notes = [] if contents.base else [
            "VeRA: every layer is assumed to use all columns of the shared A; give the base model if layers differ "
            "in width."
        ]  # fmt: skip
        read_A: Projection = cache(A.read)
        read_B: Projection = cache(B.read)
        rank, rows, columns = _shared_sizes(A, B)
    else:
        widths = _widths(contents, vectors)
        rank, rows, columns = config.rank("r", 256), max(b.shape[0] for b, _ in vectors.values()), max(widths.values())
        if rank * (rows + columns) > MOST_ELEMENTS:
            raise config.error("r", f"projections of at most {MOST_ELEMENTS} numbers", f"{rank} × ({rows} + {columns})")
        read_A, read_B = _regenerated(config, rank, rows, columns)
        notes = ["VeRA: A and B are not in the file; torch has drawn them again from the key."]
    updates = []
    for path, (b, d) in vectors.items():
        if d.shape != (rank,) or b.shape[0] > rows or widths[path] > columns:
            raise d.error(f"{rank} values, and {b.name} at most {rows}", f"{d.shape[0]} and {b.shape[0]}")
        load = partial(_load, read_B, read_A, b, d, widths[path])
        shape = b.shape[0], widths[path]
        updates.append(StoredUpdate(path, shape, rank, 1.0, b.dtype, load, parameters=size_of(b, d)))
    aside = [name for name in rest if not _SHARED.fullmatch(name)]
    notes += beside_notes(aside, config.modules_to_save)
    return Found("PEFT", method_name("vera", [rank]), updates, config.model, notes)


def _load(read_B: Projection, read_A: Projection, b: Tensor, d: Tensor, width: int) -> Update:
    B, A = read_B()[: b.shape[0]].astype(np.float64), read_A()[:, :width].astype(np.float64)
    return LowRankUpdate(b.read()[:, None] * B, d.read()[:, None] * A)


def _shared_sizes(A: Tensor, B: Tensor) -> tuple[int, int, int]:
    """Rank, rows of B, columns of A."""
    if len(A.shape) != 2 or len(B.shape) != 2 or A.shape[0] != B.shape[1]:
        raise B.error(f"shape [out, r], to go with {A.name} of shape {list(A.shape)}", f"shape {list(B.shape)}")
    return A.shape[0], B.shape[0], A.shape[1]


def _widths(contents: Contents, vectors: dict[str, tuple[Tensor, ...]]) -> dict[str, int]:
    """Number of inputs of each adapted layer, from the base model."""
    if contents.base is None:
        raise UnsupportedAdapterError(
            f"{contents.path}: this VeRA adapter holds neither its projections nor the layers' widths; give the base "
            "model's folder as base (--base), or save it with save_projection=True"
        )
    model = read_model_tensors(contents.base).tensors
    conv1d = bool(contents.config and contents.config.flag("fan_in_fan_out"))
    widths = {}
    for path, (b, _) in vectors.items():
        weight = model.get(f"{path}.weight")
        if weight is None or len(weight.shape) != 2 or weight.shape[int(conv1d)] != b.shape[0]:
            found = "none" if weight is None else f"shape {list(weight.shape)}"
            raise b.error(f"{path}.weight with {b.shape[0]} outputs in {contents.base}", found)
        widths[path] = weight.shape[0 if conv1d else 1]
    return widths


def _regenerated(config: PeftConfig, rank: int, rows: int, columns: int) -> tuple[Projection, Projection]:
    """A and B as PEFT draws them: Kaiming-uniform from torch's generator, A first."""
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(
            "torch", purpose="drawing VeRA's projections again, which are not in the file,", extra="train"
        ) from error
    key = config.rank("projection_prng_key", 0) if config.content.get("projection_prng_key") else 0

    @cache
    def drawn() -> tuple[Any, Any]:
        generator = torch.Generator().manual_seed(key)
        A = torch.empty(rank, columns).uniform_(-math.sqrt(6 / columns), math.sqrt(6 / columns), generator=generator)
        B = torch.empty(rows, rank).uniform_(-math.sqrt(6 / rank), math.sqrt(6 / rank), generator=generator)
        return A.numpy(), B.numpy()

    return (lambda: drawn()[0]), (lambda: drawn()[1])
