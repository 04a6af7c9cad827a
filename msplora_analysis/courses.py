"""Where each spectrum stands in the course of its training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame, Series

COURSE = ("model", "method", "stack", "clock", "time", "scale")
"""What to measure by for courses over training."""
SHARE = "share of training"
_CLOCKS = ("epoch", "step", SHARE)


def courses(table: DataFrame) -> DataFrame:
    """Return a spectra table with the columns `clock` and `time`, on which the runs of a method can be averaged.

    The clock of a method on a model is `epoch` if all its runs have some epoch in common; else `step`, likewise; else
    `share of training`: each run's epoch (or step) divided by its last one, 0 to 1. `time` is missing for runs of which
    only the end is known, without epoch or step. Not every run need have every
    point: averages are over the runs at hand, and `measure` says how many these are.

    Args:
        table: a spectra table, as `load_spectra` gives it, or several put together.

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

    clock, time = np.full(len(table), _CLOCKS.index(SHARE), dtype=np.int8), np.full(len(table), np.nan)
    moments = table[["run", "epoch", "step"]]
    for places in table.groupby(["model", "method"], observed=True, sort=False).indices.values():
        rows = moments.iloc[places]
        unknown = rows["epoch"].isna().all() and rows["step"].isna().all()
        name = "epoch" if unknown else next((name for name in ("epoch", "step") if _common(rows, name)), SHARE)
        clock[places] = _CLOCKS.index(name)
        time[places] = _shares(rows) if name == SHARE else rows[name].astype("float64")
    return table.assign(clock=pd.Categorical.from_codes(clock, pd.Index(_CLOCKS)), time=time)


def _common(rows: DataFrame, name: str) -> bool:
    """Whether this is known of all moments, and some value of it is common to all runs."""
    moments = rows[["run", name]].drop_duplicates()
    if moments[name].isna().any():
        return False
    return bool(moments.groupby(name)["run"].size().max() == moments["run"].nunique())


def _shares(rows: DataFrame) -> Series[float]:
    """How much of its training each run has done; all of it where no more than its end is known."""
    value = rows["epoch"].astype("float64").fillna(rows["step"].astype("float64"))
    return (value / value.groupby(rows["run"].to_numpy()).transform("max")).fillna(1.0)
