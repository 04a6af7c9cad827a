"""The time axis of figures over training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_FEW = 5
"""Whole epochs that each have a tick."""


def time_axis(frame: DataFrame) -> tuple[str, str]:
    """Return the time column of a frame, and its name in words: `time` with its clock, or `epoch`."""
    return ("time", str(frame["clock"].iloc[0])) if "time" in frame.columns else ("epoch", "epoch")


def tick_times(ax: Axes, times: NDArray[np.float64], most: int = 4) -> None:
    """Set a few round ticks: all times if they are few and whole, none if no time is known."""
    from matplotlib.ticker import MaxNLocator

    known = times[np.isfinite(times)]
    if not known.size:
        ax.set_xticks([])
        return
    whole = bool((known % 1 == 0).all())
    if whole and np.ptp(known) < _FEW and known.max() < 100:
        ax.set_xticks(np.arange(known.min(), known.max() + 1))
        return
    ax.xaxis.set_major_locator(MaxNLocator(most, integer=whole, steps=[1, 2, 5, 10]))
