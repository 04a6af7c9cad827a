"""What a plain LoRA adapter of PEFT consists of, made from any low-rank updates. numpy only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msplora_core.linalg.truncation import Truncated, truncate
from msplora_core.linalg.updates import LowRankUpdate, joined

KEPT_FIELDS = (
    "base_model_name_or_path", "revision", "task_type", "auto_mapping", "target_modules", "exclude_modules",
    "layers_to_transform", "layers_pattern", "modules_to_save", "bias", "fan_in_fan_out", "lora_dropout",
    "peft_version",
)  # fmt: skip
"""What an adapter's configuration says of model and modules, whatever its method."""


@dataclass(frozen=True, eq=False)
class PlainModule:
    """One module's update as LoRA keeps it.

    Args:
        path: of the module in the base model.
        B: (out, r) float32, the scaling folded in; (out, r, 1, ...) for a convolution.
        A: (r, in) float32; (r, in, height, ...) for a convolution.
        rank_before: rank of the update that it was made from.
        error: what was cut off, as a share of the update in the Frobenius norm; 0 where nothing was.
        embedding: whether the module is an embedding, whose factors PEFT names and keeps otherwise.
    """

    path: str
    B: NDArray[np.float32]
    A: NDArray[np.float32]
    rank_before: int
    error: float
    embedding: bool = False

    @property
    def rank(self) -> int:
        return int(self.A.shape[0])

    def tensors(self, prefix: str = "base_model.model.") -> dict[str, NDArray[np.float32]]:
        """Its factors by the names under which PEFT saves them."""
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
) -> PlainModule:
    """One module's update as LoRA keeps it: as it is, or cut down.

    Args:
        path: of the module in the base model.
        update: what the adapter adds to its weight.
        rank: how many ranks to keep at most; all by default.
        energy: instead, the least share of Σσ² to keep.
        embedding: whether the module is an embedding.
        kernel: (in, height, ...) of a convolution, whose update is flattened to a matrix.

    Raises:
        ParameterError: for a rank or an energy that cannot be.
    """
    whole = rank is None and energy is None
    cut = Truncated(joined([update]), 0.0) if whole else truncate(update, rank=rank, energy=energy)
    B, A = (np.ascontiguousarray(factor, dtype=np.float32) for factor in (cut.update.B, cut.update.A))
    if len(kernel) > 1:
        B, A = B.reshape(*B.shape, *(1 for _ in kernel[1:])), A.reshape(len(A), *kernel)
    return PlainModule(path, B, A, update.rank, cut.error, embedding)


def plain_configuration(original: Mapping[str, Any], modules: Mapping[str, PlainModule]) -> dict[str, Any]:
    """The `adapter_config.json` for plain modules.

    α equals r everywhere, so that the scaling is 1; modules of another rank than most stand in the patterns.

    Args:
        original: the configuration of the adapter that they were made from.
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
    ranks = {path: module.rank for path, module in modules.items()}
    common = Counter(ranks.values()).most_common(1)[0][0]
    # PEFT matches a pattern with the end of a path; from its start on, it matches this path alone.
    pattern = {f"^{re.escape(path)}": rank for path, rank in ranks.items() if rank != common}
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
