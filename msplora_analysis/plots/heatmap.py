"""Heatmaps: colour scales, missing values, colour bars, ticks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.plots.lettering import fitted
from msplora_analysis.plots.paper import figure_of, size_in_points

_PLAIN = -2, 4
"""Powers of ten that are written without exponent."""
_MOST_TICKS = 8
"""Limit of ticks on a logarithmic colour bar."""
_BAR_WIDTH, _MOST_BAR = 52, 0.4
"""Width of a colour bar beside the caller's axes with its numbers and label, in points; its largest share of these."""
_MOST_REACH = 1e-5
"""Lowest end of a logarithmic scale, relative to the highest value."""

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize


def colour_norm(
    values: NDArray[np.float64],
    vmin: float | None = None,
    vmax: float | None = None,
    log: bool | None = False,
    least: float = 0.0,
) -> Normalize:
    """Return the colour scale of values that are at least 0: from 0, or logarithmic from the least value above 0.

    A logarithmic scale spans at most five powers of ten, so that zeros up to rounding do not take its colours.

    Args:
        values: the values to show; those that are not finite are ignored.
        vmin, vmax: ends of the scale; by default those of the values.
        log: whether it is logarithmic; None: only if most cells would be dark.
        least: lower limit of the upper end, so that small values look small.
    """
    from matplotlib.colors import LogNorm, Normalize

    known = values[np.isfinite(values) & (values > 0)]
    highest = vmax if vmax is not None else max(known.max(initial=0.0), least) or 1.0
    if not (_mostly_dark(values, highest) if log is None else log):
        return Normalize(0.0 if vmin is None else vmin, highest)
    lowest = vmin if vmin is not None else np.clip(known.min(initial=highest), _MOST_REACH * highest, highest / 10)
    return LogNorm(lowest, highest, clip=True)


def _mostly_dark(values: NDArray[np.float64], highest: float) -> bool:
    """Whether more than half of the values above 0 are in the lowest fifth of a linear scale, whose colours are alike.

    Example:
        >>> _mostly_dark(np.array([1.0, 0.1, 0.01]), 1.0), _mostly_dark(np.array([1.0, 0.5, 0.01]), 1.0)
        (True, False)
    """
    known = values[np.isfinite(values) & (values > 0)]
    return bool(known.size) and bool(np.median(known) < 0.2 * highest)


def draw_heatmap(
    ax: Axes, values: NDArray[np.float64], x: NDArray[np.float64] | None = None, **image: Any
) -> ScalarMappable:
    """Draw a matrix as a heatmap, the first row on top; values that are not finite are hatched.

    Args:
        ax: the axes.
        values: (rows, columns).
        x: (columns + 1,) edges of the columns; by default cells of width 1 around 0, 1, ....
        **image: cmap, norm.
    """
    from matplotlib.patches import Rectangle

    shown = np.ma.masked_invalid(values)
    if shown.mask.any():
        hatched: dict[str, Any] = {"facecolor": "0.93", "edgecolor": "0.7", "hatch": "//////", "linewidth": 0}
        ax.add_patch(Rectangle((0, 0), 1, 1, transform=ax.transAxes, zorder=-1, **hatched))
    rows, columns = values.shape
    x = np.arange(columns + 1) - 0.5 if x is None else x
    found = ax.pcolorfast(x, np.arange(rows + 1) - 0.5, shown, **image)
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(rows - 0.5, -0.5)
    return found


