"""Kullback-Leibler divergence between the distributions of spectra, in nats."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_analysis.kernels.distribution import relative_to_largest
from msplora_core.errors import ParameterError

_EPSILON = float(np.finfo(np.float64).eps)
_PAIRS_AT_ONCE = 1 << 14


class InfiniteDivergenceWarning(RuntimeWarning):
    """A divergence is infinite: one spectrum has a zero singular value where the other has none."""


def spectral_kl(sigma_i: ArrayLike, sigma_j: ArrayLike, floor: float | None = None) -> NDArray[np.float64]:
    """Return the divergence of one spectrum from another, D(Σᵢ ‖ Σⱼ) = Σ_k p_k⁽ⁱ⁾ log(p_k⁽ⁱ⁾ / p_k⁽ʲ⁾).

    Eq. 9 of arXiv 2503.21838. Not symmetric. The relative precision holds for nearly equal spectra, too: each term is
    computed as p log(p/q) − p + q, which is never negative.

    Args:
        sigma_i: (..., M) singular values, any real dtype, any order.
        sigma_j: (..., M), likewise; leading axes broadcast.
        floor: raise smaller singular values to this share of the largest; by default none is raised.

    Returns:
        (...) float64 nats, at least 0, and 0 for equal distributions only; infinite, with an
        `InfiniteDivergenceWarning`, if j has a zero where i has none; NaN if either is zero or holds NaN.

    Raises:
        ParameterError: if the lengths differ, `floor` is out of range, or there are no singular values.

    Example:
        >>> spectral_kl([3.0, 1.0], [1.0, 1.0]).round(4)
        np.float64(0.1308)
        >>> spectral_kl([3.0, 1.0], [1.0, 0.0], floor=0.01).round(4)
        np.float64(0.5989)
    """
    p, q = _distribution(sigma_i, "sigma_i", floor), _distribution(sigma_j, "sigma_j", floor)
    if p.shape[-1] != q.shape[-1]:
        raise ParameterError(
            "sigma_j",
            expected=f"{p.shape[-1]} singular values, as sigma_i has",
            found=q.shape[-1],
            hint="truncate both to the same number",
        )
    return _warned(_divergence(p, q))[()]


def pairwise_spectral_kl(spectra: ArrayLike, floor: float | None = None) -> NDArray[np.float64]:
    """Return the divergence of every spectrum from every other: row i, column j holds D(Σᵢ ‖ Σⱼ) (Eq. 9).

    One matrix product. With m the mean of the distributions and lⱼ = log(pⱼ/m),

        D(i ‖ j) = Σ_k [pᵢ lᵢ − (pᵢ − m)] + Σ_k [(pⱼ − m) − m lⱼ] − Σ_k (pᵢ − m) lⱼ,

    where all sums are small for similar spectra, so that little cancels. Pairs so similar that rounding could affect
    their sixth digit are computed as in `spectral_kl`. Equations are those of arXiv 2503.21838.

    Args:
        spectra: (..., L, M) singular values of L components, any real dtype, any order.
        floor: as in `spectral_kl`.

    Returns:
        (..., L, L) float64 nats; not symmetric, 0 on the diagonal; infinite (with an
        `InfiniteDivergenceWarning`) and NaN as in `spectral_kl`.

    Raises:
        ParameterError: if `spectra` has fewer than two axes, `floor` is out of range, or there are no singular values.

    Example:
        >>> pairwise_spectral_kl([[3.0, 1.0], [1.0, 1.0]]).round(4)
        array([[0.    , 0.1308],
               [0.1438, 0.    ]])
    """
    p = _distribution(spectra, "spectra", floor)
    if p.ndim < 2:
        raise ParameterError("spectra", expected="shape (..., L, M)", found=p.shape)
    m = _mean(p)
    apart = p - m
    zero = p == 0
    ratio = np.divide(apart, m, out=np.zeros_like(p), where=m != 0)
    log = np.where(ratio > -0.5, np.log1p(np.maximum(ratio, -0.5)), 0.0)  # log(p/m), exact for p near m
    far = (ratio <= -0.5) & ~zero
    np.log(np.divide(p, m, out=np.ones_like(p), where=far), out=log, where=far)
    log[np.isnan(p)] = np.nan
    own = (p * log - apart).sum(axis=-1, keepdims=True)
    other = (apart - m * log).sum(axis=-1, keepdims=True)
    ones = np.ones_like(own)
    left = np.concatenate([-apart, own, ones], axis=-1)
    right = np.concatenate([log, ones, other], axis=-1)
    kl: NDArray[np.float64] = left @ np.swapaxes(right, -1, -2)
    _refine(kl, p, below=1e6 * _rounding(apart, log))
    if zero.any():
        kl[(~zero & ~np.isnan(p)).astype(float) @ np.swapaxes(zero, -1, -2).astype(float) > 0] = np.inf
        undefined = np.any(np.isnan(p), axis=-1)
        kl[undefined[..., :, None] | undefined[..., None, :]] = np.nan
        _warned(kl)
    return kl


def kl_difference(spectra: ArrayLike, baseline: ArrayLike, floor: float | None = None) -> NDArray[np.float64]:
    """Return `pairwise_spectral_kl` of one method's layers minus that of the baseline's (Fig. 4 of arXiv 2503.21838).

    Args:
        spectra: (..., L, M) singular values of the method's L layers.
        baseline: (..., L, N) those of the baseline; N may differ from M.
        floor: as in `spectral_kl`, for both.

    Returns:
        (..., L, L) float64 nats, positive where the method's layers are further apart; NaN if either is undefined, or
        both are infinite.

    Raises:
        ParameterError: if the numbers of layers differ, and as `pairwise_spectral_kl`.

    Example:
        >>> kl_difference([[3.0, 1.0], [1.0, 1.0]], baseline=[[1.0, 1.0], [2.0, 2.0]]).round(4)
        array([[0.    , 0.1308],
               [0.1438, 0.    ]])
    """
    ours, theirs = pairwise_spectral_kl(spectra, floor), pairwise_spectral_kl(baseline, floor)
    if ours.shape[-1] != theirs.shape[-1]:
        raise ParameterError(
            "baseline", expected=f"{ours.shape[-1]} layers, as the spectra have", found=theirs.shape[-1]
        )
    with np.errstate(invalid="ignore"):
        return ours - theirs


def _distribution(sigma: ArrayLike, name: str, floor: float | None) -> NDArray[np.float64]:
    relative = relative_to_largest(sigma, name)
    if floor is not None:
        if not 0 < floor <= 1:
            raise ParameterError("floor", expected="above 0 and at most 1, or None", found=floor)
        relative = np.maximum(relative, floor)
    result: NDArray[np.float64] = relative / relative.sum(axis=-1, keepdims=True)
    return result


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ p log(p/q) − p + q, term by term."""
    p, q = np.broadcast_arrays(p, q)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = (q - p) / p
        terms = np.where(np.abs(ratio) < 0.5, p * (ratio - np.log1p(ratio)), p * np.log(p / q) - p + q)
    terms = np.where(p == 0, q, terms)
    result: NDArray[np.float64] = np.where(np.isnan(p) | np.isnan(q), np.nan, np.maximum(terms, 0.0)).sum(axis=-1)
    return result


