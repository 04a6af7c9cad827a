"""Singular value decomposition and truncation of low-rank updates, without forming the product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import ParameterError
from msplora_core.linalg.magnitude import divided, multiplied
from msplora_core.linalg.updates import LowRankUpdate


def low_rank_svd(update: LowRankUpdate) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the thin singular value decomposition U·diag(σ)·Vᵀ of a low-rank update.

    With B = Q_B·R_B and Aᵀ = Q_A·R_A, it is the SVD of the r × r core R_B·R_Aᵀ, multiplied by Q_B and Q_A.

    Args:
        update: ΔW = scaling·B·A.

    Returns:
        U (out, k), σ (k,) descending and Vᵀ (k, in), float64, with k = min(r, out, in).

    Raises:
        ParameterError: if the inner sizes differ, or a value is not finite or too large for float64.

    Example:
        >>> U, sigma, Vt = low_rank_svd(LowRankUpdate(np.eye(5, 2), np.diag([1.0, 3.0]), scaling=2.0))
        >>> sigma
        array([6., 2.])
        >>> np.allclose(U * sigma @ Vt, 2 * np.eye(5, 2) @ np.diag([1.0, 3.0]))
        True
    """
    B, A, scaling = update.B.astype(np.float64), update.A.astype(np.float64), update.scaling
    if B.ndim != 2 or A.ndim != 2 or B.shape[1] != A.shape[0]:
        raise ParameterError("B, A", expected="shapes (out, r) and (r, in)", found=(B.shape, A.shape))
    if not (np.isfinite(B).all() and np.isfinite(A).all() and np.isfinite(scaling)):
        raise ParameterError("B, A, scaling", expected="finite numbers", found="NaN or infinity")
    (B, left_exponent), (A, right_exponent) = divided(B), divided(A)
    left, left_core = np.linalg.qr(B)
    right, right_core = np.linalg.qr(A.T)
    U, sigma, Vt = np.linalg.svd(left_core @ right_core.T, full_matrices=False)
    sign = -1.0 if scaling < 0 else 1.0
    return sign * left @ U, multiplied(sigma, scaling, left_exponent + right_exponent), Vt @ right.T


@dataclass(frozen=True, eq=False)
class Truncated:
    """An update of reduced rank.

    Args:
        update: the best approximation of its rank in the Frobenius norm; factors of equal weight, scaling 1, float64.
        error: norm of the error, relative to the norm of the original update.
        norm: of the original update in the Frobenius norm.
    """

    update: LowRankUpdate
    error: float
    norm: float


def truncate(update: LowRankUpdate, *, rank: int | None = None, energy: float | None = None) -> Truncated:
    """Keep the leading part of an update's singular value decomposition (Eckart and Young 1936).

    Args:
        update: any low-rank update.
        rank: maximum number of singular values to keep.
        energy: instead, the smallest share of Σσ² to keep.

    Returns:
        The truncated update, of rank at least 1, and its error.

    Raises:
        ParameterError: unless exactly one of `rank` and `energy` is given, at least 1 or within (0, 1].

    Example:
        >>> cut = truncate(LowRankUpdate(np.eye(5, 2), np.diag([1.0, 3.0])), rank=1)
        >>> cut.update.singular_values(), round(cut.error, 6)
        (array([3.]), 0.316228)
    """
    check_limit(rank, energy)
    U, sigma, Vt = low_rank_svd(update)
    relative = sigma / (sigma[0] or 1.0)
    kept = rank if energy is None else int(ranks_holding(relative**2, energy))
    kept = max(1, min(kept or 1, len(sigma)))
    root = np.sqrt(sigma[:kept])
    whole = np.linalg.norm(relative)
    error = float(np.linalg.norm(relative[kept:]) / whole) if whole else 0.0
    return Truncated(LowRankUpdate(B=U[:, :kept] * root, A=root[:, None] * Vt[:kept]), error, float(whole * sigma[0]))


def ranks_holding(squares: NDArray[np.float64], share: float) -> NDArray[np.intp]:
    """Return the least k with Σ_{i≤k} σᵢ² ≥ share·Σ_j σ_j².

    A share is reached up to the rounding of a float64 sum (1e-12 of it).

    Args:
        squares: (..., M) squared singular values, descending.
        share: above 0 and at most 1.

    Returns:
        (...) whole ranks, between 1 and M; 1 for a zero spectrum.

    Example:
        >>> ranks_holding(np.array([0.7, 0.2, 0.1]), 0.9)
        np.int64(2)
    """
    reached = np.cumsum(squares, axis=-1)
    missing = reached < share * (1 - 1e-12) * reached[..., -1:]
    return np.asarray(1 + np.count_nonzero(missing, axis=-1))[()]


def check_limit(rank: int | None, energy: float | None) -> None:
    """Check the limits of a truncation.

    Raises:
        ParameterError: as `truncate`.
    """
    if (rank is None) == (energy is None):
        raise ParameterError("rank, energy", expected="one of the two", found=(rank, energy))
    if rank is not None and rank < 1:
        raise ParameterError("rank", expected="at least 1", found=rank)
    if energy is not None and not 0 < energy <= 1:
        raise ParameterError("energy", expected="a share above 0 and at most 1", found=energy)
