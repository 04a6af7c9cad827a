"""Triangular factors R of tall matrices M = Q·R, by the fastest method that keeps full accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAFE = 0.01
"""Smallest eigenvalue of a Gram matrix of unit columns at which Cholesky keeps full accuracy.

The relative error of the factor is about r·eps / eigenvalue; at 0.01 it stays near 1e-13 for the ranks in use.
"""

_SMALLEST_SQUARE, _LARGEST_SQUARE = 1e-200, 1e200
"""Outside this range, squares of float64 columns lose digits to underflow or overflow."""

_qr: Any = partial(np.linalg.qr, mode="r")  # numpy's type stubs know of the other modes only


def triangular_factor(M: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return R of M = Q·R for a batch of matrices, its rows up to sign.

    Cholesky of the Gram matrix gives R at the cost of one matrix product, but squares the condition number. So the
    columns are scaled to unit length, and the smallest eigenvalue decides: far from zero, R is as accurate as
    Householder's. Closer to zero, Householder QR computes R.

    Args:
        M: (n, rows, r) float64, finite.

    Returns:
        (n, min(rows, r), r) float64.

    Example:
        >>> abs(triangular_factor(np.array([[[3.0, 0.0], [4.0, 0.0], [0.0, 2.0]]])))
        array([[[5., 0.],
                [0., 2.]]])
    """
    if M.shape[-2] < M.shape[-1]:
        result: NDArray[np.float64] = _qr(M)
        return result
    R, accurate = _by_gram(M)
    if not accurate.all():
        # Threads of BLAS would wait for each other after every column; a batch of matrices would be copied.
        with _loaded_blas().limit(limits=1, user_api="blas"):
            for place in np.flatnonzero(~accurate):
                R[place] = _qr(M[place])
    return R


def stacked_triangular_factor(blocks: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return R of stacked blocks of rows, with one block in memory at a time.

    As stable as Householder QR of the whole (TSQR; Demmel et al. 2012, arXiv 0808.2664).

    Args:
        blocks: (..., rows, r) each; at least one.

    Returns:
        (..., min(rows of all, r), r).

    Example:
        >>> abs(stacked_triangular_factor([np.array([[3.0]]), np.array([[4.0]])]))
        array([[5.]])
    """
    R: NDArray[np.float64] | None = None
    for block in blocks:
        R = _qr(block if R is None else np.concatenate([R, block], axis=-2))
    assert R is not None
    return R


@cache
def _loaded_blas() -> Any:
    """The library that numpy calls; it takes a millisecond to find."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _by_gram(M: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """R by Cholesky of the scaled Gram matrix, and whether it is accurate for each matrix of the batch."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        gram = M.swapaxes(-1, -2) @ M
    squares = np.diagonal(gram, axis1=-2, axis2=-1)
    accurate = np.asarray(((squares > _SMALLEST_SQUARE) & (squares < _LARGEST_SQUARE)).all(axis=-1))
    norms = np.sqrt(np.where(accurate[:, None], squares, 1.0))
    unit = np.where(accurate[:, None, None], gram, np.eye(gram.shape[-1])) / (norms[:, :, None] * norms[:, None, :])
    accurate &= np.linalg.eigvalsh(unit)[..., 0] >= _SAFE
    unit[~accurate] = np.eye(gram.shape[-1])
    return np.linalg.cholesky(unit).swapaxes(-1, -2) * norms[:, None, :], accurate
