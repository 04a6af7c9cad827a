"""Permutation tests of a layers × layers matrix: are near layers more alike than distant ones?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations
from math import factorial, nan, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_analysis.kernels.distribution import real_numbers
from msplora_analysis.statistics.flips import TIE_DECIMALS
from msplora_analysis.statistics.outcome import Outcome
from msplora_core.errors import ParameterError
from msplora_core.pyramid import layer_groups

DRAWS = 19_999
"""Number of random permutations of the layers. If there are no more (7 layers), all of them are enumerated."""

_ELEMENTS = 2**18
"""Distances of permuted layers in memory at a time: 2 MB."""


def mantel_test(matrix: ArrayLike, *, seed: int = 0) -> Outcome:
    """Test whether adjacent layers are more alike than distant ones, by permuting the layers' labels (Mantel 1967).

    The statistic is the mean distance of non-adjacent pairs of layers minus that of adjacent pairs, in the symmetric
    part (D + Dᵀ)/2: positive if adjacent layers are more alike. Labels are permuted, not cells, since the cells of
    one layer depend on each other.

    Args:
        matrix: (L, L) distances between layers in order of depth, such as `pairwise_spectral_kl`; the diagonal is
            not used. For similarities such as cosines pass 1 − similarity. A layer without a defined distance to any
            other is left out and noted; the others keep their depth.
        seed: of 19,999 random permutations, from 8 layers on; with fewer, all L! are enumerated.

    Returns:
        The outcome, in the unit of the matrix; p is two-sided, n the number of layers. NaN with fewer than 3 layers.

    Raises:
        ParameterError: if the matrix is not square, or holds infinity or a negative distance, or a single NaN cell.

    Example:
        >>> depth = np.arange(6.0)
        >>> print(mantel_test(abs(depth[:, None] - depth)))
        effect +2, p 0.0056, least p 0.0056 (n = 6 layers; about these layers; all 720 permutations of the layers)
    """
    distances, depth, note = _checked(matrix)
    near = abs(depth[:, None] - depth) == 1
    return _label_test(distances, near, 2, note, seed)


def thirds_test(matrix: ArrayLike, groups: int | Sequence[int] = 3, *, seed: int = 0) -> Outcome:
    """Test whether layers group by depth: contiguous groups against random partitions into groups of the same sizes.

    The statistic is the mean distance between groups minus that within groups, in the symmetric part of the matrix:
    positive if layers of one group are more alike.

    Args:
        matrix: (L, L) distances between layers, as in `mantel_test`.
        groups: their number, or the boundaries, as for `MSPLoraConfig`.
        seed: as in `mantel_test`.

    Returns:
        The outcome, as for `mantel_test`. NaN if no two layers share a group, or all do.

    Raises:
        ParameterError: as `mantel_test`, or if the groups do not fit the layers.

    Example:
        >>> group = np.array([0, 0, 1, 1, 2, 2])
        >>> print(thirds_test(group[:, None] != group))
        effect +1, p 0.13, least p 0.13 (n = 6 layers; about these layers; all 720 permutations of the layers)
    """
    distances, depth, note = _checked(matrix)
    group = np.array(layer_groups(np.shape(matrix)[0], groups))[depth]
    sizes = np.unique(group, return_counts=True)[1]
    same = prod(map(factorial, sizes.tolist())) * prod(map(factorial, np.bincount(sizes).tolist()))
    return _label_test(distances, group[:, None] == group, same, note, seed)


def _label_test(distances: NDArray[np.float64], near: NDArray[np.bool_], same: int, note: str, seed: int) -> Outcome:
    """Mean distance of distant pairs minus that of near pairs, against permuted layers.

    Args:
        distances: (n, n), symmetric.
        near: (n, n) whether a pair is near.
        same: number of permutations of the layers that do not change `near`, which limits the least p.
        note: on layers that were left out.
        seed: of the random permutations.
    """
    n = len(distances)
    rows, columns = np.triu_indices(n, 1)
    pairs = near[rows, columns]
    if not pairs.any() or pairs.all():
        reason = "; ".join(filter(None, (note, "no near or no far pairs of layers")))
        return Outcome("about these layers", "permutation of the layers", n, "layers", nan, nan, note=reason)
    largest = distances.max() or 1.0
    distances = distances / largest
    rows, columns = rows[pairs], columns[pairs]
    close, total = len(rows), np.triu(distances, 1).sum()

    def statistic(place: NDArray[np.int_]) -> NDArray[np.float64]:
        inside = distances[place[..., rows], place[..., columns]].sum(axis=-1)
        means: NDArray[np.float64] = (total - inside) / (len(pairs) - close) - inside / close
        return means.round(TIE_DECIMALS)

    exact = factorial(n) <= DRAWS
    observed = float(statistic(np.arange(n)))
    orders = _orders(n, seed)
    parts = np.array_split(orders, 1 + len(orders) * close // _ELEMENTS)  # all at once would take 300 MB at 64 layers
    found = np.concatenate([statistic(part) for part in parts])
    tails = [(found <= observed).sum(), (found >= observed).sum()]
    p = 2 * min(tails) / len(found) if exact else 2 * (min(tails) + 1) / (len(found) + 1)
    return Outcome(
        question="about these layers",
        test=f"all {factorial(n):,} permutations of the layers"
        if exact
        else f"{DRAWS:,} random permutations of the layers, seed {seed}",
        n=n,
        of="layers",
        effect=observed * largest,
        p=min(1.0, float(p)),
        least_p=min(1.0, max(2 * same / factorial(n), 0.0 if exact else 2 / (DRAWS + 1))),
        note=note,
    )


@lru_cache(maxsize=1)  # one analysis tests many matrices of one size
def _orders(n: int, seed: int) -> NDArray[np.int_]:
    """Permutations of n layers: all if there are few, else random ones. scipy.stats is too slow to import for this."""
    if factorial(n) <= DRAWS:
        return np.array(list(permutations(range(n))))
    return np.random.default_rng(seed).permuted(np.tile(np.arange(n), (DRAWS, 1)), axis=1)


def _checked(matrix: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int_], str]:
    """The symmetric distances of the layers that have them, the depth of these, and a note on the others."""
    values = real_numbers(matrix, "matrix")
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ParameterError("matrix", expected="shape (L, L)", found=values.shape)
    np.fill_diagonal(values, 0.0)
    undefined = np.isnan(values)
    empty = undefined.sum(axis=1) == max(1, len(values) - 1)
    depth = np.flatnonzero(~empty)
    kept = values[np.ix_(depth, depth)]
    if np.isnan(kept).any() or np.isinf(kept).any() or (kept < 0).any():
        raise ParameterError(
            "matrix",
            expected="finite distances of at least 0",
            found=float(kept[~(np.isfinite(kept) & (kept >= 0))][0]),
            hint="a zero singular value makes a KL infinite; set floor",
        )
    note = f"left out without a distance: {empty.sum()} of {len(values)} layers" if empty.any() else ""
    return (kept + kept.T) / 2, depth, note
