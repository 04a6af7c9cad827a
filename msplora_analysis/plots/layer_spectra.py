"""The spectra of one moment, layer by layer: for an adapter whose training was not recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.plots.canvas import (
    Frame,
    add_colour_bar,
    colour_norm,
    draw_heatmap,
    paper_style,
    tick_rows,
    whole_ticks,
    write_around,
)
from msplora_analysis.plots.colours import MAGNITUDE
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from pandas import DataFrame

_ROW = 0.135
"""Inches: high enough for a number of 6 points."""
_MOST_NUMBERS = 8
"""Columns that leave room for a number in each cell."""
_HIGHEST = 4.5


def plot_layer_spectra(
    spectra: DataFrame,
    *,
    log: bool = False,
    title: str = "",
    vmin: float | None = None,
    vmax: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the singular values of every component: a row a layer (or shared component), a column an index.

    Values are written into the cells of a new figure where there is room for them.

    Args:
        spectra: averaged spectra of one method at one moment, by unit (see `average_spectra`): columns scale,
            unit, k, sigma. `total` is left out where there are other scales.
        log: whether colours are logarithmic, to tell small values apart.
        title: written above.
        vmin, vmax: ends of the colour scale; 0 (if `log`, the least value above 0) and the highest where not given.
        ax: an Axes to draw on; a new figure of one column's width where not given.

    Returns:
        The axes drawn on.

    Raises:
        ParameterError: if there are none, or several spectra for one component.
    """
    kinds = list(dict.fromkeys(spectra["scale"]))
    rows = spectra[spectra["scale"] != "total"] if len(kinds) > 1 else spectra
    if rows.empty or rows.duplicated(["scale", "unit", "k"]).any():
        raise ParameterError("spectra", expected="one spectrum for each scale and unit", found=f"{len(rows)} values")
    table = rows.astype({"scale": str}).pivot(index=["scale", "unit"], columns="k", values="sigma")
    order = {scale: place for place, scale in enumerate(("global", "mid", "layer", "total"))}
    table = table.loc[sorted(table.index, key=lambda key: (order[key[0]], key[1]))]
    values = table.to_numpy(np.float64)
    foot = "hatched: beyond the rank" if np.isnan(values).any() else ""
    count, indexes = values.shape
    with paper_style(ax is None):
        own, bar = ax is None, None
        if ax is None:
            height = float(np.clip(_ROW * count, 0.6, _HIGHEST))
            frame = Frame(height=height, left=0.58, right=0.5, bar=0.08)
            (ax,), bar = frame.panels(1, title=title, foot=foot, titled=False)
        norm = colour_norm(values, vmin, vmax, log)
        image = draw_heatmap(ax, values, cmap=MAGNITUDE, norm=norm)
        tick_rows(ax, [f"{unit}" if scale in ("layer", "total") else f"{scale} {unit}" for scale, unit in table.index],
                  32 if own else 12)  # fmt: skip
        places = whole_ticks(indexes + 1, 8)
        places = np.unique(np.maximum(places, 1)) - 1
        ax.set_xticks(places, [str(place + 1) for place in places])
        ax.set_xlabel("singular value index")
        ax.set_ylabel("layer" if {"layer", "total"} & set(kinds) else "component")
        if own and indexes <= _MOST_NUMBERS and count * _ROW <= _HIGHEST:
            _write_values(ax, values, norm)
        if not own:
            write_around(ax, title, foot)
        add_colour_bar(image, [ax], bar, "average magnitude")
    return ax


def _write_values(ax: Axes, values: NDArray[np.float64], norm: Normalize) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if norm(value) < 0.55 else "black"
            ax.text(column, row, f"{value:#.2g}".rstrip("."), ha="center", va="center", fontsize=6, color=colour)
