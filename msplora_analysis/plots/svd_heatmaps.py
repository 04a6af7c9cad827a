"""Fig. 3: how the singular values of each scale grow over training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.plots.canvas import (
    M_EFF,
    Frame,
    add_colour_bar,
    colour_norm,
    draw_heatmap,
    paper_style,
    tick_rows,
    time_axis,
    write_around,
)
from msplora_analysis.plots.colours import MAGNITUDE
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_FRAME = Frame(height=1.2, left=0.36, right=0.5, bar=0.08)
_SCALES = ("global", "mid", "layer", "total")


def plot_svd_heatmaps(
    spectra: DataFrame,
    *,
    ks: Sequence[int] = (1, 2, 4, 8),
    log: bool = False,
    title: str = "",
    vmin: float | None = None,
    vmax: float | None = None,
    ax: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Draw one panel a scale: training across, singular value index down, colour the average magnitude (Fig. 3).

    One colour scale for all panels. Columns stand at their true epochs, steps or shares of training; whole epochs
    that were not recorded are left open. Zero spectra before the first step are left out. M_eff-k at the last
    column is written below each panel; higher means more concentrated.

    Args:
        spectra: averaged spectra of one method (see `average_spectra`): columns scale, epoch (or clock and time,
            see `courses`), k, sigma, m_eff. `total` is left out where there are other scales.
        ks: for which k to write M_eff-k; those of at least the rank of all scales are left out.
        log: whether colours are logarithmic, to tell small values apart.
        title: written above all panels.
        vmin, vmax: ends of the colour scale; 0 (if `log`, the least value above 0) and the highest where not given.
        ax: an Axes for each scale; a new figure of one column's width where not given.

    Returns:
        The axes drawn on, global first.

    Raises:
        ParameterError: if there are several spectra for one scale, epoch and k, or `ax` has another length.
    """
    time, clock = time_axis(spectra)
    if spectra.duplicated(["scale", time, "k"]).any():
        raise ParameterError("spectra", expected="one method on one model, each rank once", found="several")
    scales = [scale for scale in _SCALES if (spectra["scale"] == scale).any()]
    if len(scales) > 1 and "total" in scales:
        scales.remove("total")
    if ax is not None and len(ax) != len(scales):
        raise ParameterError("ax", expected=f"{len(scales)} axes, for {', '.join(scales)}", found=len(ax))
    shown = _trained(spectra[spectra["scale"].isin(scales)], time)
    times = _columns(shown[time].to_numpy(np.float64), every=clock == "epoch")
    values = {scale: _matrix(shown[shown["scale"] == scale], time, times, int(shown["k"].max())) for scale in scales}
    norm = colour_norm(shown["sigma"].to_numpy(), vmin, vmax, log)
    ratios = {scale: _last_ratios(shown[shown["scale"] == scale], time, ks) for scale in scales}
    lines = [k for k in ks if any(not np.isnan(each.get(k, np.nan)) for each in ratios.values())]
    foot = _foot(list(values.values()), f"{M_EFF} at {clock} {times[-1]:g}" if lines and times[-1] == times[-1] else "")
    with paper_style(ax is None):
        if ax is None:
            axes, bar = _FRAME.panels(len(scales), title=title, foot=foot, lines=1 + len(lines))
        else:
            axes, bar = list(ax), None
        for panel, scale in zip(axes, scales, strict=True):
            image = draw_heatmap(panel, values[scale], _edges(times), cmap=MAGNITUDE, norm=norm)
            panel.set_title(f"{scale} (rank {shown.loc[shown['scale'] == scale, 'k'].max()})")
            written = [f"{M_EFF}-{k}: {_number(ratios[scale].get(k, np.nan))}" for k in lines]
            panel.set_xlabel("\n".join([clock, *written]))
            _tick(panel, times, first=panel is axes[0])
        axes[0].set_ylabel("singular value index")
        if ax is not None:
            write_around(axes[0], title, foot)
        add_colour_bar(image, axes, bar, "average magnitude")
    return axes


def _trained(rows: DataFrame, time: str) -> DataFrame:
    """Return the rows from the first update that is not zero on, or all where every one is."""
    start = rows.loc[rows["sigma"] > 0, time].min()
    return rows if np.isnan(start) else rows[rows[time] >= start]


def _columns(times: NDArray[np.float64], *, every: bool) -> NDArray[np.float64]:
    """Return the times that have a column each: every whole epoch up to the last, or those recorded."""
    if every and np.equal(np.mod(times, 1), 0).all():
        return np.arange(times.min(), times.max() + 1)
    return np.unique(times)


def _edges(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the edges between columns, halfway between their times."""
    if len(times) == 1:
        return np.array([float(np.nan_to_num(times[0])) + side for side in (-0.5, 0.5)])
    between = (times[1:] + times[:-1]) / 2
    edges: NDArray[np.float64] = np.concatenate([[2 * times[0] - between[0]], between, [2 * times[-1] - between[-1]]])
    return edges


def _matrix(rows: DataFrame, time: str, times: NDArray[np.float64], indexes: int) -> NDArray[np.float64]:
    values = np.full((indexes, len(times)), np.nan)
    values[rows["k"] - 1, np.searchsorted(times, rows[time])] = rows["sigma"]
    return values


def _last_ratios(rows: DataFrame, time: str, ks: Sequence[int]) -> dict[int, float]:
    """Return M_eff-k at the last of the times."""
    last = rows[(rows[time] == rows[time].max()) | rows[time].isna()].set_index("k")["m_eff"]
    return {k: float(last.get(k, np.nan)) for k in ks}


def _foot(values: list[NDArray[np.float64]], ratios: str) -> str:
    parts = [f"{ratios}: higher = more concentrated"] if ratios else []
    if any(np.isnan(each).all(axis=0).any() for each in values):
        parts.append("hatched: no value")
    elif any(np.isnan(each).any() for each in values):
        parts.append("hatched: beyond the rank")
    return "; ".join(parts)


def _number(ratio: float) -> str:
    return "-" if np.isnan(ratio) else f"{ratio:.2f}"


def _tick(panel: Axes, times: NDArray[np.float64], *, first: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    whole = bool(np.equal(np.mod(times, 1), 0).all())
    panel.xaxis.set_major_locator(MaxNLocator(3, integer=whole, steps=[1, 2, 5, 10]))
    if np.isnan(times).all():
        panel.set_xticks([])
    indexes = round(panel.get_ylim()[0] + 0.5)
    tick_rows(panel, [str(row + 1) for row in range(indexes)] if first else [""] * indexes, 8)
