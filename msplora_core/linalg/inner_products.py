"""Inner products between weight updates, from their factors alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import ParameterError
from msplora_core.linalg.truncation import low_rank_svd
from msplora_core.linalg.updates import LowRankUpdate

_SAFE_CANCELLATION = 1e3
"""Largest ratio between the terms of a squared norm and the norm itself for which the factors are used as they are.

The terms cancel where the columns of B·A nearly do. The relative error is about eps times this ratio.
"""


def update_inner_products(updates: Sequence[LowRankUpdate]) -> NDArray[np.float64]:
    """Return the Frobenius inner products of weight updates of one shape.

    ⟨ΔW_i, ΔW_j⟩ = s_i·s_j·tr((B_iᵀ·B_j)·(A_j·A_iᵀ)), at O(L²·r²·(in + out)) and without a matrix of size
    out × in. Where the terms of the trace cancel, the factors are replaced by those of the singular value
    decomposition first, which do not. Every value agrees with that of the dense updates to 1e-12 of the largest.

    Args:
        updates: L updates of equal shape (out, in); ranks and dtypes may differ.

    Returns:
        (L, L) float64, symmetric; the squared Frobenius norms on the diagonal.

    Raises:
        ParameterError: if shapes differ, or a value is not finite.

    Example:
        >>> one = LowRankUpdate(np.array([[1.0], [0.0]]), np.array([[3.0, 4.0]]))
        >>> two = LowRankUpdate(np.array([[1.0], [1.0]]), np.array([[1.0, 0.0]]), scaling=2.0)
        >>> update_inner_products([one, two])
        array([[25.,  6.],
               [ 6.,  8.]])
    """
    shapes = {update.shape for update in updates}
    if len(shapes) > 1:
        raise ParameterError("updates", expected="updates of one shape", found=sorted(shapes))
    if not all(np.isfinite(factor).all() for update in updates for factor in (update.B, update.A)):
        raise ParameterError("updates", expected="finite numbers", found="NaN or infinity")
    if not updates:
        return np.zeros((0, 0))
    products, terms = _from_factors(updates)
    if terms <= _SAFE_CANCELLATION * np.diagonal(products).max():
        return products
    return _from_factors([_orthogonal(update) for update in updates])[0]


def _from_factors(updates: Sequence[LowRankUpdate]) -> tuple[NDArray[np.float64], float]:
    """The inner products, and the largest sum of the sizes of the terms of a squared norm; NaN on overflow."""
    ranks = [update.rank for update in updates]
    starts = np.cumsum([0, *ranks[:-1]])
    B = np.concatenate([update.B.T.astype(np.float64) * update.scaling for update in updates])
    A = np.concatenate([update.A.astype(np.float64) for update in updates])
    products = np.empty((len(updates), len(updates)))
    with np.errstate(over="ignore", invalid="ignore"):
        for i, (start, rank) in enumerate(zip(starts, ranks, strict=True)):
            own = slice(start, start + rank)
            terms = ((B[own] @ B[start:].T) * (A[own] @ A[start:].T)).sum(axis=0)
            products[i, i:] = products[i:, i] = np.add.reduceat(terms, starts[i:] - start)
        sizes = np.add.reduceat(np.linalg.norm(B, axis=1) * np.linalg.norm(A, axis=1), starts)
        return products, float((sizes**2).max())


def _orthogonal(update: LowRankUpdate) -> LowRankUpdate:
    """The same update with orthogonal columns of B and orthonormal rows of A."""
    U, sigma, Vt = low_rank_svd(update.B, update.A, update.scaling)
    return LowRankUpdate(U * sigma, Vt)
