"""Null models of the spectrum of a low-rank update, and the place of a value in its null distribution.

All null models work on factors. Those that use trained factors depend on how ΔW = B·A is split into B and A: an
orthogonal change of basis, B·Q and Qᵀ·A, does not change the null; a rescaling, B·D and D⁻¹·A, does, although ΔW
stays the same. So the null of an adapter that was converted or rebalanced differs from that of its training.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_analysis.kernels.distribution import real_numbers
from msplora_core.errors import ParameterError
from msplora_core.linalg.singular_values import low_rank_singular_values
from msplora_core.linalg.updates import LowRankUpdate

_ELEMENTS = 2**18
"""Elements of rotations drawn at a time: 2 MB."""


def gaussian_null(out: int, in_: int, rank: int, draws: int = 200, seed: int = 0) -> NDArray[np.float64]:
    """Return spectra of B·A with independent standard normal entries in both factors.

    Only the triangular factors of B and Aᵀ are drawn (Bartlett's decomposition: √χ² on the diagonal, normal above
    it), so that a draw costs O(r³) at any width. The spectra are in units of the entries' standard deviations;
    measures of their shape do not depend on these.

    Args:
        out: rows of B.
        in_: columns of A.
        rank: r, columns of B and rows of A.
        draws: number of draws.
        seed: of the random numbers.

    Returns:
        (draws, r) float64, descending; if r exceeds out or in_, the remaining values are zero.

    Raises:
        ParameterError: if a size is below 1.

    Example:
        >>> from msplora_analysis.kernels import effective_rank_ratio
        >>> spectra = gaussian_null(768, 768, rank=8, draws=1000)
        >>> effective_rank_ratio(spectra, k=1).mean().round(3)
        np.float64(0.14)
    """
    _check_counts(out=out, in_=in_, rank=rank, draws=draws)
    random = np.random.default_rng(seed)
    core = gaussian_triangles(out, rank, draws, random) @ gaussian_triangles(in_, rank, draws, random).swapaxes(-1, -2)
    spectra = np.zeros((draws, rank))
    spectra[:, : min(out, in_, rank)] = np.linalg.svd(core, compute_uv=False)
    return spectra


def rotation_null(sigma_B: ArrayLike, sigma_A: ArrayLike, draws: int = 200, seed: int = 0) -> NDArray[np.float64]:
    """Return spectra of B·Q·A with Q drawn from the Haar measure on O(r).

    The null keeps the spectra of both factors and breaks their alignment. With B = U_B·diag(σ_B)·V_Bᵀ and
    A = U_A·diag(σ_A)·V_Aᵀ, Q absorbs the orthogonal matrices, and the spectra are the singular values of

        diag(σ_B)·Q·diag(σ_A).

    Multiply a scaling α/r into either factor. The null depends on how ΔW is split into factors (see the module's
    docstring).

    Args:
        sigma_B: (..., r) singular values of B, in any order.
        sigma_A: (..., r) those of A.
        draws: number of draws for each component. Components are drawn independently.
        seed: of the random numbers.

    Returns:
        (..., draws, r) float64, descending; NaN for a component whose factors hold NaN.

    Raises:
        ParameterError: if the shapes differ, or a singular value is negative or infinite.

    Example:
        >>> rotation_null([2.0, 2.0], [3.0, 1.0], draws=2)  # B is isotropic: nothing to align
        array([[6., 2.],
               [6., 2.]])
        >>> rotation_null(np.ones((24, 8)), np.ones((24, 8)), draws=100).shape
        (24, 100, 8)
    """
    left, right = real_numbers(sigma_B, "sigma_B"), real_numbers(sigma_A, "sigma_A")
    if left.ndim == 0 or left.shape[-1] == 0 or left.shape != right.shape:
        raise ParameterError("sigma_B, sigma_A", expected="equal shapes (..., r)", found=(left.shape, right.shape))
    for name, values in (("sigma_B", left), ("sigma_A", right)):
        wrong = values[(values < 0) | np.isinf(values)]
        if wrong.size:
            raise ParameterError(name, expected="singular values: finite, at least 0", found=float(wrong[0]))
    _check_counts(draws=draws)
    rank = left.shape[-1]
    B, A = left.reshape(-1, rank), right.reshape(-1, rank)
    known = np.flatnonzero(~(np.isnan(B) | np.isnan(A)).any(axis=1))
    spectra = np.full((len(B), draws, rank), np.nan)
    parts = np.array_split(known, max(1, len(known) * draws * rank**2 // _ELEMENTS))

    def fill(part: NDArray[np.intp], random: np.random.Generator) -> None:
        # The signs of R's diagonal, which the Haar measure fixes, do not change the singular values.
        Q = np.linalg.qr(random.standard_normal((len(part), draws, rank, rank))).Q
        spectra[part] = np.linalg.svd(B[part, None, :, None] * Q * A[part, None, None, :], compute_uv=False)

    from threadpoolctl import threadpool_limits

    # numpy's linear algebra releases the GIL; on small matrices, threads of BLAS would only wait for each other
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, parts, np.random.default_rng(seed).spawn(len(parts))))
    return spectra.reshape(*left.shape[:-1], draws, rank)


def mismatch_null(updates: Sequence[LowRankUpdate]) -> NDArray[np.float64]:
    """Return spectra of B of one layer with A of another, for all ordered pairs of two layers.

    The null keeps the factors of real layers and breaks their pairing. It depends on how ΔW is split into factors
    (see the module's docstring).

    Args:
        updates: of the layers of one module type, all of one rank.

    Returns:
        (L·(L − 1), r) float64, descending: layer 0's B with the A of 1, 2, …, then layer 1's B with that of 0, 2, ….
        The scaling is that of the layer that B comes from.

    Raises:
        ParameterError: with fewer than two updates, or unequal ranks.

    Example:
        >>> one, two = (LowRankUpdate(np.eye(4, 2) * size, np.eye(2, 4)) for size in (1.0, 3.0))
        >>> mismatch_null([one, two])
        array([[1., 1.],
               [3., 3.]])
    """
    ranks = {update.rank for update in updates}
    if len(updates) < 2 or len(ranks) != 1:
        raise ParameterError("updates", expected="at least two, of one rank", found=f"{len(updates)} of ranks {ranks}")
    left = [_square(update.B) * update.scaling for update in updates]
    right = [_square(update.A.T).T for update in updates]
    pairs = [(i, j) for i in range(len(updates)) for j in range(len(updates)) if i != j]
    B, A = np.stack([left[i] for i, _ in pairs]), np.stack([right[j] for _, j in pairs])
    return low_rank_singular_values(B, A)


def null_place(observed: ArrayLike, null_values: ArrayLike) -> NDArray[np.float64]:
    """Return a value's place in its null: the share of draws below it, plus half of those equal to it.

    0.5 is the middle of the null; values near 0 or 1 are rare under the null. The place tells how sure a deviation
    is, not how large: report the difference from the null's mean first.

    Args:
        observed: (...) values of a measure.
        null_values: (..., draws) the same measure of the null's spectra.

    Returns:
        (...) float64 between 0 and 1; NaN if the value or a draw is NaN.

    Raises:
        ParameterError: if there are no draws, or the leading axes differ.

    Example:
        >>> null_place(0.25, [0.1, 0.2, 0.3, 0.4])
        np.float64(0.5)
        >>> null_place([0.0, 0.2], [[0.1, 0.2], [0.1, 0.2]])
        array([0.  , 0.75])
    """
    values, draws = real_numbers(observed, "observed"), real_numbers(null_values, "null_values")
    if draws.ndim == 0 or draws.shape[-1] == 0 or draws.shape[:-1] != values.shape:
        expected = f"shape {(*values.shape, 'draws')}, one row for each observed value"
        raise ParameterError("null_values", expected=expected, found=draws.shape)
    place = ((draws < values[..., None]).mean(axis=-1) + (draws <= values[..., None]).mean(axis=-1)) / 2
    return np.where(np.isnan(values) | np.isnan(draws).any(axis=-1), np.nan, place)[()]


def gaussian_triangles(rows: int, rank: int, draws: int, random: np.random.Generator) -> NDArray[np.float64]:
    """(draws, min(rows, r), r): R of a Gaussian (rows, r) matrix, up to the signs of its rows."""
    height = min(rows, rank)
    R = np.triu(random.standard_normal((draws, height, rank)), 1)
    diagonal = np.arange(height)
    R[:, diagonal, diagonal] = np.sqrt(random.chisquare(rows - diagonal, (draws, height)))
    return R


def _square(factor: NDArray[Any]) -> NDArray[np.float64]:
    """(min(rows, r), r): R of a factor's QR decomposition, by Householder's method."""
    return np.asarray(np.linalg.qr(factor.astype(np.float64), mode="r"))


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if not isinstance(count, (int, np.integer)) or count < 1:
            raise ParameterError(name, expected="a whole number, at least 1", found=count)