def add_colour_bar(image: ScalarMappable, axes: Sequence[Axes], bar: Axes | None, label: str) -> None:
    """Add a colour bar in its own axes, or beside the caller's: all in a constrained layout, else the last.

    Very small numbers share a power of ten; a logarithmic bar has few labels, as decimals.

    Args:
        image: with the colours.
        axes: the axes with the image.
        bar: axes of the bar; horizontal if they are wider than high.
        label: name of the values, with their unit.
    """
    from matplotlib.colors import LogNorm

    figure, flat = figure_of(axes[0]), bar is not None and bar.get_position().width > bar.get_position().height
    engine = figure.get_layout_engine()
    spanning = engine is not None and not engine.colorbar_gridspec
    place: dict[str, Any] = {"cax": bar}
    if bar is None:  # in other layouts a bar beside several axes would keep its place where they move
        width = size_in_points(axes[-1])[0]
        share = 0.15 if engine else float(np.clip(_BAR_WIDTH / width, 0.15, _MOST_BAR))
        place = {"ax": list(axes) if spanning else axes[-1], "fraction": share}
    colours = figure.colorbar(image, orientation="horizontal" if flat else "vertical", **place)
    colours.outline.set_linewidth(0.5)
    axis = colours.ax.xaxis if flat else colours.ax.yaxis
    if isinstance(image.norm, LogNorm):
        label += ", logarithmic"
        ticks = log_ticks(*image.get_clim())
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_ticks([], minor=True)
    else:
        label += write_in_units(axis, image.get_clim())
    height = size_in_points(colours.ax)[1]
    colours.set_label(label if bar else fitted(label, height, float(colours.ax.yaxis.label.get_fontsize())))


def write_in_units(axis: Axis, ends: tuple[float, float]) -> str:
    """Let the labels of an axis with very small or large numbers share a power of ten, and return it for its label."""
    reach = max(map(abs, ends))
    power = int(np.floor(np.log10(reach))) if reach > 0 else 0
    if _PLAIN[0] <= power <= _PLAIN[1]:
        return ""
    axis.set_major_formatter(partial(_in_units, 10.0**power))
    return f", in units of 1e{power}"


def _in_units(unit: float, value: float, place: int | None = None) -> str:
    """A tick's label; no closure, since figures are pickled to be saved by another process."""
    return f"{value / unit:g}"


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two positive ones, at most eight: 1, 2 and 5 of each power of ten, or some powers.

    Example:
        >>> log_ticks(0.02, 0.6), log_ticks(1e-12, 2.0)
        ([0.02, 0.05, 0.1, 0.2, 0.5], [1e-12, 1e-10, 1e-08, 1e-06, 0.0001, 0.01, 1.0])
    """
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for digits, step in (((1, 2, 5), 1), ((1, 3), 1), *(((1,), step) for step in range(1, len(powers) + 1))):
        ticks = [float(f"{digit}e{power}") for power in powers[::step] for digit in digits]
        shown = [tick for tick in ticks if low <= tick * (1 + 1e-9) and tick <= high * (1 + 1e-9)]
        if len(shown) <= _MOST_TICKS:
            break
    return shown


def write_all_zero(ax: Axes, text: str = "all zero") -> None:
    """Write the reason into a panel without values."""
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 2.0}
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize="small", bbox=ground)


def whole_ticks(count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` indices below `count`, at an even, round step from 0.

    Example:
        >>> whole_ticks(6, 12), whole_ticks(32, 8)
        (array([0, 1, 2, 3, 4, 5]), array([ 0,  5, 10, 15, 20, 25, 30]))
    """
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(most, integer=True, steps=[1, 2, 5, 10]).tick_values(0, count - 1)
    places = np.unique(np.asarray(ticks).astype(np.int64))
    return places[(places >= 0) & (places < count)]


def most_rows(ax: Axes) -> int:
    """Return the number of row labels that fit an axes without overlap, at the font size of its ticks."""
    size = float(ax.yaxis.get_ticklabels()[0].get_fontsize()) if ax.yaxis.get_ticklabels() else 10.0
    return max(int(size_in_points(ax)[1] / (1.15 * size)), 2)


def index_ticks(count: int, most: int) -> tuple[NDArray[np.int64], list[str]]:
    """Return positions and labels of ticks for an index that counts from 1; the first is among them.

    Example:
        >>> index_ticks(8, 4), index_ticks(12, 4)
        ((array([0, 2, 4, 6]), ['1', '3', '5', '7']), (array([0, 4, 9]), ['1', '5', '10']))
    """
    ticks = whole_ticks(count + 1, most)
    if ticks[1] == 2:  # else 1 and 2 would be side by side
        ticks = ticks[ticks < count] + 1
    places = np.unique(np.maximum(ticks, 1)) - 1
    return places, [str(place + 1) for place in places]


def tick_rows(ax: Axes, names: Sequence[str], most: int = 12) -> None:
    """Label at most `most` rows of a heatmap."""
    places = whole_ticks(len(names), most)
    ax.set_yticks(places, [names[place] for place in places])
