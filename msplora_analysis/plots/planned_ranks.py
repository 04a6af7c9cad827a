"""Planned ranks compared with equal ranks: the rank of each module, and the share of its energy that it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from msplora_analysis.plots.canvas import LINE, Frame, Row, given_axes, write_heading
from msplora_analysis.plots.colours import NULL_COLOUR, SCALE_COLOURS
from msplora_analysis.plots.heatmap import whole_ticks
from msplora_analysis.plots.lettering import write_around
from msplora_analysis.plots.paper import paper_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_FRAME = Frame(left=0.34, gap=0.5)
_HEIGHT = 0.55
_PLANNED = SCALE_COLOURS["global"]
_EQUAL = SCALE_COLOURS["layer"]
MOST_TYPES = 10
"""How many module types, with two panels each, fit in one figure."""


def plot_plan(
    modules: DataFrame, uniform_rank: float, *, title: str = "", note: str = "", ax: Sequence[Axes] | None = None
) -> list[Axes]:
    """Draw a plan with two panels for each module type: ranks by layer, and the share of energy that each module keeps.

    The grey bar behind a planned rank is the rank of the probe. The line is the equal rank of the same total size.

    Args:
        modules: `Plan.modules`; units of a shared scale with the same rank are one bar, labelled with the scale's
            name. With more than 10 module types, the 10 with the most energy are drawn.
        uniform_rank: `Plan.uniform_rank`.
        title: above all panels.
        note: below all panels.
        ax: two Axes for each module type; by default a new figure of one column's width.

    Returns:
        The axes drawn on: ranks and shares of the first module type, then of the next.

    Raises:
        ParameterError: if `ax` has another length.
    """
    from matplotlib.ticker import MaxNLocator

    energy = modules.groupby("module", sort=False, observed=True)["energy"].sum()
    shown = set(energy.nlargest(MOST_TYPES).index)
    kinds = {name: rows for name, rows in modules.groupby("module", sort=False, observed=True) if name in shown}
    given = given_axes(ax, 2 * len(kinds), ", two a module type")
    more = len(energy) - len(kinds)
    left_out = f"{more} module types of less energy are left out" if more else ""
    foot = "; ".join(filter(None, ["grey bars: the probe; equal: one rank for all at the same size", left_out, note]))
    with paper_style(ax is None):
        axes = given or _new_axes(list(map(str, kinds)), title, foot)
        for (name, rows), ranks, kept in zip(kinds.items(), axes[::2], axes[1::2], strict=True):
            places = np.arange(len(rows))
            ranks.bar(places, rows["rank_before"], 0.9, color=NULL_COLOUR)
            ranks.bar(places, rows["rank"], 0.6, color=_PLANNED, label="planned")
            ranks.axhline(uniform_rank, color=_EQUAL, linewidth=1.0, label="equal")
            kept.plot(places, rows["kept_uniform"], "D", color=_EQUAL, markersize=2.4, label="equal")
            kept.plot(places, rows["kept"], "o", color=_PLANNED, markersize=2.4, label="planned")
            lowest = float(rows[["kept", "kept_uniform"]].to_numpy(np.float64).min())
            margin = 0.12 * (1 - lowest) or 0.01
            kept.set_ylim(lowest - margin, 1 + margin)
            ranks.yaxis.set_major_locator(MaxNLocator(3, integer=True))
            kept.yaxis.set_major_locator(MaxNLocator(3))
            names = [str(scale) if unit != unit else f"{unit:.0f}"
                     for scale, unit in zip(rows["scale"], rows["unit"].astype(float), strict=True)]  # fmt: skip
            ticks = whole_ticks(len(names), 6)
            for panel, label in ((ranks, "rank"), (kept, "energy kept")):
                panel.set_xlim(-0.6, len(rows) - 0.4)
                panel.set_xticks(ticks, [names[place] for place in ticks])
                panel.set_ylabel(label)
            if ax is not None:
                ranks.set_title(str(name))
        for panel in axes[-2:]:
            panel.set_xlabel("layer" if modules["unit"].notna().all() else "scale or layer")
        if ax is not None:
            write_around(axes, title, foot)
        else:
            axes[-1].legend(loc="upper right", bbox_to_anchor=(1.0, -0.5), ncols=2, frameon=False, borderaxespad=0)
    return axes


def _new_axes(names: Sequence[str], title: str, foot: str) -> list[Axes]:
    last = len(names) - 1
    layout = [
        Row([_HEIGHT] * 2, below=0.17 + LINE * 2.4 * (place == last), panel_titles=0, heading=True)
        for place in range(len(names))
    ]
    nested = _FRAME.lay_out(layout, title=title, foot=foot)[0]
    for name, row in zip(names, nested, strict=True):
        write_heading(row[0], name, 0)
    return [one for row in nested for one in row]
