"""Inner products between weight updates, from their factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import ParameterError
from msplora_core.linalg.truncation import low_rank_svd
from msplora_core.linalg.updates import LowRankUpdate

_SAFE_CANCELLATION = 1e3
"""Largest ratio of the terms of a squared norm to that norm for which the factors are used directly.

The terms cancel if the rank-one parts of B·A nearly cancel. The relative error is about eps times this ratio.
"""


_PANEL = 2048
"""Columns of factors that are multiplied at once, a compromise between speed and memory."""


def update_inner_products(
    updates: Sequence[LowRankUpdate | tuple[NDArray[Any], NDArray[Any], float]],
) -> NDArray[np.float64]:
    """Return the Frobenius inner products of weight updates of one shape.

    ⟨ΔW_i, ΔW_j⟩ = s_i·s_j·tr((B_iᵀ·B_j)·(A_j·A_iᵀ)), at O(L²·r²·(in + out)) and without a matrix of size
    out × in. If the terms of an update's trace cancel, its factors are first replaced by those of the singular value
    decomposition, whose terms do not. Every value agrees with that of the dense updates to 1e-12 of ‖ΔW_i‖·‖ΔW_j‖; if
    columns of B·A cancel to a share c of their size, to about 1e-16 / c, like a dense product in float64.

    Args:
        updates: L updates of equal shape (out, in), or their (B, A, scaling); ranks and dtypes may differ.

    Returns:
        (L, L) float64, symmetric; the squared Frobenius norms on the diagonal.

    Raises:
        ParameterError: if shapes differ or do not fit, or a value is not finite, or a result beyond float64.

    Example:
        >>> one = LowRankUpdate(np.array([[1.0], [0.0]]), np.array([[3.0, 4.0]]))
        >>> two = (np.array([[1.0], [1.0]]), np.array([[1.0, 0.0]]), 2.0)
        >>> update_inner_products([one, two])
        array([[25.,  6.],
               [ 6.,  8.]])
    """
    given = [update if isinstance(update, LowRankUpdate) else LowRankUpdate(*update) for update in updates]
    for update in given:
        _check(update)
    shapes = {update.shape for update in given}
    if len(shapes) > 1:
        raise ParameterError("updates", expected="updates of one shape", found=sorted(shapes))
    products = np.zeros((len(given), len(given)))
    known = [place for place, update in enumerate(given) if update.rank]
    if known:
        products[np.ix_(known, known)] = _accurate([given[place] for place in known])
    if not np.isfinite(products).all():
        limit = np.sqrt(np.finfo(np.float64).max)
        raise ParameterError("updates", expected=f"Frobenius norms up to {limit:.2g}", found="larger ones")
    return products


def _check(update: LowRankUpdate) -> None:
    B, A = update.B, update.A
    if B.ndim != 2 or A.ndim != 2 or B.shape[1] != A.shape[0]:
        raise ParameterError("updates", expected="factors (out, r) and (r, in)", found=(B.shape, A.shape))
    if not (np.isfinite(B).all() and np.isfinite(A).all() and np.isfinite(update.scaling)):
        raise ParameterError("updates", expected="finite numbers", found="NaN or infinity")


def _accurate(updates: list[LowRankUpdate]) -> NDArray[np.float64]:
    products, terms = _from_factors(updates)
    cancel = ~(terms <= _SAFE_CANCELLATION * np.diagonal(products))  # NaN, after an overflow, is not safe
    if not cancel.any():
        return products
    sound = [_orthogonal(update) if hard else update for update, hard in zip(updates, cancel, strict=True)]
    return _from_factors(sound)[0]


def _from_factors(updates: Sequence[LowRankUpdate]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The inner products, and the sum of the absolute terms of each squared norm; NaN on overflow."""
    out, in_ = updates[0].shape
    starts = np.cumsum([0, *(update.rank for update in updates)])
    B, A = np.empty((out, starts[-1])), np.empty((starts[-1], in_))
    for update, start, end in zip(updates, starts, starts[1:], strict=False):
        np.multiply(update.B, update.scaling, out=B[:, start:end], dtype=np.float64)
        A[start:end] = update.A
    products = np.zeros((len(updates), len(updates)))
    panels = _panels(starts)
    with np.errstate(over="ignore", invalid="ignore"):
        for place, (first, last) in enumerate(panels):
            for other_first, other_last in panels[place:]:
                rows, columns = (slice(starts[i], starts[j]) for i, j in ((first, last), (other_first, other_last)))
                terms = B[:, rows].T @ B[:, columns]
                terms *= A[rows] @ A[columns].T
                sums = np.add.reduceat(terms, starts[other_first:other_last] - starts[other_first], axis=1)
                found = np.add.reduceat(sums, starts[first:last] - starts[first], axis=0)
                products[first:last, other_first:other_last] = found
        products = np.triu(products) + np.triu(products, 1).T
        sizes = np.add.reduceat(np.linalg.norm(B, axis=0) * np.linalg.norm(A, axis=1), starts[:-1])
        return products, sizes**2


def _panels(starts: NDArray[np.int_]) -> list[tuple[int, int]]:
    """Ranges of consecutive updates whose ranks add up to at most `_PANEL`."""
    panels, first = [], 0
    for last in range(1, len(starts)):
        if last == len(starts) - 1 or starts[last + 1] - starts[first] > _PANEL:
            panels.append((first, last))
            first = last
    return panels


def _orthogonal(update: LowRankUpdate) -> LowRankUpdate:
    """The same update with orthogonal columns of B and orthonormal rows of A."""
    U, sigma, Vt = low_rank_svd(update)
    return LowRankUpdate(U * sigma, Vt)
