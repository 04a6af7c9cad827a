"""Fig. 3: how the singular values of each scale grow over training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.plots.canvas import LINE, PANELS_A_ROW, Frame, Row, given_axes, write_heading
from msplora_analysis.plots.colours import MAGNITUDE, SCALE_COLOURS
from msplora_analysis.plots.epochs import tick_times, time_axis
from msplora_analysis.plots.heatmap import (
    add_colour_bar,
    colour_norm,
    draw_heatmap,
    index_ticks,
    most_rows,
    write_all_zero,
)
from msplora_analysis.plots.lettering import M_EFF, count_lines, fitted, m_eff, write_around
from msplora_analysis.plots.paper import SMALL, magnification, paper_style
from msplora_analysis.plots.words import UNTRAINED, leading, name_title
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_FRAME = Frame(left=0.3, gap=0.26, bar="below")
_HEIGHTS = 1.2, 0.85, 0.6
"""Height of the tallest panel of a row, in inches: with one row, with two or three, and with more."""
_FEW_ROWS = 3
_CELL = 0.25
"""Largest height of a cell, in inches."""
_LEAST_HEIGHT = 0.2
_TITLE = 72 * (_FRAME.width(PANELS_A_ROW) + _FRAME.gap - 0.08)
"""Width of a panel's title in points, with most of the gap beside it."""


