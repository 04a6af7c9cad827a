"""Fit shared and own components to the updates of a stack of layers, from their factors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from msplora_core.errors import ParameterError
from msplora_core.linalg.pyramid_descent import Array, Descent, descended
from msplora_core.linalg.truncation import low_rank_svd
from msplora_core.linalg.updates import LowRankUpdate
from msplora_core.pyramid import SCALES, check_ranks

_ROUNDING = 1e-15
"""Singular values below this share of the largest are treated as zero."""


@dataclass(frozen=True, eq=False)
class PyramidFit:
    """A pyramid fitted to the updates of a stack of layers.

    Args:
        components: by scale and unit (0; the group; the position of the layer). Float64, scaling 1, B and A of equal
            weight, padded with zeros to the given rank.
        explained: 1 − Σ_l ‖ΔW_l − fit_l‖² / Σ_l ‖ΔW_l‖²; NaN if all updates are zero.
        course: that share after each sweep; never decreasing.
        converged: whether the last sweep raised it by less than 1e-8.
    """

    components: Mapping[tuple[str, int], LowRankUpdate]
    explained: float
    course: tuple[float, ...]
    converged: bool


def fit_pyramid(
    updates: Sequence[LowRankUpdate],
    ranks: tuple[int, int, int],
    groups: Sequence[int],
    *,
    progress: Callable[[int, float], None] | None = None,
) -> PyramidFit:
    """Return global, mid and layer components whose sums are close to the updates of a stack of layers.

    Minimises Σ_l ‖ΔW_l − G − M_g(l) − D_l‖²_F over matrices of the given ranks by block coordinate descent. Given the
    other components, the best G is the truncated SVD of the mean residual over the layers (Eckart and Young 1936), and
    likewise the M of a group and the D of a layer. G and M take one step of subspace iteration a sweep, which never
    raises the error. A sweep goes from coarse to fine: in the other order, the layers' own components take what is
    shared, and the optimum is worse. The problem is not convex, so the optimum found need not be the best. If it is
    worse than the layer rank alone, the descent restarts from that.

    All is computed in the space spanned by the stacked factors, which contains the best fit. No matrix of size
    out × in is formed.

    Args:
        updates: L updates of equal shape (out, in), in order of depth; ranks and dtypes may differ.
        ranks: of (global, mid, layer); 0 leaves a scale out.
        groups: the group of each layer, as from `layer_groups`.
        progress: called after each sweep with its number and the share explained so far.

    Returns:
        The components, and the share that they explain.

    Raises:
        ParameterError: if shapes differ, a value is not finite, or ranks or groups do not fit.

    Example:
        >>> shared, own = np.diag([3.0, 0.0, 0.0]), np.diag([0.0, 1.0, 0.0])
        >>> fit = fit_pyramid([LowRankUpdate(shared + own, np.eye(3)), LowRankUpdate(shared - own, np.eye(3))],
        ...                   ranks=(1, 0, 1), groups=(0, 0))
        >>> round(fit.explained, 9), (fit.components["global", 0].B @ fit.components["global", 0].A).round(6)[0, 0]
        (1.0, np.float64(3.0))
    """
    check_ranks(ranks)
    shapes = {update.shape for update in updates}
    if len(shapes) != 1:
        raise ParameterError("updates", expected="at least one, of one shape", found=sorted(shapes))
    if len(groups) != len(updates):
        raise ParameterError("groups", expected=f"{len(updates)}, one for each update", found=len(groups))
    parts = [low_rank_svd(update) for update in updates]
    largest = max(float(sigma.max(initial=0.0)) for _, sigma, _ in parts)
    if largest == 0:
        out, width = shapes.pop()
        nothing = LowRankUpdate(np.zeros((out, 0)), np.zeros((0, width)))
        return PyramidFit(dict(_filled(dict.fromkeys(_units(ranks, groups), nothing), ranks)), np.nan, (), True)
    left = np.linalg.qr(np.concatenate([U[:, sigma > _ROUNDING * largest] for U, sigma, _ in parts], axis=1)).Q
    right = np.linalg.qr(np.concatenate([Vt[sigma > _ROUNDING * largest] for _, sigma, Vt in parts]).T).Q
    rank = max(len(sigma) for _, sigma, _ in parts)
    B = np.stack([_widened(left.T @ U * (sigma / largest), rank) for U, sigma, _ in parts])
    A = np.stack([_widened(right.T @ Vt.T, rank) for _, _, Vt in parts]).swapaxes(-1, -2)
    squares = np.stack([np.square(np.pad(sigma / largest, (0, rank - len(sigma)))) for _, sigma, _ in parts])
    descent = Descent(B, A, ranks, np.asarray(groups))
    course, converged = descended(descent, squares.sum(), progress)
    if course[-1] < squares[:, : ranks[2]].sum() / squares.sum():
        descent.start_from_own()
        course, converged = descended(descent, squares.sum(), progress)
    found = {
        unit: LowRankUpdate(left @ B * np.sqrt(largest), np.sqrt(largest) * A @ right.T)
        for unit, (B, A) in descent.components().items()
    }
    return PyramidFit(dict(_filled(found, ranks)), course[-1], tuple(course), converged)


def rotated(updates: Sequence[LowRankUpdate], seed: int = 0) -> list[LowRankUpdate]:
    """Return updates with the same singular values and random singular vectors, drawn independently for each layer.

    They serve as null model of what layers share.

    Args:
        updates: any number.
        seed: of the random numbers.

    Example:
        >>> update = LowRankUpdate(np.eye(5, 2), np.diag([1.0, 3.0]))
        >>> rotated([update])[0].singular_values().round(9)
        array([3., 1.])
    """
    random = np.random.default_rng(seed)
    found = []
    for update in updates:
        sigma = low_rank_svd(update)[1]
        U, V = (np.linalg.qr(random.standard_normal((size, len(sigma)))).Q for size in update.shape)
        found.append(LowRankUpdate(U * sigma, V.T))
    return found


def _units(ranks: tuple[int, int, int], groups: Sequence[int]) -> list[tuple[str, int]]:
    units = [("global", 0), *(("mid", group) for group in dict.fromkeys(groups))]
    return units + [("layer", layer) for layer in range(len(groups))]


def _filled(
    found: Mapping[tuple[str, int], LowRankUpdate], ranks: tuple[int, int, int]
) -> list[tuple[tuple[str, int], LowRankUpdate]]:
    """The components of the scales that are not left out, with zeros up to their rank."""
    rank_of = dict(zip(SCALES, ranks, strict=True))
    return [
        (unit, LowRankUpdate(_widened(update.B, rank_of[unit[0]]), _widened(update.A.T, rank_of[unit[0]]).T))
        for unit, update in found.items()
        if rank_of[unit[0]]
    ]


def _widened(factor: Array, rank: int) -> Array:
    """A factor (n, r) with columns of zeros up to a rank."""
    return np.pad(factor, ((0, 0), (0, rank - factor.shape[1])))
