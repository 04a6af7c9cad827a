"""From spectra to numbers: tidy frames in, tidy frames out.

Two orders of averaging, never mixed: singular values first, then measured, as the paper does; or the
measures of each component, averaged afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from msplora_analysis import kernels
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from pandas import DataFrame

Average = Literal["spectra", "measures"]
BY = ("model", "method", "epoch", "scale")
KS = (1, 2, 4, 8)
_COMPONENT = ("run", "epoch", "scale", "module", "unit")


def average_spectra(table: DataFrame, by: Sequence[str] = BY) -> DataFrame:
    """Singular values averaged over everything but `by`: modules, units, tasks and seeds, as a rule.

    Spectra of different rank are never averaged with each other: each rank has its own rows.

    Args:
        table: a spectra table, as `load_spectra` gives it, or some of its rows.
        by: columns to keep apart.

    Returns:
        Columns `by`, rank, components (how many spectra were averaged), k, sigma, share (p_k of Eq. 10) and
        m_eff (M_eff-k of Eq. 8 for this k: the cumulated share). `share` and `m_eff` are NaN for a zero
        spectrum, and `m_eff` at k = rank, where it is 1 by definition and says nothing.

    Raises:
        ParameterError: if the table is empty, lacks a column, or spectra in it are not whole.

    Example:
        >>> import pandas as pd
        >>> two = pd.DataFrame({"scale": "layer", "unit": [0, 0, 1, 1], "rank": 2, "k": [1, 2, 1, 2],
        ...                     "sigma": [4.0, 2.0, 2.0, 0.0]})
        >>> average_spectra(two, by=["scale"])
           scale  rank  components  k  sigma  share  m_eff
        0  layer     2           2  1    3.0   0.75   0.75
        1  layer     2           2  2    1.0   0.25    NaN
    """
    _check(table, [*by, "rank", "k", "sigma"])
    keys = [*by, "rank", "k"]
    grouped = table.groupby(keys, observed=True, dropna=False, sort=True)["sigma"]
    mean = grouped.agg(components="size", sigma="mean").reset_index()
    shares, ratios = np.empty(len(mean)), np.empty(len(mean))
    for rank, rows in _whole_spectra(mean):
        p = kernels.spectral_distribution(mean["sigma"].to_numpy()[rows])
        shares[rows], ratios[rows] = p, np.cumsum(p, axis=-1)
        ratios[rows[:, rank - 1]] = np.nan
    mean = mean.assign(share=shares, m_eff=ratios)
    return mean[[*by, "rank", "components", "k", "sigma", "share", "m_eff"]]


def measure(
    table: DataFrame, by: Sequence[str] = BY, *, average: Average = "spectra", ks: Sequence[int] = KS
) -> DataFrame:
    """How concentrated the spectra are.

    Args:
        table: a spectra table, as `load_spectra` gives it, or some of its rows.
        by: columns to keep apart; the rest is averaged over. `rank` is always kept apart.
        average: `spectra` averages singular values, then measures; `measures` measures each component, then
            averages what is defined.
        ks: for which k to give M_eff-k.

    Returns:
        A row for each combination of `by` and rank, with columns components (how many spectra went in),
        `m_eff_1`, ... (share of 1; *high* means concentrated, simple; NaN where the rank is at most k: 1 by
        definition, it says nothing), `entropy_rank`, `stable_rank`, `participation_ratio` and `energy_rank`
        at a share of 0.9 (ranks; high means broad, complex). All are NaN for zero spectra.

    Raises:
        ParameterError: for an unknown `average`, and as `average_spectra`.

    Example:
        >>> import pandas as pd
        >>> one = pd.DataFrame({"run": "a", "epoch": 1, "scale": "layer", "module": "query", "unit": 0, "rank": 2,
        ...                     "k": [1, 2], "sigma": [3.0, 1.0]})
        >>> measure(one, by=["scale"], ks=[1, 2])[["scale", "rank", "m_eff_1", "m_eff_2", "stable_rank"]].round(2)
           scale  rank  m_eff_1  m_eff_2  stable_rank
        0  layer     2     0.75      NaN         1.11
    """
    by = list(by)
    if average == "spectra":
        return _measured(average_spectra(table, by), [*by, "rank", "components"], ks)
    if average != "measures":
        raise ParameterError("average", expected="'spectra' or 'measures'", found=average)
    keys = list(dict.fromkeys([*by, "rank", *_COMPONENT]))
    _check(table, [*keys, "k", "sigma"])
    each = _measured(table.sort_values([*keys, "k"]), keys, ks)
    columns = [column for column in each.columns if column not in keys]
    grouped = each.groupby([*by, "rank"], observed=True, dropna=False)
    result = grouped[columns].mean()
    result.insert(0, "components", grouped["entropy_rank"].count())
    return result.reset_index()


def last_epochs(table: DataFrame) -> DataFrame:
    """Return the rows of each run's last epoch, or last step where its epochs are not known."""
    for column in ("epoch", "step"):
        if column in table.columns:
            last = table.groupby("run", observed=True)[column].transform("max")
            table = table[(table[column] == last).fillna(False) | last.isna()]
    return table


