"""Exact singular values of low-rank products, from the factors alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_core.errors import ParameterError

_CHUNK_ELEMENTS = 2**18
"""Factor elements converted to float64 at a time: 2 MB, so that they are still in the cache when used."""

_SAFE = 0.01
"""Least eigenvalue of a Gram matrix of unit columns from which Cholesky keeps full accuracy.

The factor's relative error is about r·eps / eigenvalue; at 0.01 it stays near 1e-13 for the ranks in use.
"""

_USABLE = 1e-4
"""The same, from which a first Cholesky factor serves to make the columns nearly orthonormal."""

_BLOCK_ELEMENTS = 2**13
"""Of the blocks of rows that Householder's QR works on: they fit the cache, and no BLAS shares so few among threads.

Its threads would meet after every column, and on a busy machine wait for each other a hundred times longer than
they compute.
"""

_LEAST_SQUARE, _LARGEST_SQUARE = 1e-200, 1e200
"""Outside these, squares of float64 columns lose digits to underflow or overflow."""

_qr: Any = partial(np.linalg.qr, mode="r")  # numpy's type stubs know of the other modes only


def low_rank_singular_values(B: ArrayLike, A: ArrayLike, scaling: ArrayLike = 1.0) -> NDArray[np.float64]:
    """Singular values of scaling·B·A, without forming the product.

    Triangular factors B = Q_B·R_B and Aᵀ = Q_A·R_A leave the singular values to the r × r core
    R_B·R_Aᵀ, at O((in + out)·r²) instead of O(in·out·min(in, out)). Each value agrees with a dense
    float64 SVD of the product to 1e-12 of the largest, also where they spread over many orders of
    magnitude, and for rank-deficient and zero factors.

    Args:
        B: (..., out, r), any float dtype (bfloat16 as ml_dtypes has it, too).
        A: (..., r, in), any float dtype; leading axes as those of B.
        scaling: one number, or one for each product of the batch; its sign does not matter.

    Returns:
        (..., r) float64, descending; where r exceeds in or out, the rest are zero.

    Raises:
        ParameterError: if the shapes do not fit, or a value is not finite.

    Example:
        >>> B, A = np.eye(5, 2), np.diag([1.0, 3.0])
        >>> low_rank_singular_values(B, A, scaling=2.0)
        array([6., 2.])
    """
    B, A = np.asarray(B), np.asarray(A)
    if B.ndim < 2 or A.ndim != B.ndim or B.shape[:-2] != A.shape[:-2] or B.shape[-1] != A.shape[-2]:
        raise ParameterError("B, A", expected="shapes (..., out, r) and (..., r, in)", found=(B.shape, A.shape))
    batch, (out, rank), columns = B.shape[:-2], B.shape[-2:], A.shape[-1]
    factor = np.abs(np.broadcast_to(np.asarray(scaling, dtype=np.float64), batch))
    if not np.isfinite(factor).all():
        raise ParameterError("scaling", expected="finite numbers", found=scaling)
    sigma = np.zeros((*batch, rank))
    if sigma.size == 0 or out == 0 or columns == 0:
        return sigma
    B, At = B.reshape(-1, out, rank), A.reshape(-1, rank, columns).swapaxes(-1, -2)
    flat = sigma.reshape(-1, rank)
    step = max(1, _CHUNK_ELEMENTS // (rank * max(out, columns)))
    for start in range(0, len(flat), step):
        chunk = slice(start, start + step)
        core = _triangular_factor(_finite("B", B[chunk])) @ _triangular_factor(_finite("A", At[chunk])).swapaxes(-1, -2)
        values = np.linalg.svd(core, compute_uv=False)
        flat[chunk, : values.shape[-1]] = values
    return sigma * factor[..., None]


def _finite(name: str, M: NDArray) -> NDArray[np.float64]:
    """The factor in float64. A sum is NaN or infinite if one of its terms is; only then is it worth looking."""
    M = M.astype(np.float64, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        total = M.sum()
    if not np.isfinite(total) and not np.isfinite(M).all():
        raise ParameterError(name, expected="finite numbers", found="NaN or infinity")
    return M


def _triangular_factor(M: NDArray[np.float64]) -> NDArray[np.float64]:
    """R of M = Q·R for a batch of tall matrices: (n, rows, r) -> (n, min(rows, r), r), its rows up to sign.

    The Gram matrix gives R by Cholesky at the speed of one matrix product, but it squares the
    condition number. So its columns are scaled to unit length first, which makes a mere difference
    in their sizes harmless, and the least eigenvalue decides: far from zero, R is as good as
    Householder's; nearer, the columns are made nearly orthonormal with it and the rest comes from a
    second Gram matrix (CholeskyQR2); at zero, Householder's QR does it.
    """
    if M.shape[-2] < M.shape[-1]:
        return _qr(M)
    with np.errstate(over="ignore", under="ignore"):
        gram = M.swapaxes(-1, -2) @ M
    squares = np.diagonal(gram, axis1=-2, axis2=-1)
    sound = np.asarray(((squares > _LEAST_SQUARE) & (squares < _LARGEST_SQUARE)).all(axis=-1))
    if not sound.all():
        return _split(M, sound)
    norms = np.sqrt(squares)
    unit_gram = gram / (norms[..., :, None] * norms[..., None, :])
    least = np.linalg.eigvalsh(unit_gram)[..., 0]
    if (least >= _SAFE).all():
        return np.linalg.cholesky(unit_gram).swapaxes(-1, -2) * norms[..., None, :]
    usable = np.asarray(least >= _USABLE)
    if not usable.all():
        return _split(M, usable)
    R = np.linalg.cholesky(unit_gram).swapaxes(-1, -2) * norms[..., None, :]
    return _triangular_factor(M @ np.linalg.inv(R)) @ R


def _householder_factor(M: NDArray[np.float64]) -> NDArray[np.float64]:
    """R of M = Q·R by Householder's QR: of blocks of rows, then of their factors one on another.

    As stable as that of the whole (TSQR; Demmel et al. 2012, arXiv 0808.2664).
    """
    count, rows, rank = M.shape
    block = max(2 * rank, _BLOCK_ELEMENTS // rank)
    while rows > block:
        whole = rows - rows % block
        factors = _qr(M[:, :whole].reshape(count, -1, block, rank))
        M = np.concatenate([factors.reshape(count, -1, rank), M[:, whole:]], axis=1)
        rows = M.shape[1]
    return _qr(M)


def _split(M: NDArray[np.float64], by_gram: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Householder's QR for the matrices that the Gram matrix would not serve, the fast route for the others."""
    if not by_gram.any():
        return _householder_factor(M)
    R = np.empty((len(M), M.shape[-1], M.shape[-1]))
    R[by_gram] = _triangular_factor(M[by_gram])
    R[~by_gram] = _householder_factor(M[~by_gram])
    return R
