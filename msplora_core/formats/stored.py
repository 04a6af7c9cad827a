"""A weight update on disk: shape, rank and path are known, the values are read on demand."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msplora_core.components import ComponentKey
from msplora_core.linalg.updates import MOST_ELEMENTS, LowRankUpdate, Update, flattened
from msplora_core.storage.tensors import Tensor


@dataclass(frozen=True)
class Layout:
    """The layout of the adapted layer's weight.

    Args:
        kernel: input channels and kernel size of a convolution; empty for a matrix.
        groups: of a convolution.
        embedding: whether the layer is an embedding.
        wrapper: path of the layer around an adapted parameter, which holds the factors of all experts; empty for an
            adapted module.
    """

    kernel: tuple[int, ...] = ()
    groups: int = 1
    embedding: bool = False
    wrapper: str = ""


@dataclass(frozen=True)
class StoredUpdate:
    """One weight update of an adapter, not read yet.

    Args:
        path: dotted path of the adapted module in its model; numbers in it are indices in lists of layers.
        shape: (out, in) of ΔW.
        rank: number of its singular values.
        scaling: factor of the product of its factors.
        dtype: of its factors: `float32`.
        load: reads its values.
        key: its component, if the file states it; None to derive scale `layer` and the unit from the path.
        parameters: number of values in its factors.
        layout: of the adapted layer's weight.
    """

    path: str
    shape: tuple[int, int]
    rank: int
    scaling: float
    dtype: str
    load: Callable[[], Update] = field(repr=False, compare=False)
    key: ComponentKey | None = None
    parameters: int = 0
    layout: Layout = Layout()


Parts = Mapping[str, Tensor]
"""The tensors of one adapted module, by part: `lora_A`, `alpha`."""


def grouped(tensors: Iterable[Tensor], names: re.Pattern[str]) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Group tensors by the module that they adapt.

    Args:
        tensors: of a file.
        names: matches a whole name, with the groups `path` and `part`.

    Returns:
        For each path its tensors by part; and the names that do not match.

    Raises:
        AdapterFileError: if two tensors are the same part.
    """
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    aside = []
    for tensor in tensors:
        match = names.fullmatch(tensor.name)
        if match is None:
            aside.append(tensor.name)
            continue
        path, part = match["path"], match["part"]
        if part in groups[path]:
            raise tensor.error(f"one {part} for {path}", f"another beside {groups[path][part].name}")
        groups[path][part] = tensor
    return dict(groups), aside


def needed(parts: Parts, *names: str) -> tuple[Tensor, ...]:
    """Return the named parts of a group.

    Raises:
        AdapterFileError: if one is missing.
    """
    for name in names:
        if name not in parts:
            present = next(iter(parts.values()))
            raise present.error(f"{name} beside it", "none")
    return tuple(parts[name] for name in names)


def low_rank(path: str, B: Tensor, A: Tensor, scaling: float = 1.0, key: ComponentKey | None = None) -> StoredUpdate:
    """Return the update scaling·B·A; kernels of convolutions are flattened.

    In a convolution with groups, each group of outputs has its own ranks: B holds the blocks of a block-diagonal
    matrix, stacked.

    Args:
        path: of the adapted module.
        B: (out, r), or (out, r, 1, 1), or for groups (out, r/groups, 1, 1).
        A: (r, in), or (r, in, kernel height, kernel width).
        scaling: α/r.
        key: as for `StoredUpdate`.

    Raises:
        AdapterFileError: if a factor is empty or not a matrix, or the inner sizes differ.
    """
    for tensor in (B, A):
        if len(tensor.shape) < 2 or not math.prod(tensor.shape):
            raise tensor.error("a matrix, or the kernel of a convolution", f"shape {list(tensor.shape)}")
    rank = A.shape[0]
    groups = rank // B.shape[1] if len(B.shape) > 2 and not rank % B.shape[1] else 1
    if B.shape[1] * groups != rank or B.shape[0] % groups or math.prod(B.shape[2:]) != 1:
        raise B.error(f"shape [out, {rank}], to go with {A.name} of shape {list(A.shape)}", f"shape {list(B.shape)}")
    if groups > 1 and B.shape[0] * rank > MOST_ELEMENTS:
        raise B.error(f"at most {MOST_ELEMENTS} numbers with its {groups} groups apart", B.shape[0] * rank)
    shape = (B.shape[0], math.prod(A.shape[1:]))

    def load() -> Update:
        left = flattened(B.read())
        return LowRankUpdate(_block_diagonal(left, groups) if groups > 1 else left, flattened(A.read()), scaling)

    kernel = tuple(A.shape[1:]) if len(A.shape) > 2 else ()
    return StoredUpdate(path, shape, rank, scaling, A.dtype, load, key, size_of(B, A), Layout(kernel, groups))


def size_of(*tensors: Tensor) -> int:
    """Return the number of values in tensors."""
    return sum(math.prod(tensor.shape) for tensor in tensors)


def _block_diagonal(B: NDArray[Any], groups: int) -> NDArray[Any]:
    """The blocks (out/groups, r/groups) stacked in B, on the diagonal of (out, r)."""
    rows, columns = B.shape[0] // groups, B.shape[1]
    whole = np.zeros((B.shape[0], columns * groups), dtype=B.dtype)
    for group in range(groups):
        block = slice(group * rows, (group + 1) * rows)
        whole[block, group * columns : (group + 1) * columns] = B[block]
    return whole