def common_epochs(table: DataFrame) -> DataFrame:
    """The rows of those epochs that every run of a method on a model has, so that no average changes its members."""
    unknown = table["epoch"].isna()
    if unknown.any():  # checkpoints of unknown epochs are not put together: the last stands for the run
        import pandas as pd

        table = pd.concat([table[~unknown], last_epochs(table[unknown])])
    runs = table[["model", "method", "run", "epoch"]].drop_duplicates()
    variant = runs.groupby(["model", "method"], observed=True)["run"].transform("nunique")
    holders = runs.groupby(["model", "method", "epoch"], observed=True, dropna=False)["run"].transform("size")
    kept = runs[holders == variant]
    return table.merge(kept, on=["model", "method", "run", "epoch"], how="inner")


def _measured(spectra: DataFrame, keys: list[str], ks: Sequence[int]) -> DataFrame:
    """The measures of each whole spectrum of a frame ordered by spectrum and k."""
    import pandas as pd

    sigma = spectra["sigma"].to_numpy()
    parts = []
    for rank, rows in _whole_spectra(spectra):
        values = sigma[rows]
        part = spectra.iloc[rows[:, 0]][keys].reset_index(drop=True)
        for k in ks:
            part[f"m_eff_{k}"] = kernels.effective_rank_ratio(values, k) if k < rank else np.nan
        part["entropy_rank"] = kernels.entropy_rank(values)
        part["stable_rank"] = kernels.stable_rank(values)
        part["participation_ratio"] = kernels.participation_ratio(values)
        part["energy_rank"] = kernels.energy_rank(values, 0.9)
        parts.append(part)
    return pd.concat(parts, ignore_index=True).sort_values(keys, ignore_index=True)


def _whole_spectra(frame: DataFrame) -> list[tuple[int, NDArray[np.intp]]]:
    """For each rank the row numbers of its spectra, (n, rank), in a frame ordered by spectrum and k."""
    ranks, ks = frame["rank"].to_numpy(), frame["k"].to_numpy()
    spectra = []
    for rank in np.unique(ranks):
        rows = np.flatnonzero(ranks == rank)
        if len(rows) % rank or (ks[rows].reshape(-1, rank) != np.arange(1, rank + 1)).any():
            raise ParameterError(
                "table",
                expected=f"whole spectra: each k from 1 to {rank} once",
                found="some missing or twice",
                hint="choose components, not single singular values; name in `by` what tells them apart",
            )
        spectra.append((int(rank), rows.reshape(-1, rank)))
    return spectra


def _check(table: DataFrame, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ParameterError("table", expected=f"a column {missing[0]}", found=", ".join(map(str, table.columns)))
    if table.empty:
        raise ParameterError("table", expected="at least one spectrum", found="no rows")
