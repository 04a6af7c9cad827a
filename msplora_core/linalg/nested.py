"""Singular values of the nested updates of DyLoRA: one for each rank up to the highest."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_core.linalg.singular_values import low_rank_singular_values


def nested_singular_values(B: ArrayLike, A: ArrayLike, scaling: ArrayLike = 1.0) -> NDArray[np.float64]:
    """Return the singular values of DyLoRA's update at each rank b ≤ r.

    DyLoRA (arXiv 2210.07558) trains factors that can be cut at any rank b: ΔW_b = (α/b)·B[:, :b]·A[:b]. At b = r this
    is the update of plain LoRA.

    Args:
        B: (..., out, r), any float dtype.
        A: (..., r, in), any float dtype; leading axes as those of B.
        scaling: α/r.

    Returns:
        (..., r, r) float64: row b − 1 holds the b values of ΔW_b, descending, then zeros.

    Raises:
        ParameterError: as `low_rank_singular_values`.

    Example:
        >>> nested_singular_values(np.eye(5, 2), np.diag([1.0, 3.0]), scaling=2.0)
        array([[4., 0.],
               [6., 2.]])

        For a run: `for layer, update in load_updates("runs/mrpc-dylora-r8-seed0").layers("query").items():`, then
        `nested_singular_values(update.B, update.A, update.scaling)`.
    """
    B, A = np.asarray(B), np.asarray(A)
    full = low_rank_singular_values(B, A, scaling)
    rank = full.shape[-1]
    found = np.zeros((*full.shape, rank))
    for b in range(1, rank + 1):
        found[..., b - 1, :b] = low_rank_singular_values(
            B[..., :b], A[..., :b, :], np.multiply(scaling, rank / b, dtype=np.float64)
        )
    return found
