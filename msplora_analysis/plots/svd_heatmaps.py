"""Fig. 3: how the singular values of each scale grow over training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.plots.canvas import (
    Frame,
    add_colour_bar,
    draw_heatmap,
    label_missing,
    moved,
    paper_style,
    sparse_ticks,
    time_axis,
)
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_FRAME = Frame(height=2.5, left=0.42, right=0.5, bottom=0.98, top=0.34, bar=0.08)
_LINE = 8.0
"""Points from one line of the table beneath to the next."""
_TABLE_TOP = 25.0


def plot_svd_heatmaps(
    spectra: DataFrame, *, ks: Sequence[int] = (1, 2, 4, 8), title: str = "", ax: Sequence[Axes] | None = None
) -> list[Axes]:
    """Draw one panel a scale: epochs across, singular value index down, colour the average magnitude (Fig. 3).

    One colour scale for all panels. Beneath each panel stands M_eff-k at its last epoch; higher means more
    concentrated, and a dash that the rank is at most k.

    Args:
        spectra: averaged spectra of one method (see `average_spectra`): columns scale, epoch (or clock and
            time, see `courses`), k, sigma, m_eff.
            `total` is left out where there are other scales.
        ks: for which k to write M_eff-k.
        title: written above all panels.
        ax: an Axes for each scale; a new figure of one column's width where not given.

    Returns:
        The axes drawn on, global first.

    Raises:
        ParameterError: if there are several spectra for one scale, epoch and k, or `ax` has another length.
    """
    time, clock = time_axis(spectra)
    if spectra.duplicated(["scale", time, "k"]).any():
        raise ParameterError("spectra", expected="one method on one model, each rank once", found="several")
    scales = [scale for scale in ("global", "mid", "layer", "total") if (spectra["scale"] == scale).any()]
    if len(scales) > 1 and "total" in scales:
        scales.remove("total")
    if ax is not None and len(ax) != len(scales):
        raise ParameterError("ax", expected=f"{len(scales)} axes, for {', '.join(scales)}", found=len(ax))
    shown = spectra[spectra["scale"].isin(scales)]
    times = _columns(shown[time].to_numpy(np.float64), every=clock == "epoch")
    indexes = int(shown["k"].max())
    with paper_style(ax is None):
        incomplete = gaps = False
        axes, bar = (list(ax), None) if ax is not None else _FRAME.panels(len(scales))
        for panel, scale in zip(axes, scales, strict=True):
            rows = shown[shown["scale"] == scale]
            values = np.full((indexes, len(times)), np.nan)
            values[rows["k"] - 1, np.searchsorted(times, rows[time])] = rows["sigma"]
            image = draw_heatmap(panel, values, cmap="viridis", vmin=0, vmax=shown["sigma"].max() or 1.0)
            panel.set_title(f"{scale} (rank {rows['k'].max()})" if len(scales) < 3 else scale)
            panel.set_xlabel(clock)
            _tick(panel, times, indexes, first=panel is axes[0])
            _write_ratios(panel, rows, ks, time, clock, first=panel is axes[0])
            gaps |= bool(np.isnan(values).all(axis=0).any())
            incomplete |= bool(np.isnan(values).any())
        if incomplete:
            label_missing(
                axes[-1], "no value" if gaps else "beyond the rank", down=_TABLE_TOP + 1 + _LINE * len(ks), right=34
            )
        axes[0].text(0, 1, title, va="bottom", transform=moved(axes[0], down=-13))
        axes[0].set_ylabel("singular value index")
        add_colour_bar(image, axes, bar, "average magnitude")
    return axes


def _columns(times: NDArray[np.float64], *, every: bool) -> NDArray[np.float64]:
    """The times that have a column each: every whole epoch up to the last, or those recorded."""
    if every and np.equal(np.mod(times, 1), 0).all():
        return np.arange(times.min(), times.max() + 1)
    return np.unique(times)


def _tick(panel: Axes, times: NDArray[np.float64], indexes: int, *, first: bool) -> None:
    places = sparse_ticks(len(times), 4)
    panel.set_xticks(places, ["" if np.isnan(times[place]) else f"{times[place]:g}" for place in places])
    steps = sparse_ticks(indexes + 1, 9)
    rows = sorted({max(int(step), 1) - 1 for step in steps})
    panel.set_yticks(rows, [str(row + 1) for row in rows] if first else [])


def _write_ratios(panel: Axes, rows: DataFrame, ks: Sequence[int], time: str, clock: str, *, first: bool) -> None:
    """M_eff-k at the last of the times, a line for each k, centred beneath the panel."""
    end = rows[time].max()
    last = rows[rows[time].isna() if np.isnan(end) else rows[time] == end].set_index("k")["m_eff"]

    tick_size = panel.xaxis.get_ticklabels()[0].get_fontsize()

    def write(line: int, text: str, x: float, align: str, right: float = 0.0) -> None:
        where = moved(panel, down=_TABLE_TOP + _LINE * line, right=right)
        panel.text(x, 0, text, ha=align, va="top", fontsize=tick_size, transform=where)

    for line, k in enumerate(ks):
        ratio = last.get(k, np.nan)
        write(line, "-" if np.isnan(ratio) else f"{ratio:.2f}", 0.5, "center")
        if first:
            write(line, f"M_eff-{k}", 0.0, "right", right=-4)
    if first:
        when = "" if np.isnan(end) else f"at {clock} {end:g}; "
        write(len(ks), f"{when}higher = more concentrated", 0.0, "left")
