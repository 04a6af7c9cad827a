"""Measures of spectra tables.

There are two orders of averaging, which are never mixed: average singular values and measure the mean spectrum, as in
the paper; or measure each component and average the measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from msplora_analysis import kernels
from msplora_core.errors import ParameterError
from msplora_core.pyramid import ALL_SCALES
from msplora_core.wording import natural_order

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Average = Literal["spectra", "measures"]
BY = ("model", "method", "stack", "epoch", "scale")
KS = (1, 2, 4, 8)
COMPONENT = ("run", "epoch", "step", "scale", "stack", "module", "unit")


def average_spectra(table: DataFrame, by: Sequence[str] = BY) -> DataFrame:
    """Average singular values within groups, by default over modules of one stack, units, tasks and seeds.

    Spectra of different rank are never averaged with each other: each rank has its own rows.

    Args:
        table: one or several concatenated spectra tables from `load_spectra`, or some of their rows.
        by: columns to group by.

    Returns:
        Columns `by`, rank, runs and components (numbers of averaged runs and spectra), k, sigma, share (p_k of Eq. 10)
        and m_eff (M_eff-k of Eq. 8 for this k: the cumulative share), sorted by value, scales from global to total.
        `share` and `m_eff` are NaN for a zero spectrum, and `m_eff` at k = rank, where it is 1 by definition.

    Raises:
        ParameterError: if the table is empty or lacks a column, or spectra are incomplete.

    Example:
        >>> import pandas as pd
        >>> two = pd.DataFrame({"run": "a", "scale": "layer", "unit": [0, 0, 1, 1], "rank": 2, "k": [1, 2, 1, 2],
        ...                     "sigma": [4.0, 2.0, 2.0, 0.0]})
        >>> average_spectra(two, by=["scale"])
           scale  rank  runs  components  k  sigma  share  m_eff
        0  layer     2     1           2  1    3.0   0.75   0.75
        1  layer     2     1           2  2    1.0   0.25    NaN
    """
    _check(table, [*by, "run", "rank", "k", "sigma"])
    keys = [*by, "rank", "k"]
    groups = table.groupby(keys, observed=True, dropna=False, sort=False)
    mean = groups.agg(runs=("run", "nunique"), components=("sigma", "size"), sigma=("sigma", "mean")).reset_index()
    mean = ordered(mean, keys)
    shares, ratios = np.empty(len(mean)), np.empty(len(mean))
    for rank, rows in whole_spectra(mean):
        p = kernels.spectral_distribution(mean["sigma"].to_numpy()[rows])
        shares[rows], ratios[rows] = p, np.cumsum(p, axis=-1)
        ratios[rows[:, rank - 1]] = np.nan
    mean = mean.assign(share=shares, m_eff=ratios)
    return mean[[*by, "rank", "runs", "components", "k", "sigma", "share", "m_eff"]]


def measure(
    table: DataFrame,
    by: Sequence[str] = BY,
    *,
    average: Average = "spectra",
    ks: Sequence[int] = KS,
    energy: float = 0.9,
) -> DataFrame:
    """Measure the concentration of spectra.

    Args:
        table: one or several concatenated spectra tables from `load_spectra`, or some of their rows.
        by: columns to group by, besides `rank`.
        average: `spectra` averages singular values, then measures; `measures` measures each component, then
            averages the values that are defined.
        ks: the k of M_eff-k.
        energy: the share of the squared singular values for the energy rank, above 0 and at most 1.

    Returns:
        A row for each group and rank, with columns runs and components (numbers of averaged runs and spectra),
        `m_eff_1`, ... (share of 1; *high* means concentrated, simple; NaN if the rank is at most k, since it is then
        1 by definition), `entropy_rank`, `stable_rank`, `participation_ratio` and the energy rank, named after its
        share: `energy_rank_90` (ranks; high means broad, complex). All are NaN for zero spectra.

    Raises:
        ParameterError: for an unknown `average`, and as `average_spectra`.

    Example:
        >>> import pandas as pd
        >>> one = pd.DataFrame({"run": "a", "epoch": 1, "step": 9, "scale": "layer", "stack": "", "module": "query",
        ...                     "unit": 0, "rank": 2, "k": [1, 2], "sigma": [3.0, 1.0]})
        >>> measure(one, by=["scale"], ks=[1, 2])[["scale", "rank", "m_eff_1", "m_eff_2", "energy_rank_90"]]
           scale  rank  m_eff_1  m_eff_2  energy_rank_90
        0  layer     2     0.75      NaN             1.0
    """
    by = list(by)
    if average == "spectra":
        return measure_averages(average_spectra(table, by), by, ks=ks, energy=energy)
    if average != "measures":
        raise ParameterError("average", expected="'spectra' or 'measures'", found=average)
    keys = list(dict.fromkeys([*by, "rank", *COMPONENT]))
    _check(table, [*keys, "k", "sigma"])
    each = _measured(table.sort_values([*keys, "k"]), keys, ks, energy)
    measures = [column for column in each.columns if column not in keys]
    groups = each.groupby([*by, "rank"], observed=True, dropna=False, sort=False)
    result = groups[measures].mean()
    result.insert(0, "components", groups["entropy_rank"].count())
    result.insert(0, "runs", groups["run"].nunique())
    return ordered(result.reset_index(), [*by, "rank"])


def measure_averages(
    spectra: DataFrame, by: Sequence[str] = BY, *, ks: Sequence[int] = KS, energy: float = 0.9
) -> DataFrame:
    """Return what `measure` returns, from spectra that are already averaged.

    Args:
        spectra: from `average_spectra`.
        by: the columns that they were grouped by.
        ks, energy: as for `measure`.
    """
    return _measured(spectra, [*by, "rank", "runs", "components"], ks, energy)


def last_epochs(table: DataFrame) -> DataFrame:
    """Return the rows of each run's last epoch, or last step if its epochs are unknown."""
    for column in ("epoch", "step"):
        last = table.groupby("run", observed=True)[column].transform("max")
        table = table[(table[column] == last).fillna(False) | last.isna()]
    return table


