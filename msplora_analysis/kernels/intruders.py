"""Intruder dimensions: leading directions of W₀ + ΔW that are far from those of the base weight W₀ (2410.21228)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import ParameterError
from msplora_core.linalg.updates import LowRankUpdate

_DENSE = 200
"""Up to this size, computing all eigenvectors is as fast as Lanczos iterations for the leading ones."""


class LeftBasis(NamedTuple):
    """The left singular vectors of a base weight.

    Args:
        U: (out, n) float64, orthonormal columns in any order, n = min(out, in).
        squares: (n,) float64, the squared singular value of each.
    """

    U: NDArray[np.float64]
    squares: NDArray[np.float64]


class Intruders(NamedTuple):
    """The leading left singular vectors of W₀ + ΔW, compared with those of W₀.

    Args:
        sigma: (k,) float64 singular values of W₀ + ΔW, descending.
        cosine: (k,) float64 between 0 and 1: the largest |cosine| between each left singular vector of W₀ + ΔW and
            those of W₀.
        base_sigma: (k,) float64 singular values of W₀, descending.
    """

    sigma: NDArray[np.float64]
    cosine: NDArray[np.float64]
    base_sigma: NDArray[np.float64]


def left_basis(W: NDArray[np.floating]) -> LeftBasis:
    """Return the left singular vectors of a matrix, from the eigenvectors of W·Wᵀ in float64.

    A tall matrix is reduced to its triangular factor first. Vectors agree with those of a full SVD to about
    1e-16·σ₁²/(gap between squared singular values); only those of singular values below 1e-8·σ₁ can mix.

    Args:
        W: (out, in), any float dtype.

    Example:
        >>> basis = left_basis(np.diag([2.0, 3.0]))
        >>> abs(basis.U), basis.squares
        (array([[1., 0.],
               [0., 1.]]), array([4., 9.]))
    """
    from scipy.linalg import eigh

    full = W.astype(np.float64)
    if full.ndim != 2 or not full.size or not np.isfinite(full).all():
        raise ParameterError("W", expected="a matrix of finite numbers", found=f"shape {full.shape}")
    if full.shape[0] <= full.shape[1]:
        squares, U = eigh(full @ full.T)
    else:
        Q, R = np.linalg.qr(full)
        squares, U = eigh(R @ R.T)
        U = Q @ U
    return LeftBasis(U, np.maximum(squares, 0.0))


def leading_directions(
    W: NDArray[np.floating],
    basis: LeftBasis,
    update: LowRankUpdate,
    k: int = 10,
    magnitudes: NDArray[np.floating] | None = None,
) -> Intruders:
    """Compare the k leading left singular vectors of W + ΔW with all those of W.

    Algorithm 1 of Shuttleworth et al. 2024 (arXiv 2410.21228): a direction whose cosine is below ε is an intruder
    dimension; PEFT uses k = 10 and ε = 0.5. In the basis of W's left singular vectors,

        (W + ΔW)·(W + ΔW)ᵀ = diag(σ²) + P·Cᵀ + C·Pᵀ + P·(A·Aᵀ)·Pᵀ    with P = Uᵀ·B and C = Uᵀ·W·Aᵀ,

    is a diagonal matrix with a low-rank update, whose leading eigenvectors Lanczos iterations find at O(out·r) a step.
    Their entries are the cosines. This does not hold for DoRA, which rescales the rows of the weight: there, Lanczos
    iterations use the dense weight, at O(out·in) a step.

    Args:
        W: (out, in) base weight, any float dtype.
        basis: `left_basis(W)`.
        update: ΔW.
        k: number of directions, at most that of the matrix.
        magnitudes: (out,) for DoRA (arXiv 2402.09353), the norms to which the rows of W + ΔW are rescaled.

    Returns:
        Singular values and cosines, within 1e-6 of those of a full SVD.

    Raises:
        ParameterError: if the shapes differ, or k is below 1.

    Example:
        >>> W = np.diag([3.0, 2.0, 1.0, 0.0])
        >>> foreign = np.array([[0.0], [0.0], [1.0], [1.0]])  # between two directions of W
        >>> found = leading_directions(W, left_basis(W), LowRankUpdate(foreign, foreign.T, 5.0), k=2)
        >>> found.sigma.round(2), found.cosine.round(2)
        (array([10.52,  3.  ]), array([0.74, 1.  ]))
    """
    if W.shape != update.shape:
        raise ParameterError("update", expected=f"shape {W.shape}, that of the weight", found=update.shape)
    if k < 1:
        raise ParameterError("k", expected="at least 1", found=k)
    if magnitudes is not None:
        return _of_rescaled(W, basis, update, min(k, *W.shape), magnitudes)
    B, A = update.scaling * update.B.astype(np.float64), update.A.astype(np.float64)
    P, C = basis.U.T @ B, basis.U.T @ (W.astype(np.float64) @ A.T)
    if W.shape[0] > W.shape[1]:  # B reaches beyond the columns of W
        beyond = np.linalg.qr(B - basis.U @ P).R
        P, C = np.concatenate([P, beyond]), np.concatenate([C, np.zeros((len(beyond), C.shape[1]))])
    squares = np.pad(basis.squares, (0, len(P) - len(basis.squares)))
    values, vectors = _leading(squares, P, C, A @ A.T, min(k, *W.shape))
    cosine = abs(vectors[: len(basis.squares)]).max(axis=0)
    return _intruders(values, cosine, basis)


def _of_rescaled(
    W: NDArray[np.floating], basis: LeftBasis, update: LowRankUpdate, k: int, magnitudes: NDArray[np.floating]
) -> Intruders:
    """The same for the rows of W + ΔW rescaled to the norms of DoRA."""
    if magnitudes.shape != (len(W),):
        raise ParameterError("magnitudes", expected=f"shape {(len(W),)}, one a row", found=magnitudes.shape)
    whole = W + (update.scaling * update.B.astype(np.float64)) @ update.A.astype(np.float64)
    norms = np.linalg.norm(whole, axis=1)
    whole *= (magnitudes / np.where(norms > 0, norms, 1.0))[:, None]
    values, vectors = _leading_eigenpairs(len(W), lambda x: whole @ (x @ whole), lambda: whole @ whole.T, k)
    return _intruders(values, abs(basis.U.T @ vectors).max(axis=0), basis)


def _intruders(values: NDArray[np.float64], cosine: NDArray[np.floating], basis: LeftBasis) -> Intruders:
    base = np.sqrt(np.sort(basis.squares)[::-1][: len(values)])
    return Intruders(np.sqrt(np.maximum(values, 0.0)), np.minimum(cosine, 1.0).astype(np.float64), base)


def _leading(
    squares: NDArray[np.float64], P: NDArray[np.float64], C: NDArray[np.float64], G: NDArray[np.float64], k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The k largest eigenvalues of diag(squares) + P·Cᵀ + C·Pᵀ + P·G·Pᵀ, descending, with their eigenvectors."""
    left, right = np.concatenate([P, C], axis=1), np.concatenate([C + P @ G, P], axis=1)
    return _leading_eigenpairs(
        len(squares), lambda x: squares * x + left @ (right.T @ x), lambda: np.diag(squares) + left @ right.T, k
    )


def _leading_eigenpairs(
    size: int, times: Callable[[NDArray[Any]], NDArray[Any]], formed: Callable[[], NDArray[Any]], k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The k largest eigenvalues of a symmetric matrix, given as its product with a vector and as a whole."""
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    if size > max(_DENSE, 4 * k):
        operator = LinearOperator((size, size), matvec=lambda x: times(x.ravel()), dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(size)
        try:
            values, vectors = eigsh(operator, k, which="LA", v0=start)
            return values[::-1], vectors[:, ::-1]
        except ArpackError:  # values are too close
            pass
    values, vectors = np.linalg.eigh(formed())
    return values[: -k - 1 : -1], vectors[:, : -k - 1 : -1]
