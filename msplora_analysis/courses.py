"""The time of each spectrum in its training, on a clock that the runs of a method share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame, Series

COURSE = ("model", "method", "stack", "clock", "time", "scale")
"""Columns to group by for courses over training."""
SHARE = "share of training"
_CLOCKS = ("epoch", "step", SHARE)


def courses(table: DataFrame, runs: DataFrame | None = None) -> DataFrame:
    """Return a spectra table with the columns `clock` and `time`, by which the runs of a method can be averaged.

    The clock of a method on a model is `epoch` if all its runs have an epoch in common; else `step`, likewise; else
    `share of training`: each run's epoch (or step) divided by its last one, or by the planned number of epochs if the
    run was not finished, 0 to 1. `time` is missing for runs without epoch and step. Not all runs have every point:
    averages are over the runs that have it, and `measure` returns their number.

    Args:
        table: one or several concatenated spectra tables from `load_spectra`.
        runs: from `load_runs`, the state of these runs; by default all count as finished.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"model": "m", "method": "lora-r8", "run": ["a", "a", "b", "b"],
        ...                       "epoch": [1, 2, 5, 10], "step": [10, 20, 40, 80]})
        >>> courses(table)[["run", "clock", "time"]]
          run              clock  time
        0   a  share of training   0.5
        1   a  share of training   1.0
        2   b  share of training   0.5
        3   b  share of training   1.0
    """
    import pandas as pd

    unfinished = [] if runs is None else [runs.loc[~runs["finished"], name] for name in ("run", "planned")]
    planned: dict[str, float] = dict(zip(*unfinished, strict=True))
    clock, time = np.full(len(table), _CLOCKS.index(SHARE), dtype=np.int8), np.full(len(table), np.nan)
    moments = table[["run", "epoch", "step"]]
    for places in table.groupby(["model", "method"], observed=True, sort=False).indices.values():
        rows = moments.iloc[places]
        unknown = rows["epoch"].isna().all() and rows["step"].isna().all()
        name = "epoch" if unknown else next((name for name in ("epoch", "step") if _common(rows, name)), SHARE)
        clock[places] = _CLOCKS.index(name)
        time[places] = _shares(rows, planned) if name == SHARE else rows[name].astype("float64")
    return table.assign(clock=pd.Categorical.from_codes(clock, pd.Index(_CLOCKS)), time=time)


def _common(rows: DataFrame, name: str) -> bool:
    """Whether a column has no missing values, and all runs have some value in common."""
    points = rows[["run", name]].drop_duplicates()
    if points[name].isna().any():
        return False
    return bool(points.groupby(name)["run"].size().max() == points["run"].nunique())


def _shares(rows: DataFrame, planned: Mapping[str, float]) -> Series[float]:
    """The share of its training that each run has done; 1 if only its end is known.

    Args:
        rows: with the columns run, epoch and step.
        planned: epochs of the runs that were not finished; NaN where unknown.
    """
    epoch = rows["epoch"].astype("float64")
    value = epoch.fillna(rows["step"].astype("float64"))
    last = value.groupby(rows["run"].to_numpy()).transform("max")
    planned_last = rows["run"].astype(object).map(planned).astype("float64").where(epoch.notna())
    return (value / last.where(~(planned_last > last), planned_last)).fillna(1.0)
