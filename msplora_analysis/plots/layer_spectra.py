"""The spectra of one adapter, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.plots.canvas import PANELS_A_ROW, Frame, Row
from msplora_analysis.plots.colours import MAGNITUDE, SCALE_COLOURS
from msplora_analysis.plots.heatmap import (
    add_colour_bar,
    colour_norm,
    draw_heatmap,
    index_ticks,
    tick_rows,
    write_all_zero,
)
from msplora_analysis.plots.lettering import write_around
from msplora_analysis.plots.paper import paper_style
from msplora_analysis.plots.words import UNTRAINED, leading
from msplora_core.errors import ParameterError
from msplora_core.pyramid import ALL_SCALES, LAYER_SCALES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from pandas import DataFrame

_ROW = 0.135
"""Height of a row in inches, enough for a number of 6 points."""
_MOST_NUMBERS = 8
"""Number of columns up to which a number fits each cell."""
_HIGHEST = 4.5
_PANEL = 0.035, 0.5, 1.0
"""Height in inches of a row of the matrix, and of a panel at least and at most."""
_LABEL = "mean singular value"


def plot_layer_spectra(
    spectra: DataFrame,
    *,
    top: int | None = 8,
    log: bool | None = None,
    title: str = "",
    note: str = "",
    vmin: float | None = None,
    vmax: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the singular values of every component: a row a layer (or shared component), a column an index.

    Values are written into the cells of a new figure if there is room. Spectra of one value are drawn as bars.

    Args:
        spectra: averaged spectra of one method at one epoch, by unit (see `average_spectra`): columns scale, unit, k,
            sigma. `total` is left out if there are other scales.
        top: how many leading singular values to show; None for all.
        log: whether colours are logarithmic, to distinguish small values; None: only if most cells would be dark.
        title: above the axes.
        note: below the axes.
        vmin, vmax: ends of the colour scale; by default 0 (if `log`, the least value above 0) and the highest value.
        ax: an Axes to draw on; by default a new figure of one column's width. A figure with
            `layout="constrained"` has room for the colour bar and the notes.

    Returns:
        The axes drawn on.

    Raises:
        ParameterError: if there are none, or several spectra for one component.
    """
    names, values, rank = _matrix(spectra, top)
    zero = bool(np.isnan(values).all())
    foot = "; ".join(filter(None, [note, leading(top, rank), "" if zero else _foot(values)]))
    count, indexes = values.shape
    bars = indexes == 1 and not zero
    with paper_style(ax is None):
        own, bar = ax is None, None
        if ax is None:
            left = 0.58 if any(" " in name for name in names) else 0.36
            frame = Frame(left=left) if bars else Frame(left=left, right=0.5, bar="beside")
            layout = [Row([float(np.clip(_ROW * count, 0.6, _HIGHEST))], panel_titles=0)]
            ((ax,),), bar = frame.lay_out(layout, title=title, foot=foot)
        norm = colour_norm(values, vmin, vmax, log)
        image = _draw(ax, names, values, norm, most=32 if own else 12)
        ax.set_xlabel(_LABEL if bars else "singular value index")
        ax.set_ylabel("component" if any(" " in name for name in names) else "layer")
        if own and 1 < indexes <= _MOST_NUMBERS and count * _ROW <= _HIGHEST:
            _write_values(ax, values, norm)
        if not own:
            write_around([ax], title, foot)
        if zero:
            write_all_zero(ax, UNTRAINED)
        if bar and zero:
            bar.remove()
        elif image is not None:
            add_colour_bar(image, [ax], bar, _LABEL)
    return ax


