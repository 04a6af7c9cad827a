"""Triangular factors R of tall matrices M = Q·R, by the fastest method that keeps full accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAFE = 0.01
"""Smallest eigenvalue of a Gram matrix of unit columns at which Cholesky keeps full accuracy.

The relative error of the factor is about r·eps / eigenvalue; at 0.01 it stays near 1e-13 for the ranks in use.
"""

_BLOCK_ELEMENTS = 2**13
"""Size of the blocks of rows for Householder QR: a block fits the cache, and BLAS does not split it among threads.

Threads synchronise after every column, which on a busy machine takes a hundred times as long as the arithmetic.
"""

_SMALLEST_SQUARE, _LARGEST_SQUARE = 1e-200, 1e200
"""Outside this range, squares of float64 columns lose digits to underflow or overflow."""

_qr: Any = partial(np.linalg.qr, mode="r")  # numpy's type stubs know of the other modes only


def triangular_factor(M: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return R of M = Q·R for a batch of matrices, its rows up to sign.

    Cholesky of the Gram matrix gives R at the cost of one matrix product, but squares the condition number. So the
    columns are scaled to unit length, and the smallest eigenvalue decides: far from zero, R is as accurate as
    Householder's. Closer to zero, M is first preconditioned with the R of a random sketch of its rows, and the same
    check applies (randomised preconditioned Cholesky QR; Garrison and Ipsen 2024, arXiv 2406.11751). If that fails,
    as for dependent columns, Householder QR computes R.

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
        R[~accurate] = _by_sketch(M[~accurate])
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


def _by_sketch(M: NDArray[np.float64]) -> NDArray[np.float64]:
    """R by Cholesky after preconditioning with a sketch, or by Householder QR if that is not accurate."""
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow leaves a pivot that is not finite
        sketched = _qr(_sketch(M))
    pivots = abs(np.diagonal(sketched, axis1=-2, axis2=-1))
    sound = np.isfinite(sketched).all(axis=(-1, -2)) & (pivots > _SMALLEST_SQUARE).all(axis=-1)
    R: NDArray[np.float64] = np.empty_like(sketched)
    usable = np.flatnonzero(sound)
    accurate = np.zeros(len(M), dtype=bool)
    if len(usable):
        outer, accurate[usable] = _by_gram(np.stack([_solved(sketched[place], M[place]) for place in usable]))
        R[usable] = outer @ sketched[usable]
    if not accurate.all():
        R[~accurate] = stacked_triangular_factor(_row_blocks(M[~accurate]))
    return R


def _sketch(M: NDArray[np.float64]) -> NDArray[np.float64]:
    """2r sums of rows with random signs (count sketch): (n, rows, r) -> (n, at most 2r, r).

    The seed is fixed, so that results are reproducible.
    """
    count, rows, rank = M.shape
    size = min(2 * rank, rows)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=rows)
    whole = rows - rows % size
    stacked = M[:, :whole].reshape(count, -1, size, rank)
    sketch: NDArray[np.float64] = np.einsum("nmkr,mk->nkr", stacked, signs[:whole].reshape(-1, size))
    sketch[:, : rows - whole] += M[:, whole:] * signs[whole:, None]
    return sketch


def _solved(R: NDArray[np.float64], M: NDArray[np.float64]) -> NDArray[np.float64]:
    """M·R⁻¹ by substitution, whose error is small in each row even if R is ill-conditioned."""
    from scipy.linalg.blas import dtrsm  # slow to import, and needed for ill-conditioned factors only

    if M.flags.f_contiguous:
        return np.asarray(dtrsm(1.0, R, M, side=1))
    return np.asarray(dtrsm(1.0, R, M.T, side=0, trans_a=1)).T


def _row_blocks(M: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Blocks of consecutive rows that fit the cache."""
    step = max(2 * M.shape[-1], _BLOCK_ELEMENTS // M.shape[-1])
    for start in range(0, M.shape[-2], step):
        yield M[:, start : start + step]
