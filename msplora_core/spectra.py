"""Exact singular values of low-rank products, from the factors alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_core.errors import ParameterError


def low_rank_singular_values(B: ArrayLike, A: ArrayLike, scaling: ArrayLike = 1.0) -> NDArray[np.float64]:
    """Singular values of scaling·B·A, without forming the product.

    Triangular factors B = Q_B·R_B and Aᵀ = Q_A·R_A leave the singular values to the r × r core
    R_B·R_Aᵀ, at O((in + out)·r²) instead of O(in·out·min(in, out)). Each value agrees with a dense
    float64 SVD of the product to 1e-12 of the largest, also where they spread over many orders of
    magnitude, and for rank-deficient and zero factors.

    Args:
        B: (..., out, r), any float dtype (bfloat16 as ml_dtypes has it, too).
        A: (..., r, in), any float dtype.
        scaling: one number, or one for each product of the batch; its sign does not matter.

    Returns:
        (..., r) float64, descending; where r exceeds in or out, the rest are zero.

    Raises:
        ParameterError: if the inner sizes differ, or a value is not finite.

    Example:
        >>> B, A = np.eye(5, 2), np.diag([1.0, 3.0])
        >>> low_rank_singular_values(B, A, scaling=2.0)
        array([6., 2.])
    """
    B, A = np.asarray(B).astype(np.float64), np.asarray(A).astype(np.float64)
    if B.ndim < 2 or A.ndim < 2 or B.shape[-1] != A.shape[-2]:
        raise ParameterError("B, A", expected="shapes (..., out, r) and (..., r, in)", found=(B.shape, A.shape))
    if not (np.isfinite(B).all() and np.isfinite(A).all() and np.isfinite(scaling).all()):
        raise ParameterError("B, A, scaling", expected="finite numbers", found="NaN or infinity")
    rank = A.shape[-2]
    core = np.linalg.qr(B, mode="r") @ np.swapaxes(np.linalg.qr(np.swapaxes(A, -1, -2), mode="r"), -1, -2)
    sigma = np.linalg.svd(core, compute_uv=False) * np.abs(np.asarray(scaling, dtype=np.float64))[..., None]
    missing = rank - sigma.shape[-1]
    return np.pad(sigma, [(0, 0)] * (sigma.ndim - 1) + [(0, missing)]) if missing else sigma
