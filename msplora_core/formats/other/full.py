"""A full fine-tune and its base model: ΔW of every matrix that both have, one in memory at a time."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from msplora_core.errors import AdapterFileError
from msplora_core.formats.contents import Contents, Found
from msplora_core.formats.other.model_folder import read_model_tensors
from msplora_core.formats.stored import StoredUpdate
from msplora_core.linalg.updates import DenseUpdate, Update, flattened
from msplora_core.storage.tensors import Tensor
from msplora_core.wording import listed


def recognise(contents: Contents) -> bool:
    return contents.base is not None and contents.config is None


def read(contents: Contents) -> Found:
    assert contents.base is not None
    base = read_model_tensors(contents.base)
    names = _common_names(set(contents.tensors), set(base.tensors))
    updates, aside = [], []
    for name, tensor in contents.tensors.items():
        before = base.tensors.get(names.get(name, ""))
        if before is None or len(tensor.shape) < 2 or tensor.shape != before.shape or not math.prod(tensor.shape):
            aside.append(name)
            continue
        shape = (tensor.shape[0], math.prod(tensor.shape[1:]))
        load = partial(_difference, tensor, before)
        updates.append(
            StoredUpdate(
                name.removesuffix(".weight"), shape, min(shape), 1.0, tensor.dtype, load, parameters=math.prod(shape)
            )
        )
    if not updates:
        raise AdapterFileError(contents.path, expected=f"matrices that {contents.base} has, too", found="none")
    notes = [f"{listed(sorted(aside))}: not a matrix, or not of this shape in the base model."] if aside else []
    return Found("full fine-tune", "full", updates, str(contents.base), notes)


def _common_names(after: set[str], before: set[str]) -> dict[str, str]:
    """The name of each tensor in the base; one saved without its head lacks the first name of the path."""
    if after & before:
        return {name: name for name in after & before}
    return {name: name.partition(".")[2] for name in after} | {
        full: name for name in before if (full := name.partition(".")[2]) in after
    }


def _difference(after: Tensor, before: Tensor) -> Update:
    return DenseUpdate(flattened(np.subtract(after.read(), before.read(), dtype=np.float64)))
