"""Sign flips of paired differences: p values and intervals."""

from __future__ import annotations

from math import floor

import numpy as np
from numpy.typing import NDArray

MOST_FLIPS = 19_999
"""Number of random arrangements of signs. If there are no more (14 pairs), all of them are enumerated."""
TIE_DECIMALS = 12
"""Decimals, relative to the largest value, to which means are rounded so that ties are recognised."""
_AT_ONCE = 2**20
"""Means in memory at a time."""

_Column = NDArray[np.float64]


def sign_flips(differences: NDArray[np.float64], *, level: float = 0.05, seed: int = 0) -> tuple[_Column, ...]:
    """Return p values and intervals of the mean of paired differences, one test a column.

    An arrangement flips the signs of a set S of the pairs. p is the share of arrangements whose mean is as far from
    zero as the one observed. The interval is between the k-th smallest and the k-th largest mean over a set S, with
    k = ⌊level·2ⁿ/2⌋ (Hartigan 1969, "typical values"): the shifts that the same test would not reject.

    Args:
        differences: (n, columns) float64, finite.
        level: 1 minus the coverage of the interval.
        seed: of the random arrangements.

    Returns:
        p, low and high, (columns,) each; low and high are NaN if n is too small for the level, p is 1 for n = 1.

    Example:
        >>> [found.round(3).tolist() for found in sign_flips(np.array([[0.1], [0.2], [0.3], [0.4], [0.5], [0.6]]))]
        [[0.031], [0.1], [0.6]]
    """
    n, columns = differences.shape
    flipped = _sets(n, seed)
    arrangements = len(flipped) + 1  # with the observed one, without flips
    largest = np.maximum(abs(differences).max(axis=0), np.finfo(np.float64).tiny)
    least = floor(level * arrangements / 2)
    p, low, high = (np.full(columns, np.nan) for _ in range(3))
    sizes = flipped.sum(axis=1, keepdims=True)
    step = max(1, _AT_ONCE // len(flipped))
    for start in range(0, columns, step):
        part = slice(start, start + step)
        values = differences[:, part] / largest[part]
        sums, total = flipped.astype(np.float64) @ values, values.sum(axis=0)
        means = abs((total - 2 * sums) / n).round(TIE_DECIMALS)
        p[part] = ((means >= abs(total / n).round(TIE_DECIMALS)).sum(axis=0) + 1) / arrangements
        if least and 2 * least <= len(flipped):
            ends = np.partition(sums / sizes, (least - 1, len(flipped) - least), axis=0)
            low[part], high[part] = ends[least - 1] * largest[part], ends[-least] * largest[part]
    return p, low, high


def sign_flip_interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95% interval of `sign_flip_test` alone: NaN where there are too few differences for one.

    Args:
        differences: (n,) float64, finite, at least one.

    Example:
        >>> sign_flip_interval(np.array([0.1, 0.2, 0.3]))
        (nan, nan)
    """
    _, low, high = sign_flips(differences[:, None])
    return float(low[0]), float(high[0])


def _sets(n: int, seed: int) -> NDArray[np.bool_]:
    """(m, n): the pairs that each arrangement flips, at least one; all sets if there are few enough."""
    if 2**n <= MOST_FLIPS:
        numbers = np.arange(1, 2**n)
        return np.asarray((numbers[:, None] >> np.arange(n)) % 2 == 1)
    sets = np.random.default_rng(seed).random((MOST_FLIPS, n)) < 0.5
    sets[~sets.any(axis=1), 0] = True
    return sets