def ordered(frame: DataFrame, keys: Sequence[str]) -> DataFrame:
    """Sort by value: names in natural order, scales from global to total.

    The order of categories, which differs between tables, is ignored.
    """
    import pandas as pd

    scales = pd.CategoricalDtype(list(ALL_SCALES), ordered=True)
    kinds = {
        name: scales if name == "scale" else frame[name].cat.categories.dtype
        for name in keys
        if name == "scale" or isinstance(frame[name].dtype, pd.CategoricalDtype)
    }
    return frame.astype(kinds).sort_values(list(keys), key=_order, ignore_index=True)


def _order(column: Series) -> Series:
    """What a column is sorted by: names by their place in natural order."""
    import pandas as pd

    # of the values, since a column of objects may hold anything; scales are categories and have their own order
    if isinstance(column.dtype, pd.CategoricalDtype) or not pd.api.types.is_string_dtype(column):
        return column
    names = sorted(column.dropna().unique(), key=natural_order)
    return column.map({name: place for place, name in enumerate(names)})


def _measured(spectra: DataFrame, keys: list[str], ks: Sequence[int], energy: float) -> DataFrame:
    """The measures of each whole spectrum of a frame ordered by spectrum and k."""
    import pandas as pd

    sigma = spectra["sigma"].to_numpy()
    of_ranks = [rows for _, rows in whole_spectra(spectra)]
    measured = [measures_of(sigma[rows], ks, energy) for rows in of_ranks]
    values = {name: np.concatenate([one[name] for one in measured]) for name in measured[0]}
    found = spectra[keys].iloc[np.concatenate([rows[:, 0] for rows in of_ranks])].reset_index(drop=True)
    return ordered(pd.concat([found, pd.DataFrame(values, copy=False)], axis=1), keys)


def measures_of(
    spectra: NDArray[np.float64], ks: Sequence[int] = KS, energy: float = 0.9
) -> dict[str, NDArray[np.float64]]:
    """Return the columns of `measure` for spectra of one rank.

    Args:
        spectra: (..., r) singular values.
        ks: the k of M_eff-k.
        energy: the share of the squared singular values for the energy rank.

    Returns:
        (...) float64 by column; M_eff-k is NaN if r is at most k, since it is then 1 by definition.
    """
    rank, undefined = spectra.shape[-1], np.full(spectra.shape[:-1], np.nan)
    found = {f"m_eff_{k}": kernels.effective_rank_ratio(spectra, k) if k < rank else undefined for k in ks}
    return found | {
        "entropy_rank": kernels.entropy_rank(spectra),
        "stable_rank": kernels.stable_rank(spectra),
        "participation_ratio": kernels.participation_ratio(spectra),
        f"energy_rank_{100 * energy:g}": kernels.energy_rank(spectra, energy),
    }


def whole_spectra(frame: DataFrame) -> list[tuple[int, NDArray[np.intp]]]:
    """Return for each rank the row numbers of its spectra, (n, rank), in a frame ordered by spectrum and k.

    Raises:
        ParameterError: if a spectrum lacks a k or has it twice.
    """
    ranks, ks = frame["rank"].to_numpy(), frame["k"].to_numpy()
    spectra = []
    for rank in np.unique(ranks):
        rows = np.flatnonzero(ranks == rank)
        if len(rows) % rank or (ks[rows].reshape(-1, rank) != np.arange(1, rank + 1)).any():
            raise ParameterError(
                "table",
                expected=f"whole spectra: each k from 1 to {rank} once",
                found="some missing or twice",
                hint="select whole components, and group by all columns that distinguish them",
            )
        spectra.append((int(rank), rows.reshape(-1, rank)))
    return spectra


def _check(table: DataFrame, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ParameterError("table", expected=f"a column {missing[0]}", found=", ".join(map(str, table.columns)))
    if table.empty:
        raise ParameterError("table", expected="at least one spectrum", found="no rows")
