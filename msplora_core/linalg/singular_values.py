"""Exact singular values of low-rank products, from the factors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_core.errors import ParameterError
from msplora_core.linalg.magnitude import divided, multiplied
from msplora_core.linalg.triangular import triangular_factor

_CHUNK_ELEMENTS = 2**18
"""Factor elements converted to float64 at a time: 2 MB, which fit the cache."""


def low_rank_singular_values(B: ArrayLike, A: ArrayLike, scaling: ArrayLike = 1.0) -> NDArray[np.float64]:
    """Return the singular values of scaling·B·A, without forming the product.

    With B = Q_B·R_B and Aᵀ = Q_A·R_A, they are the singular values of the r × r core R_B·R_Aᵀ, at
    O((in + out)·r²) instead of O(in·out·min(in, out)). Each value agrees with a dense float64 SVD of the product to
    1e-12 of the largest, also if they spread over many orders of magnitude, and for rank-deficient and zero factors.

    Args:
        B: (..., out, r), any float dtype (also bfloat16 of ml_dtypes).
        A: (..., r, in), any float dtype; leading axes as those of B.
        scaling: one number, or one for each product of the batch; its sign does not matter.

    Returns:
        (..., r) float64, descending; if r exceeds in or out, the rest are zero.

    Raises:
        ParameterError: if the shapes do not fit, or a value is not finite or too large for float64.

    Example:
        >>> B, A = np.eye(5, 2), np.diag([1.0, 3.0])
        >>> low_rank_singular_values(B, A, scaling=2.0)
        array([6., 2.])
    """
    return _spectra(B, A, scaling, factors=False)[0]


def factored_singular_values(
    B: ArrayLike, A: ArrayLike, scaling: ArrayLike = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the singular values of scaling·B·A, of B alone and of A alone, from the same triangular factors.

    Args:
        B, A, scaling: as for `low_rank_singular_values`.

    Returns:
        Three times (..., r) float64, descending; those of the factors without the scaling.

    Raises:
        ParameterError: as `low_rank_singular_values`.

    Example:
        >>> factored_singular_values(np.eye(5, 2), np.diag([1.0, 3.0]), scaling=2.0)
        (array([6., 2.]), array([1., 1.]), array([3., 1.]))
    """
    product, *factors = _spectra(B, A, scaling, factors=True)
    return product, factors[0], factors[1]


def _spectra(B: ArrayLike, A: ArrayLike, scaling: ArrayLike, *, factors: bool) -> list[NDArray[np.float64]]:
    """Singular values of the product and, with `factors`, of both factors, each (..., r)."""
    B, A = np.asarray(B), np.asarray(A)
    if B.ndim < 2 or A.ndim != B.ndim or B.shape[:-2] != A.shape[:-2] or B.shape[-1] != A.shape[-2]:
        raise ParameterError("B, A", expected="shapes (..., out, r) and (..., r, in)", found=(B.shape, A.shape))
    batch, (out, rank), columns = B.shape[:-2], B.shape[-2:], A.shape[-1]
    factor = np.asarray(scaling, dtype=np.float64)
    if factor.shape not in ((), batch):
        raise ParameterError("scaling", expected=f"one number, or shape {batch}", found=f"shape {factor.shape}")
    if not np.isfinite(factor).all():
        raise ParameterError("scaling", expected="finite numbers", found=scaling)
    found = [np.zeros((*batch, rank)) for _ in range(3 if factors else 1)]
    if found[0].size == 0 or out == 0 or columns == 0:
        return found
    factor = np.broadcast_to(factor, batch).reshape(-1)
    B, At = B.reshape(-1, out, rank), A.reshape(-1, rank, columns).swapaxes(-1, -2)
    flat = [sigma.reshape(-1, rank) for sigma in found]
    step = max(1, _CHUNK_ELEMENTS // (rank * max(out, columns)))
    for start in range(0, len(factor), step):
        chunk = slice(start, start + step)
        (left, left_exponent), (right, right_exponent) = _factor("B", B[chunk]), _factor("A", At[chunk])
        parts: list[tuple[NDArray[np.float64], ArrayLike, NDArray[Any]]] = [
            (left @ right.swapaxes(-1, -2), factor[chunk], left_exponent + right_exponent)
        ]
        if factors:
            parts += [(left, 1.0, left_exponent), (right, 1.0, right_exponent)]
        for sigma, (core, scale, exponent) in zip(flat, parts, strict=True):
            values = np.linalg.svd(core, compute_uv=False)
            sigma[chunk, : values.shape[-1]] = multiplied(values, scale, exponent)
    return found


def _factor(name: str, M: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """The triangular factor of each matrix, divided by a power of two."""
    M = _finite(name, M)
    with np.errstate(over="ignore", invalid="ignore"):
        R = triangular_factor(M)
    if np.isfinite(R).all():
        return divided(R)
    M, exponent = divided(M)  # norms of the columns exceed float64
    R, more = divided(triangular_factor(M))
    return R, exponent + more


def _finite(name: str, M: NDArray[Any]) -> NDArray[np.float64]:
    """The factor in float64, if all values are finite."""
    M = M.astype(np.float64, copy=False)
    # The sum is not finite if a value is not; checking each value is slower.
    with np.errstate(over="ignore", invalid="ignore"):
        total = M.sum()
    if not np.isfinite(total) and not np.isfinite(M).all():
        raise ParameterError(name, expected="finite numbers", found="NaN or infinity")
    return M