def _mean(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 1, M): the mean of the defined distributions."""
    defined = ~np.isnan(p)
    count = np.maximum(defined.sum(axis=-2, keepdims=True), 1)
    result: NDArray[np.float64] = np.where(defined, p, 0.0).sum(axis=-2, keepdims=True) / count
    return result


def _rounding(apart: NDArray[np.float64], log: NDArray[np.float64]) -> float:
    """A bound on the rounding error of the matrix product: M·ε·max‖p − m‖₁·max|l|."""
    if not np.isfinite(apart).any():
        return 0.0
    reach = np.nanmax(np.abs(apart).sum(axis=-1)) * np.nanmax(np.abs(log))
    return float(apart.shape[-1] * _EPSILON * float(reach))


def _refine(kl: NDArray[np.float64], p: NDArray[np.float64], below: float) -> None:
    """Compute the pairs below a value again in place, as in `spectral_kl`."""
    small = np.flatnonzero(kl <= below)  # on the flat array: several times faster than np.nonzero
    for start in range(0, small.size, _PAIRS_AT_ONCE):
        *lead, i, j = np.unravel_index(small[start : start + _PAIRS_AT_ONCE], kl.shape)
        kl[(*lead, i, j)] = _divergence(p[(*lead, i)], p[(*lead, j)])


def _warned(kl: NDArray[np.float64]) -> NDArray[np.float64]:
    infinite = int(np.isinf(kl).sum())
    if infinite:
        warnings.warn(
            f"{infinite} of {kl.size} divergences are infinite: a spectrum has a zero singular value where another "
            "has none; with floor=1e-12, zeros are raised to this share of the largest",
            InfiniteDivergenceWarning,
            stacklevel=3,
        )
    return kl
