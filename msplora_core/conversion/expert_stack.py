"""The experts of one adapted parameter, stacked as LoRA of PEFT keeps them (`target_parameters`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from msplora_core.conversion.limits import joint_error
from msplora_core.conversion.plain import PlainModule


def stacked(path: str, experts: Sequence[PlainModule]) -> PlainModule:
    """Return the factors of several experts as those of one layer.

    Args:
        path: of the layer around the parameter.
        experts: the update of each, all of one shape and rank.

    Returns:
        A (experts·r, in), whose rows are by expert and then by rank, and B (out, r·experts), whose columns are by rank
        and then by expert.
    """
    B = np.stack([one.B for one in experts], axis=-1)
    return replace(
        experts[0],
        path=path,
        B=B.reshape(len(B), -1),
        A=np.concatenate([one.A for one in experts]),
        error=joint_error(experts),
        norm=float(np.linalg.norm([one.norm for one in experts])),
        experts=len(experts),
    )
