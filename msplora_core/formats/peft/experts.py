"""Updates of parameters that hold the matrices of several experts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from msplora_core.components import ComponentKey
from msplora_core.formats.stored import StoredUpdate
from msplora_core.linalg.updates import LowRankUpdate, Update
from msplora_core.placement import expert_name
from msplora_core.storage.tensors import Tensor


def parameter_path(path: str, parameter: str) -> str:
    """Return the path of a parameter; PEFT nests the layers of several parameters of one module.

    Example:
        >>> parameter_path("layers.0.mlp.experts.base_layer", "gate_up_proj")
        'layers.0.mlp.experts.gate_up_proj'
    """
    return f"{path.replace('.base_layer', '')}.{parameter}"


def expert_updates(whole: StoredUpdate, B: Tensor, A: Tensor, experts: int) -> Iterator[StoredUpdate]:
    """Return the update of each expert: PEFT stacks the rows of A by expert, and the columns of B by rank.

    Args:
        whole: the product of the stacked factors, as `low_rank` gives it.
        B: (out, r·experts).
        A: (experts·r, in).
        experts: a divisor of the rank of `whole`.
    """
    rank = whole.rank // experts

    def update(expert: int) -> StoredUpdate:
        def load() -> Update:
            rows = slice(expert * rank, (expert + 1) * rank)
            return LowRankUpdate(B.read()[:, expert::experts], A.read()[rows], whole.scaling)

        key = whole.key
        return replace(
            whole,
            path=expert_name(whole.path, expert),
            rank=rank,
            load=load,
            key=key and ComponentKey(key.scale, expert_name(key.module, expert), key.unit),
            parameters=whole.parameters // experts,
        )

    return map(update, range(experts))