def plot_spectra_panels(
    panels: Sequence[tuple[str, DataFrame]],
    *,
    top: int | None = 8,
    log: bool | None = None,
    title: str = "",
    note: str = "",
) -> list[Axes]:
    """Draw the spectra of several stacks or methods side by side, three a row, with one colour scale.

    Args:
        panels: title and spectra of each (see `plot_layer_spectra`). If all spectra have one value, they are drawn as
            bars, and each panel has its own axis.
        top: how many leading singular values to show; None for all.
        log: whether colours are logarithmic; None: only if most cells would be dark.
        title: above all panels.
        note: below all panels.

    Returns:
        The axes drawn on, of a new figure.
    """
    drawn = [(name, *_matrix(spectra, top)) for name, spectra in panels]
    everything = np.concatenate([values.ravel() for _, _, values, _ in drawn])
    bars = all(rank == 1 for *_, rank in drawn) and bool(np.isfinite(everything).any())
    norm = colour_norm(everything, log=log)
    shared = any(" " in name for _, names, *_ in drawn for name in names)
    pyramid = any(spectra["scale"].isin(["global", "mid"]).any() for _, spectra in panels)
    frame = Frame(left=0.58 if shared else 0.3, gap=0.4 if shared else 0.24, bar="" if bars else "below")
    hidden = leading(top, max(rank for *_, rank in drawn))
    foot = "; ".join(filter(None, [note, hidden, "each panel has its own axis" if bars else "", _foot(everything)]))
    with paper_style():
        axes, bar = frame.lay_out_panels(
            [name for name, *_ in drawn],
            min(len(drawn), PANELS_A_ROW),
            float(np.clip(_PANEL[0] * max(len(values) for _, _, values, _ in drawn), *_PANEL[1:])),
            x="singular value" if bars else "index",
            y="component" if pyramid else "layer",
            title=title,
            foot=foot,
        )
        for ax, (_, names, values, _) in zip(axes, drawn, strict=True):
            image = _draw(ax, names, values, norm, most=5, bars=bars)
        if bar is not None and image is not None:
            add_colour_bar(image, axes, bar, _LABEL)
    return axes


def _matrix(spectra: DataFrame, top: int | None) -> tuple[list[str], NDArray[np.float64], int]:
    """Return the names of the components, their leading singular values, and the largest number of values.

    Values are NaN beyond the rank, and everywhere if all are zero.
    """
    kinds = list(dict.fromkeys(spectra["scale"]))
    rows = spectra[spectra["scale"] != "total"] if len(kinds) > 1 else spectra
    if rows.empty or rows.duplicated(["scale", "unit", "k"]).any():
        raise ParameterError("spectra", expected="one spectrum for each scale and unit", found=f"{len(rows)} values")
    rank = int(rows["k"].max())
    rows = rows if top is None else rows[rows["k"] <= top]
    table = rows.astype({"scale": str}).pivot(index=["scale", "unit"], columns="k", values="sigma")
    order = {scale: place for place, scale in enumerate(ALL_SCALES)}
    table = table.loc[sorted(table.index, key=lambda key: (order[key[0]], key[1]))]
    alone = rows["scale"].nunique() == 1
    names = [f"{unit}" if alone or scale in LAYER_SCALES else f"{scale} {unit}" for scale, unit in table.index]
    values = table.to_numpy(np.float64)
    return names, values if np.nanmax(values) > 0 else np.full_like(values, np.nan), rank


def _draw(
    ax: Axes, names: Sequence[str], values: NDArray[np.float64], norm: Normalize, most: int, bars: bool = True
) -> ScalarMappable | None:
    """Draw cells of colour; of spectra of one value bars, which have no colours to explain."""
    from matplotlib.ticker import MaxNLocator

    if bars and values.shape[1] == 1 and not np.isnan(values).all():
        ax.barh(np.arange(len(values)), np.nan_to_num(values[:, 0]), 0.8, color=SCALE_COLOURS["layer"])
        ax.set_ylim(len(values) - 0.5, -0.5)
        ax.xaxis.set_major_locator(MaxNLocator(3 if most <= 5 else 6))
        tick_rows(ax, names, most)
        return None
    image = draw_heatmap(ax, values, cmap=MAGNITUDE, norm=norm)
    if np.isnan(values).all() and most <= 5:
        write_all_zero(ax)
    tick_rows(ax, names, most)
    ax.set_xticks(*index_ticks(values.shape[1], 8 if most > 5 else 4))
    return image


def _foot(values: NDArray[np.float64]) -> str:
    if np.isnan(values).all():
        return UNTRAINED
    return "hatched: beyond the rank" if np.isnan(values).any() and values.ndim > 1 else ""


def _write_values(ax: Axes, values: NDArray[np.float64], norm: Normalize) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if norm(value) < 0.55 else "black"
            number = f"{value:.0f}" if value >= 99.5 else f"{value:#.2g}".rstrip(".")
            ax.text(column, row, number, ha="center", va="center", fontsize=6, color=colour)
