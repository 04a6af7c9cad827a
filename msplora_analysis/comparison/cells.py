"""Tests of the cells of a layers × layers difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.statistics.family import corrected_p
from msplora_analysis.statistics.flips import sign_flips

if TYPE_CHECKING:
    from pandas import DataFrame

LEVEL = 0.05


def cell_tests(differences: NDArray[np.float64], layers: NDArray[np.int64]) -> DataFrame:
    """Test each cell of a difference by sign flips over the pairs of runs, corrected over the cells of the matrix.

    Args:
        differences: (n, L, L) nats, one matrix for each pair of runs.
        layers: (L,) layer indices.

    Returns:
        A row for each ordered pair of two layers: row and column (layer indices), difference (mean over the pairs of
        runs), low and high (its 95% interval, see `sign_flip_test`; NaN below 6 pairs), p, p_corrected (Benjamini and
        Hochberg, over all rows with a p), decided (whether p_corrected is at most 0.05). A cell that is not finite in
        a pair of runs has no p.

    Example:
        >>> cells = cell_tests(np.array([[[0.0, 1.0 + i / 9], [-1.0, 0.0]] for i in range(7)]), np.array([0, 1]))
        >>> cells[["row", "column", "difference", "low", "p", "decided"]].round(3)
           row  column  difference    low      p  decided
        0    0       1       1.333  1.111  0.016     True
        1    1       0      -1.000 -1.000  0.016     True
    """
    import pandas as pd

    rows, columns = np.nonzero(~np.eye(len(layers), dtype=bool))
    values = differences[:, rows, columns]
    finite = np.isfinite(values).all(axis=0)
    p, low, high, corrected = (np.full(len(rows), np.nan) for _ in range(4))
    if finite.any():
        p[finite], low[finite], high[finite] = sign_flips(values[:, finite], level=LEVEL)
        corrected[finite] = corrected_p(p[finite])
    with np.errstate(invalid="ignore"):
        mean = values.mean(axis=0)
    return pd.DataFrame(
        {
            "row": layers[rows],
            "column": layers[columns],
            "difference": mean,
            "low": low,
            "high": high,
            "p": p,
            "p_corrected": corrected,
            "decided": corrected <= LEVEL,
        }
    )
