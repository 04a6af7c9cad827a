"""Overlap of the layers of one module type in one run, with its null models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.kernels.direction_nulls import (
    MOST_DIRECTIONS,
    Spread,
    common_subspace_null,
    sharing_null,
    subspace_null,
)
from msplora_analysis.kernels.overlaps import SIDES, DirectionOverlaps, Side
from msplora_analysis.kernels.similarity import cosines_of, sharing_shares
from msplora_core.errors import ParameterError
from msplora_core.pyramid import DEFAULT_GROUPS, layer_groups

Groups = int | Sequence[int] | None
_MOST_WORK = 2**30
"""Limit of the draws of the null model of common subspaces, times the cube of its number of directions."""


@dataclass(frozen=True, eq=False)
class LayerCosines:
    """The cosines between the layers of one module type, and what the layers share.

    Args:
        module: the module type.
        scale: `layer` (each layer's own component) or `total` (the whole update of a layer).
        stack: the list of layers and the shape: `encoder.layer 768x768`.
        layers: (L,) their indices.
        rank: the largest rank.
        cosines: (L, L); NaN for a zero update.
        norms: (L,) Frobenius norms, in one unit.
        shares: (3,) of the energy: shared by all layers, by groups beyond that, by none (see `sharing_shares`). Layers
            with a zero update are left out; NaN with fewer than two others.
        null: mean and standard deviation of the shares for layers that share nothing.
    """

    module: str
    scale: str
    stack: str
    layers: NDArray[np.int64]
    rank: int
    cosines: NDArray[np.float64]
    norms: NDArray[np.float64]
    shares: NDArray[np.float64]
    null: Spread

    @property
    def excess(self) -> float:
        """Share of the energy that all layers or groups share, minus that of layers that share nothing."""
        return float(self.shares[:2].sum() - self.null.mean[:2].sum())

    @property
    def largest(self) -> tuple[float, int, int]:
        """The cosine with the largest absolute value and its two layers; NaN without two layers."""
        upper = np.triu_indices(len(self.layers), 1)
        values = self.cosines[upper]
        if np.isnan(values).all():
            return float("nan"), -1, -1
        place = int(np.nanargmax(abs(values)))
        return float(values[place]), int(self.layers[upper[0][place]]), int(self.layers[upper[1][place]])


@dataclass(frozen=True, eq=False)
class SideOverlap:
    """Overlap of the subspaces of adjacent layers, and of all layers, on one side.

    Args:
        side: `inputs` or `outputs`.
        size: dimension d of the space.
        rank: dimension of the common subspace: the largest rank of a layer.
        common: mean share of the layers' energy in their best common subspace.
        common_null: mean and standard deviation of `common` for layers of random directions.
        pairs: mean of φ at full rank over all pairs of layers.
        neighbours: mean of φ at full rank over adjacent layers.
        chance: φ of random subspaces of these ranks: mean over adjacent layers, and its standard deviation.
        grid: (r, r) mean of φ(i, j) over adjacent layers, r the smallest rank of a layer.
    """

    side: Side
    size: int
    rank: int
    common: float
    common_null: Spread
    pairs: float
    neighbours: float
    chance: Spread
    grid: NDArray[np.float64]


def layer_cosines(
    module: str,
    scale: str,
    stack: str,
    layers: Sequence[int],
    rank: int,
    inner: NDArray[np.float64],
    shape: tuple[float, float],
    groups: Groups = None,
) -> LayerCosines:
    """Return cosines and shares from inner products.

    Args:
        module, scale, stack: of the layers.
        layers: their indices.
        rank: the largest rank.
        inner: (L, L) inner products of their updates, in one unit.
        shape: (out, in) of the updates; NaN if unknown.
        groups: of layers by depth (see `sharing_shares`); boundaries are positions among these layers. By default
            three; one for up to three layers, where three would be groups of one layer.

    Raises:
        ParameterError: if the groups do not fit the layers, or each has one layer.
    """
    if groups is None and len(layers) <= DEFAULT_GROUPS:
        groups = 1
    if len(set(layer_groups(len(layers), groups))) == len(layers):
        expected = f"fewer groups than the {len(layers)} layers of {module}: a group of one layer shares all it has"
        raise ParameterError("groups", expected=expected, found=groups)
    norms = np.sqrt(np.maximum(np.diagonal(inner), 0.0))
    trained = np.flatnonzero(norms)
    shares, null = np.full(3, np.nan), Spread(np.full(3, np.nan), np.full(3, np.nan))
    if len(trained) > 1:
        groups = _groups_of(trained, len(layers), groups)
        shares = sharing_shares(inner[np.ix_(trained, trained)], groups)
        null = sharing_null(norms[trained], shape, groups)
    places = np.array(layers, dtype=np.int64)
    return LayerCosines(module, scale, stack, places, rank, cosines_of(inner), norms, shares, null)


def _groups_of(chosen: NDArray[np.intp], layers: int, groups: Groups) -> list[int]:
    """The boundaries between the groups of some of the layers; none if each would be a group of its own."""
    of_layer = np.array(layer_groups(layers, groups))[chosen]
    starts = (np.flatnonzero(np.diff(of_layer)) + 1).tolist()
    return starts if len(starts) + 1 < len(chosen) else []


def side_overlaps(
    overlaps: DirectionOverlaps, shape: tuple[int, int], draws: int = 20, seed: int = 0
) -> list[SideOverlap]:
    """Return the overlap of the layers' subspaces on both sides.

    Layers with a zero update are left out; the remaining layers are adjacent in their order.

    Args:
        overlaps: of the layers' updates, in order of depth.
        shape: (out, in) of the updates.
        draws: largest number of draws of the null model; eight if there are many directions (draws vary by < 0.001).
        seed: of the draws.
    """
    known = [layer for layer, rank in enumerate(overlaps.ranks) if rank]
    if len(known) < 2:
        return []
    sizes: dict[Side, int] = {"inputs": shape[1], "outputs": shape[0]}
    rank = max(overlaps.ranks)
    directions = min(sum(overlaps.ranks), MOST_DIRECTIONS)
    draws = max(1, min(draws, _MOST_WORK // directions**3))
    nulls = {size: common_subspace_null(overlaps.sigma, size, rank, draws, seed) for size in set(sizes.values())}
    return [_side(overlaps, side, sizes[side], known, nulls[sizes[side]]) for side in SIDES]


def _side(
    overlaps: DirectionOverlaps, side: Side, size: int, known: Sequence[int], null: NDArray[np.float64]
) -> SideOverlap:
    ranks = [overlaps.ranks[layer] for layer in known]
    adjacent = list(pairwise(known))
    grids = [overlaps.similarity(side, i, j) for i, j in adjacent]
    chances = [subspace_null(size, overlaps.ranks[i], overlaps.ranks[j]) for i, j in adjacent]
    smallest, largest = min(ranks), max(ranks)
    spread = Spread(null.mean(), null.std(ddof=1) if len(null) > 1 else np.nan)
    return SideOverlap(
        side=side,
        size=size,
        rank=largest,
        common=overlaps.common_energy(side, largest),
        common_null=spread,
        pairs=float(overlaps.full_similarities(side)[np.ix_(known, known)][np.triu_indices(len(known), 1)].mean()),
        neighbours=float(np.mean([grid[-1, -1] for grid in grids])),
        chance=Spread(
            np.mean([one.mean for one in chances]),
            np.sqrt(np.sum([one.deviation**2 for one in chances])) / len(chances),
        ),
        grid=np.mean([grid[:smallest, :smallest] for grid in grids], axis=0),
    )