def plot_svd_heatmaps(
    spectra: DataFrame,
    *,
    by: str = "method",
    ks: Sequence[int] = (1, 2, 4, 8),
    top: int | None = 8,
    log: bool | None = None,
    title: str = "",
    note: str = "",
    vmin: float | None = None,
    vmax: float | None = None,
    ax: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Draw one panel for each scale: training on the x axis, singular value index on the y axis, mean value as colour.

    This is Fig. 3 of the paper. All panels have one colour scale; each method has its own row. Columns are placed at
    their epochs, steps or shares of training; epochs that were not recorded stay empty. Zero spectra before the first
    step are left out. Below each panel is M_eff-k at the last column; higher means more concentrated.

    Args:
        spectra: averaged spectra on one model (see `average_spectra`): columns scale, epoch (or clock and time, see
            `courses`), k, sigma, m_eff; also rank and `by` if they vary. `total` is left out if there are other scales.
        by: the column whose values each have a row of panels: `method`, `task`, `module`, or another.
        ks: the k of which to write M_eff-k; those not below the rank are left out.
        top: how many leading singular values to show, by default 8 as in the paper; None for all.
        log: whether colours are logarithmic, to distinguish small values; None: only if most cells would be dark.
        title: above all panels.
        note: below all panels.
        vmin, vmax: ends of the colour scale; by default 0 (if logarithmic, the least value above 0) and the highest.
        ax: an Axes for each panel, row by row; by default a new figure of one column's width. A figure with
            `layout="constrained"` has room for the colour bar and the notes.

    Returns:
        The axes drawn on, global first in each row.

    Raises:
        ParameterError: if there are several spectra for one panel, epoch and k, or `ax` has another length.
    """
    rows = _rows_of_panels(spectra, by, ks, top)
    panels = [panel for row in rows for panel in row]
    axes, bar = given_axes(ax, len(panels), f", for {', '.join(panel.title for panel in panels)}"), None
    norm = colour_norm(np.concatenate([panel.values.ravel() for panel in panels]), vmin, vmax, log)
    foot = "; ".join(filter(None, [leading(top, max(panel.rank for panel in panels)), _foot(panels), note]))
    with paper_style(ax is None):
        if axes is None:
            nested, bar = _FRAME.lay_out([_layout(row, len(rows)) for row in rows], title=title, foot=foot)
            axes = [one for row in nested for one in row]
        size = SMALL * magnification() if ax is None else None
        for one, panel in zip(axes, panels, strict=True):
            image = draw_heatmap(one, panel.values, _edges(panel.times), cmap=MAGNITUDE, norm=norm)
            if np.isnan(panel.values).all():
                write_all_zero(one)
            one.set_title(panel.title)
            if ax is None:
                write_heading(one, panel.heading, count_lines(panel.title))
            one.set_xlabel("\n".join(_below(panel, max(map(len, rows)))), fontsize=size)
            tick_times(one, panel.times, 3)
        axes[0].set_ylabel("index")
        if ax is not None:
            write_around(axes, title, foot)
        for one, panel in zip(axes, panels, strict=True):
            one.set_yticks(*index_ticks(len(panel.values), most_rows(one)))
        add_colour_bar(image, axes, bar, "mean singular value")
    return axes


@dataclass(frozen=True, eq=False)
class _Panel:
    """The content of one panel.

    Args:
        heading: above this panel and the following ones of the same kind.
        title: directly above this panel.
        rank: how many singular values there are.
        clock: the unit of `times`.
        times: (T,) the time of each column.
        values: (top, T) leading singular values, NaN if unknown.
        ratios: lines with M_eff-k.
    """

    heading: str
    title: str
    rank: int
    clock: str
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    ratios: list[str]


def _rows_of_panels(spectra: DataFrame, by: str, ks: Sequence[int], top: int | None) -> list[list[_Panel]]:
    """Return rows of at most three panels; kinds with a single panel, such as plain LoRA, share rows."""
    kinds = list(spectra.groupby(by, observed=True, sort=False)) if by in spectra.columns else [("", spectra)]
    groups = [_panels(part, name_title(by, str(name)) if len(kinds) > 1 else "", ks, top) for name, part in kinds]
    rows = [row for group in groups if len(group) > 1 for row in _split(group)]
    alone = sorted((group[0] for group in groups if len(group) == 1), key=lambda panel: panel.rank)
    if len(alone) == len(rows) == 1:
        return [rows[0] + alone]
    named = [replace(panel, title=fitted(panel.heading or panel.title, _TITLE), heading="") for panel in alone]
    return rows + _split(named)


def _split(panels: list[_Panel]) -> list[list[_Panel]]:
    return [panels[start : start + PANELS_A_ROW] for start in range(0, len(panels), PANELS_A_ROW)]


def _panels(spectra: DataFrame, heading: str, ks: Sequence[int], top: int | None) -> list[_Panel]:
    """Return a panel for each scale and rank."""
    time, clock = time_axis(spectra)
    kinds = [scale for scale in SCALE_COLOURS if (spectra["scale"] == scale).any()]
    scales = [scale for scale in kinds if scale != "total"] or kinds
    shown = _trained(spectra[spectra["scale"].isin(scales)], time)
    if "rank" not in shown.columns:
        shown = shown.assign(rank=shown.groupby(["scale", time], observed=True)["k"].transform("max"))
    if shown.duplicated(["scale", "rank", time, "k"]).any():
        raise ParameterError("spectra", expected="one method on one model, each rank once", found="several")
    times = _columns(shown[time].to_numpy(np.float64), every=clock == "epoch")
    panels = list[_Panel]()
    for scale in scales:
        of_scale = shown[shown["scale"] == scale]
        for rank in sorted(map(int, of_scale["rank"].unique())):
            part = of_scale[of_scale["rank"] == rank]
            ratios = _last_ratios(part, time, [k for k in ks if k < rank])
            values = _matrix(part, time, times, rank if top is None else min(rank, top))
            name = f"{scale}, r={rank}"
            panels.append(_Panel("" if panels else heading, name, rank, clock, times, values, ratios))
    return panels


def _layout(row: list[_Panel], rows: int) -> Row:
    highest = max(len(panel.values) for panel in row)
    height = min(_HEIGHTS[(rows > 1) + (rows > _FEW_ROWS)], _CELL * highest)
    heights = [max(height * len(panel.values) / highest, _LEAST_HEIGHT) for panel in row]
    texts = [len(_below(panel, len(row))) for panel in row]
    lines = max(count - (max(heights) - one) / LINE for count, one in zip(texts, heights, strict=True))
    return Row(
        heights,
        below=0.12 + LINE * lines,
        panel_titles=max(count_lines(panel.title) for panel in row),
        heading=any(panel.heading for panel in row),
        columns=PANELS_A_ROW if rows > 1 else None,
    )


def _trained(rows: DataFrame, time: str) -> DataFrame:
    """Return the rows from the first nonzero update on, or all rows if every update is zero."""
    start = rows.loc[rows["sigma"] > 0, time].min()
    return rows if np.isnan(start) else rows[rows[time] >= start]


def _columns(times: NDArray[np.float64], *, every: bool) -> NDArray[np.float64]:
    """Return the times of the columns: every whole epoch up to the last, or the recorded times."""
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
    rows = rows[rows["k"] <= indexes]
    values[rows["k"] - 1, np.searchsorted(times, rows[time])] = rows["sigma"]
    return values if np.nanmax(values) > 0 else np.full_like(values, np.nan)


def _last_ratios(rows: DataFrame, time: str, ks: Sequence[int]) -> list[str]:
    """Return M_eff-k at the last time."""
    last = rows[(rows[time] == rows[time].max()) | rows[time].isna()].set_index("k")["m_eff"]
    return [f"{m_eff(k)} {last[k]:.2f}" for k in ks if last.get(k, np.nan) == last.get(k, np.nan)]


def _below(panel: _Panel, panels: int) -> list[str]:
    """Return the lines below a panel, with two ratios on each if its row has at most three panels."""
    together = 2 if panels <= PANELS_A_ROW else 1
    starts = range(0, len(panel.ratios), together)
    return [panel.clock, *(" ".join(panel.ratios[start : start + together]) for start in starts)]


def _foot(panels: list[_Panel]) -> str:
    notes = []
    ends = {f"{panel.clock} {panel.times[-1]:g}" for panel in panels if panel.ratios and np.isfinite(panel.times[-1])}
    if any(panel.ratios for panel in panels):
        at = f" at {ends.pop()}" if len(ends) == 1 else ""
        notes.append(f"{M_EFF}{at}: share of the k largest; higher = more concentrated")
    if any(np.isnan(panel.values).all() for panel in panels):
        notes.append(UNTRAINED)
    elif any(np.isnan(panel.values).any() for panel in panels):
        notes.append("hatched: no value")
    return "; ".join(notes)
