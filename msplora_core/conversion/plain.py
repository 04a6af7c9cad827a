"""Tensors and configuration of a plain LoRA adapter of PEFT, from low-rank updates. numpy only."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import UnsupportedAdapterError
from msplora_core.linalg.truncation import Truncated, truncate
from msplora_core.linalg.updates import LowRankUpdate, joined

KEPT_FIELDS = (
    "base_model_name_or_path", "revision", "task_type", "auto_mapping", "target_modules", "target_parameters",
    "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "trainable_token_indices", "bias",
    "use_dora", "fan_in_fan_out", "lora_dropout", "peft_version",
)  # fmt: skip
"""Fields of an adapter's configuration that concern model and modules, not the method."""


@dataclass(frozen=True, eq=False)
class PlainModule:
    """One module's update in LoRA's layout.

    Args:
        path: of the module in the base model.
        B: (out, r) float32, the scaling folded in; (out, r/groups, 1, ...) for a convolution.
        A: (r, in) float32; (r, in, height, ...) for a convolution.
        rank_before: rank of the original update.
        error: error of the truncation, relative to the update in the Frobenius norm; 0 without truncation.
        norm: of the original update in the Frobenius norm; NaN without truncation.
        embedding: whether the module is an embedding, whose factors have other names in PEFT.
        experts: number of experts of an adapted parameter, whose factors are stacked; 0 for an adapted module.
    """

    path: str
    B: NDArray[np.float32]
    A: NDArray[np.float32]
    rank_before: int
    error: float
    norm: float
    embedding: bool = False
    experts: int = 0

    @property
    def rank(self) -> int:
        return int(self.A.shape[0]) // max(self.experts, 1)

    @property
    def pattern(self) -> str:
        """What matches it alone as a key of `rank_pattern`: PEFT matches the end of a path, and this from its start."""
        path = self.path.replace(".base_layer", "") if self.experts else self.path
        return f"^{re.escape(path)}" + (r"\.[^.]+" if self.experts else "")

    def tensors(self, prefix: str = "base_model.model.") -> dict[str, NDArray[np.float32]]:
        """Return its factors by the names that PEFT uses in files."""
        names = ("lora_embedding_A", "lora_embedding_B") if self.embedding else ("lora_A.weight", "lora_B.weight")
        return {f"{prefix}{self.path}.{name}": factor for name, factor in zip(names, (self.A, self.B), strict=True)}


def plain_module(
    path: str,
    update: LowRankUpdate,
    *,
    rank: int | None = None,
    energy: float | None = None,
    embedding: bool = False,
    kernel: Sequence[int] = (),
    groups: int = 1,
) -> PlainModule:
    """Return one module's update in LoRA's layout, at its rank or truncated.

    Args:
        path: of the module in the base model.
        update: the weight update.
        rank: maximum number of ranks to keep; all by default.
        energy: instead, the least share of Σσ² to keep.
        embedding: whether the module is an embedding.
        kernel: (in, height, ...) of a convolution, whose update is flattened to a matrix.
        groups: of a convolution; B of the update is then block diagonal.

    Raises:
        ParameterError: for an invalid rank or energy.
        UnsupportedAdapterError: if the factors exceed the range of float32; for a rank or an energy beside groups.
    """
    whole = rank is None and energy is None
    if groups > 1 and not whole:
        raise UnsupportedAdapterError(f"{path}: expected no rank or energy, found a convolution with groups")
    cut = Truncated(joined([update]), 0.0, math.nan) if whole else truncate(update, rank=rank, energy=energy)
    factors = _by_group(cut.update.B, cut.update.A, groups) if groups > 1 else (cut.update.B, cut.update.A)
    B, A = as_float32(path, *factors)
    if len(kernel) > 1:
        B, A = B.reshape(*B.shape, *(1 for _ in kernel[1:])), A.reshape(len(A), *kernel)
    return PlainModule(path, B, A, update.rank, cut.error, cut.norm, embedding)


def as_float32(path: str, *factors: NDArray[Any]) -> list[NDArray[np.float32]]:
    """Return the factors of the module at a path in float32.

    Raises:
        UnsupportedAdapterError: if one exceeds the range of float32.
    """
    with np.errstate(over="ignore"):
        found = [np.ascontiguousarray(factor, dtype=np.float32) for factor in factors]
    if not all(np.isfinite(factor).all() for factor in found):
        raise UnsupportedAdapterError(f"{path}: expected factors in the range of float32, found larger ones")
    return found


def grouped_dora(path: str) -> UnsupportedAdapterError:
    """Return the error for DoRA of a convolution with groups: PEFT's LoRA takes its norms from rearranged factors."""
    return UnsupportedAdapterError(
        f"{path}: expected no DoRA of a convolution with groups, which LoRA scales otherwise"
    )


def _by_group(B: NDArray[Any], A: NDArray[Any], groups: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The factors in LoRA's layout for groups: each group of outputs has its own, equally many, rows of A.

    Args:
        B: (out, r), zero where a column does not serve a group.
        A: (r, in).
        groups: number of groups, a divisor of out.

    Returns:
        B (out, k) and A (groups·k, in), where k is the highest rank of a group.
    """
    blocks = np.split(B, groups)
    used = [np.flatnonzero(block.any(axis=0)) for block in blocks]
    rank = max(1, *map(len, used))
    left, right = np.zeros((groups, len(B) // groups, rank)), np.zeros((groups, rank, A.shape[1]))
    for group, (block, columns) in enumerate(zip(blocks, used, strict=True)):
        left[group, :, : len(columns)], right[group, : len(columns)] = block[:, columns], A[columns]
    return left.reshape(len(B), rank), right.reshape(groups * rank, -1)


def plain_configuration(original: Mapping[str, Any], modules: Mapping[str, PlainModule]) -> dict[str, Any]:
    """Return the `adapter_config.json` for plain modules.

    α equals r everywhere, so that the scaling is 1; modules of a less common rank are listed in the patterns.

    Args:
        original: the configuration of the original adapter; if it names no target modules, they are the paths.
        modules: by path.

    Example:
        >>> update = LowRankUpdate(np.ones((3, 2)), np.ones((2, 3)))
        >>> config = plain_configuration({"target_modules": ["q"]}, {"q": plain_module("q", update)})
        >>> config["r"], config["lora_alpha"], config["rank_pattern"]
        (2, 2, {})
    """
    kept = {name: original[name] for name in KEPT_FIELDS if original.get(name) is not None}
    if original.get("peft_type") == "LORA":
        kept = dict(original)
    kept.setdefault("target_modules", [path for path, module in modules.items() if not module.experts])
    common = Counter(module.rank for module in modules.values()).most_common(1)[0][0]
    pattern = {module.pattern: module.rank for module in modules.values() if module.rank != common}
    return kept | {
        "peft_type": "LORA",
        "r": common,
        "lora_alpha": common,
        "rank_pattern": pattern,
        "alpha_pattern": dict(pattern),
        "use_rslora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
