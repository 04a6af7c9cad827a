"""Null models of cosines, shares and subspaces: every update is rotated at random.

The null model rotates the inputs and the outputs of each update by independent orthogonal matrices from the Haar
measure. It keeps every spectrum and needs nothing else of the updates. Means and standard deviations are exact if a
formula exists; otherwise they are drawn at the cost of r × r matrices, at any width.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_analysis.kernels.distribution import real_numbers
from msplora_analysis.kernels.nulls import gaussian_triangles
from msplora_core.errors import ParameterError
from msplora_core.pyramid import layer_groups

_MOST_ENTRIES = 2**22
"""Random numbers of a bound on cosines: with more pairs of layers, each needs fewer draws."""
_PRECISION = 1e-12
"""Relative precision of a bound on cosines."""
MOST_DIRECTIONS = 512
"""Limit of the directions of all layers together in a null model; larger numbers are thinned."""


class Spread(NamedTuple):
    """Mean and standard deviation of a number under the null model.

    Args:
        mean: float64, of any shape.
        deviation: float64, likewise.
    """

    mean: Any
    deviation: Any


def sharing_null(norms: ArrayLike, shape: tuple[float, float], groups: int | Sequence[int] | None = None) -> Spread:
    """Return the null model of `sharing_shares`, for updates that share no direction.

    Inner products of updates rotated at random are uncorrelated, with mean 0 and variance ‖ΔW_i‖²·‖ΔW_j‖²/(out·in).
    The shares are linear in them, so both numbers are exact. The means are those of orthogonal updates: 1/L,
    (G − 1)/L and (L − G)/L, exactly for groups of equal size or updates of equal norm.

    Args:
        norms: (L,) Frobenius norms of the layers' updates.
        shape: (out, in) of the updates.
        groups: as for `sharing_shares`.

    Returns:
        Mean and standard deviation, (3,) each: all layers, groups beyond that, the rest. NaN if all norms are 0.

    Raises:
        ParameterError: if `norms` is not one row of numbers, or the groups do not fit.

    Example:
        >>> null = sharing_null(np.ones(12), (768, 768))
        >>> null.mean.round(3), null.deviation.round(5)
        (array([0.083, 0.167, 0.75 ]), array([0.00015, 0.0002 , 0.00023]))
    """
    squares = np.square(real_numbers(norms, "norms"))
    if squares.ndim != 1 or not len(squares):
        raise ParameterError("norms", expected="one row of numbers", found=squares.shape)
    layers = len(squares)
    group = np.array(layer_groups(layers, groups))
    by_all = np.full((layers, layers), 1 / layers)
    by_group = (group[:, None] == group) / np.bincount(group)[group]
    weights = np.stack([by_all, by_group - by_all, np.eye(layers) - by_group])
    total = squares.sum() or np.nan
    mean = np.diagonal(weights, axis1=1, axis2=2) @ squares / total
    apart = np.square(weights) * (1 - np.eye(layers))
    variance = 2 * np.einsum("kij,i,j->k", apart, squares, squares) / (shape[0] * shape[1])
    return Spread(mean, np.sqrt(variance) / total)


def cosine_bound(spectra: Sequence[ArrayLike], shape: tuple[int, int], level: float = 0.05, seed: int = 0) -> float:
    """Return a bound that all |cosines| between random updates stay below with probability 1 − `level`.

    A cosine has mean 0 and standard deviation 1/√(out·in) exactly. Its tails depend on the spectra: given the overlap
    O of the outputs, with entries of variance 1/out, it is normal with variance Σ_ab s_a²·t_b²·O_ab²/in for spectra s
    and t of norm 1. O is drawn; the bound holds for all pairs at once, by the sum of their tails (union bound).

    Args:
        spectra: singular values of each update. Zero spectra are ignored.
        shape: (out, in) of the updates.
        level: the probability that some cosine exceeds the bound.
        seed: of the draws.

    Returns:
        The bound on |cosine|, at most 1; NaN with fewer than two updates.

    Example:
        >>> round(cosine_bound(np.ones((12, 8)), (768, 768)) * 768, 1)  # in standard deviations, over 66 pairs
        3.5
    """
    from scipy.special import ndtr

    squares = np.square(_unit_spectra(spectra))
    if len(squares) < 2:
        return float("nan")
    first, second = np.triu_indices(len(squares), 1)
    draws = int(np.clip(_MOST_ENTRIES // (len(first) * squares.shape[1] ** 2), 1, 200))
    random = np.random.default_rng(seed)
    spread = np.empty((draws, len(first)))
    left, right = squares[first][:, None], squares[second][:, :, None]
    for draw in spread:
        overlap = np.square(random.standard_normal((len(first), squares.shape[1], squares.shape[1])))
        draw[:] = np.sqrt(left @ overlap @ right)[:, 0, 0]

    bound, step = 0.0, np.inf
    while step > _PRECISION * bound:  # Newton's method, from below, since the sum of the tails is convex
        places = bound / spread
        excess = 2 * ndtr(-places).mean(axis=0).sum() - level
        step = excess / (np.sqrt(2 / np.pi) * np.exp(-np.square(places) / 2) / spread).mean(axis=0).sum()
        bound += float(step)
    return min(1.0, bound / float(np.sqrt(shape[0] * shape[1])))


def subspace_null(size: int, first: int, second: int) -> Spread:
    """Return the exact mean and standard deviation of φ = ‖UᵀV‖²_F / min(i, j) for two random subspaces.

    Args:
        size: dimension d of the space.
        first: dimension i of the first subspace.
        second: dimension j of the second.

    Example:
        >>> null = subspace_null(768, 8, 8)
        >>> null.mean.round(4), null.deviation.round(4)
        (np.float64(0.0104), np.float64(0.0018))
    """
    i, j, d = float(first), float(second), float(size)
    variance = 2 * i * j * (d - i) * (d - j) / (d**2 * max(d - 1, 1.0) * (d + 2))
    return Spread(np.float64(max(i, j) / d), np.sqrt(np.float64(variance)) / min(i, j))


def common_subspace_null(
    spectra: Sequence[ArrayLike], size: int, rank: int, draws: int = 20, seed: int = 0
) -> NDArray[np.float64]:
    """Return the null model of `common_subspace`: its mean energy if the updates' directions on that side are random.

    The best subspace holds more energy than a random one even if nothing is common, since it is fitted to the draw.
    The directions of a layer are orthonormal columns of a Gaussian matrix, of which only triangular factors are drawn.
    Their energy depends on the ratios of d, the ranks and `rank`, and hardly on their size: with more than 512
    directions in more than 512 dimensions, all are divided by one number. This changes the mean by less than 0.002; if
    every layer has another rank, by up to 0.02.

    Args:
        spectra: singular values of each update. Zero spectra are ignored.
        size: dimension d of the space on that side.
        rank: dimension of the common subspace.
        draws: number of draws.
        seed: of the random numbers.

    Returns:
        (draws,) float64 shares of 1; empty if all spectra are zero.

    Example:
        >>> common_subspace_null(np.ones((12, 8)), 768, rank=8).mean().round(3)  # 1/12 would be one layer's own
        np.float64(0.135)
    """
    sigma = _unit_spectra(spectra)
    energy, parts = len(sigma), ceil(min(int(np.count_nonzero(sigma)), size) / MOST_DIRECTIONS)
    if not energy:
        return np.empty(0)
    sigma, size = _thinned(sigma, parts), round(size / parts)
    layers, width = sigma.shape
    random = np.random.default_rng(seed)
    energies = np.empty(draws)
    for draw in range(draws):
        (gaussian,) = gaussian_triangles(size, layers * width, 1, random)
        weighted = _frames(gaussian.reshape(len(gaussian), layers, width).swapaxes(0, 1)) * sigma[:, None, :size]
        rows: NDArray[np.floating[Any]] = weighted.swapaxes(0, 1).reshape(len(gaussian), -1)
        if parts > 1:  # thinned, so that only three digits are exact
            rows = rows.astype(np.float32)
        gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
        energies[draw] = leading_sum(gram, rank / parts) * parts / energy
    mean = float(energies.mean())
    return np.asarray(mean + (energies - mean) / parts)


def leading_sum(gram: NDArray[np.floating[Any]], count: float) -> float:
    """Return the sum of the largest eigenvalues of a symmetric matrix, which is overwritten.

    Args:
        gram: (n, n), float32 or float64; the sum has about its relative accuracy.
        count: how many eigenvalues; a fractional count takes that fraction of the last.
    """
    from scipy.linalg import eigh

    first = max(0, len(gram) - ceil(count))
    # LAPACK's upper variant is the faster one
    leading = eigh(gram.T, eigvals_only=True, overwrite_a=True, lower=False, subset_by_index=[first, len(gram) - 1])
    surplus = max(0.0, len(leading) - count)
    return float(leading.sum(dtype=np.float64) - surplus * leading[0])


def _thinned(sigma: NDArray[np.float64], parts: int) -> NDArray[np.float64]:
    """Return spectra with one direction for every `parts`: equal energy, and equally many layers if ranks allow."""
    if parts == 1:
        return sigma
    ranks = np.count_nonzero(sigma, axis=1)
    alike = [_dealt(sigma[ranks == rank, :rank], parts) for rank in np.unique(ranks)]
    width = max(rows.shape[1] for rows in alike)
    return np.concatenate([np.pad(rows, ((0, 0), (0, width - rows.shape[1]))) for rows in alike])


def _dealt(sigma: NDArray[np.float64], parts: int) -> NDArray[np.float64]:
    """The thinned spectra of layers of one rank."""
    squares = np.sort(np.square(sigma), axis=None)[::-1]
    means = np.pad(squares, (0, -len(squares) % parts)).reshape(-1, parts).mean(axis=1)
    layers = min(len(sigma), len(means))
    dealt: NDArray[np.float64] = np.pad(means, (0, -len(means) % layers)).reshape(-1, layers).T
    return np.sqrt(dealt)


def _unit_spectra(spectra: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Non-zero spectra, scaled to norm 1, as rows of a matrix padded with zeros."""
    known = [one for one in (real_numbers(one, "spectra") for one in spectra) if one.any()]
    rows = np.zeros((len(known), max((len(one) for one in known), default=0)))
    for row, values in zip(rows, known, strict=True):
        scaled = values / values.max()  # its square neither overflows nor vanishes
        row[: len(values)] = scaled / np.linalg.norm(scaled)
    return rows


def _frames(gaussian: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal columns that span those of each Gaussian matrix: (n, rows, r) -> (n, rows, min(rows, r))."""
    if gaussian.shape[1] < 2 * gaussian.shape[2]:  # may be too ill-conditioned for its Gram matrix
        return np.linalg.qr(gaussian).Q
    R = np.linalg.cholesky(gaussian.swapaxes(1, 2) @ gaussian)
    return gaussian @ np.linalg.inv(R).swapaxes(1, 2)
