"""Measures of the concentration of a spectrum."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_analysis.kernels.distribution import relative_to_largest, spectral_distribution
from msplora_core.errors import ParameterError
from msplora_core.linalg.truncation import ranks_holding


def effective_rank_ratio(sigma: ArrayLike, k: int) -> NDArray[np.float64]:
    """Return the share of the k largest singular values: M_eff-k = Σ_{i≤k} σᵢ / Σ_j σ_j (Eq. 8 of arXiv 2503.21838).

    It rises as information concentrates: a *high* ratio means a *simple* update. For k ≥ M it is 1 by definition.

    Args:
        sigma: (..., M) singular values, any real dtype, any order.
        k: number of singular values, at least 1.

    Returns:
        (...) float64 share of 1, between k/M and 1; NaN for a zero spectrum or one with NaN.

    Raises:
        ParameterError: if k is not a whole number of at least 1, or `sigma` holds no singular values.

    Example:
        >>> effective_rank_ratio([4.0, 3.0, 2.0, 1.0], k=1)
        np.float64(0.4)
        >>> effective_rank_ratio([[1, 0], [1, 1]], k=1)
        array([1. , 0.5])
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ParameterError("k", expected="a whole number, at least 1", found=k)
    relative = relative_to_largest(sigma)
    result: NDArray[np.float64] = relative[..., :k].sum(axis=-1) / relative.sum(axis=-1)
    return result


def stable_rank(sigma: ArrayLike) -> NDArray[np.float64]:
    """Return the stable rank, the squared Frobenius norm over the squared spectral norm: ‖σ‖₂² / σ₁².

    Args:
        sigma: (..., M) singular values, any real dtype, any order.

    Returns:
        (...) float64, in ranks, between 1 and M; NaN for a zero spectrum or one with NaN.

    Raises:
        ParameterError: if `sigma` holds no singular values.

    Example:
        >>> stable_rank([2.0, 2.0, 1.0])
        np.float64(2.25)
    """
    result: NDArray[np.float64] = np.square(relative_to_largest(sigma)).sum(axis=-1)
    return result


def entropy_rank(sigma: ArrayLike) -> NDArray[np.float64]:
    """Return the effective rank of Roy and Vetterli (2007): exp(−Σ p log p), with p from `spectral_distribution`.

    Args:
        sigma: (..., M) singular values, any real dtype, any order.

    Returns:
        (...) float64, in ranks, between 1 and M: higher means a broader, more complex update; NaN for a
        zero spectrum or one with NaN.

    Raises:
        ParameterError: if `sigma` holds no singular values.

    Example:
        >>> entropy_rank([[5.0, 5.0, 0.0], [1.0, 0.0, 0.0]])
        array([2., 1.])
    """
    p = spectral_distribution(sigma)
    result: NDArray[np.float64] = np.exp(-(p * np.log(p, out=np.zeros_like(p), where=p != 0)).sum(axis=-1))
    return result


def participation_ratio(sigma: ArrayLike) -> NDArray[np.float64]:
    """Return the participation ratio, the effective number of directions by energy: (Σσ²)² / Σσ⁴.

    Args:
        sigma: (..., M) singular values, any real dtype, any order.

    Returns:
        (...) float64, in ranks, between 1 and M; NaN for a zero spectrum or one with NaN.

    Raises:
        ParameterError: if `sigma` holds no singular values.

    Example:
        >>> participation_ratio([1.0, 1.0, 1.0, 0.0])
        np.float64(3.0)
    """
    energy = np.square(relative_to_largest(sigma))
    result: NDArray[np.float64] = np.square(energy.sum(axis=-1)) / np.square(energy).sum(axis=-1)
    return result


def energy_rank(sigma: ArrayLike, share: float = 0.9) -> NDArray[np.float64]:
    """Return the least k whose squared singular values reach a share of all: Σ_{i≤k} σᵢ² ≥ share·Σ_j σ_j².

    Args:
        sigma: (..., M) singular values, any real dtype, any order.
        share: of the squared Frobenius norm, above 0 and at most 1.

    Returns:
        (...) float64 whole ranks, between 1 and M, to the precision of a float64 sum; NaN for a zero
        spectrum or one with NaN.

    Raises:
        ParameterError: if `share` is out of range, or `sigma` holds no singular values.

    Example:
        >>> energy_rank([3.0, 1.0, 1.0], share=0.9)
        np.float64(2.0)
    """
    if not 0 < share <= 1:
        raise ParameterError("share", expected="above 0 and at most 1", found=share)
    squares = np.square(relative_to_largest(sigma))
    return np.where(np.isnan(squares).any(axis=-1), np.nan, ranks_holding(squares, share))[()]
