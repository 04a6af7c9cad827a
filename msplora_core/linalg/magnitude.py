"""Divide powers of two out of matrices, so that products of large or small factors neither overflow nor underflow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_core.errors import ParameterError


def divided(M: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Divide each matrix by the power of two that brings its largest entry into [0.5, 1).

    Args:
        M: (..., rows, columns) float64, finite.

    Returns:
        The matrices, exact, and the exponents (...), 0 for a zero matrix.

    Example:
        >>> divided(np.array([[3.0, -6.0]]))
        (array([[ 0.375, -0.75 ]]), array(3, dtype=int32))
    """
    exponent = np.frexp(np.abs(M).max(axis=(-2, -1), initial=0.0))[1]
    return np.ldexp(M, -exponent[..., None, None]), np.asarray(exponent)


def multiplied(sigma: NDArray[Any], scaling: ArrayLike, exponent: ArrayLike) -> NDArray[np.float64]:
    """Return |scaling|·sigma·2^exponent.

    Args:
        sigma: (..., r) float64.
        scaling: (...), any sign.
        exponent: (...), the sum of the exponents from `divided`.

    Raises:
        ParameterError: if a value exceeds the range of float64.

    Example:
        >>> multiplied(np.array([0.75, 0.5]), -2.0, 3)
        array([12.,  8.])
    """
    part, more = np.frexp(np.abs(np.asarray(scaling, dtype=np.float64)))
    with np.errstate(over="ignore", under="ignore"):
        result: NDArray[np.float64] = np.ldexp(sigma * part[..., None], (np.asarray(exponent) + more)[..., None])
    if not np.isfinite(result).all():
        limit = np.finfo(np.float64).max
        raise ParameterError("B, A, scaling", expected=f"singular values up to {limit:.2g}", found="larger ones")
    return result
