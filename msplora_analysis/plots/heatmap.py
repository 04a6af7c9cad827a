"""Matrices as cells of colour: scales, missing values, bars, ticks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

_PLAIN = -2, 4
"""Powers of ten that are written out."""

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize


def colour_norm(
    values: NDArray[np.float64], vmin: float | None, vmax: float | None, log: bool = False, least: float = 0.0
) -> Normalize:
    """Return the colour scale of values that are at least 0: from 0, or logarithmic from the least above 0.

    Args:
        values: those shown; what is not finite does not count.
        vmin, vmax: the ends of the scale, where not those of the values.
        log: whether it is logarithmic.
        least: the scale reaches at least so far, so that values that are all small look small.
    """
    from matplotlib.colors import LogNorm, Normalize

    known = values[np.isfinite(values) & (values > 0)]
    highest = vmax if vmax is not None else max(known.max(initial=0.0), least) or 1.0
    if not log:
        return Normalize(0.0 if vmin is None else vmin, highest)
    lowest = vmin if vmin is not None else min(known.min(initial=highest), highest / 10)
    return LogNorm(lowest, highest, clip=True)


def draw_heatmap(
    ax: Axes, values: NDArray[np.float64], x: NDArray[np.float64] | None = None, **image: Any
) -> ScalarMappable:
    """Draw a matrix as cells of colour, the first row on top, with what is not finite left open on a hatched ground.

    Args:
        ax: where.
        values: (rows, columns).
        x: (columns + 1,) edges of the columns; cells of width 1 around 0, 1, ... where not given.
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
    """Add a colour bar in its own axes, or beside those of the caller; very small numbers share a power of ten.

    Args:
        image: whose colours.
        axes: that it belongs to.
        bar: its own axes; flat ones have it lie.
        label: what the colours are, with the unit.
    """
    from matplotlib.colors import LogNorm

    flat = bar is not None and bar.get_position().width > bar.get_position().height
    colours = axes[0].figure.colorbar(
        image, cax=bar, ax=None if bar else list(axes), orientation="horizontal" if flat else "vertical"
    )
    colours.outline.set_linewidth(0.5)
    reach = max(map(abs, image.get_clim()))
    power = int(np.floor(np.log10(reach))) if reach > 0 else 0
    if not isinstance(image.norm, LogNorm) and not _PLAIN[0] <= power <= _PLAIN[1]:
        label += f", in units of 1e{power}"
        axis = colours.ax.xaxis if flat else colours.ax.yaxis
        axis.set_major_formatter(lambda value, _: f"{value / 10**power:g}")
    colours.set_label(label)


def write_all_zero(ax: Axes, text: str = "all zero") -> None:
    """Say in a panel without values why it has none."""
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 2.0}
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize="small", bbox=ground)


def whole_ticks(count: int, most: int) -> NDArray[np.int64]:
    """Return at most so many places among `count`, at an even, round step, from the first on.

    Example:
        >>> whole_ticks(6, 12), whole_ticks(32, 8)
        (array([0, 1, 2, 3, 4, 5]), array([ 0,  5, 10, 15, 20, 25, 30]))
    """
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(most, integer=True, steps=[1, 2, 5, 10]).tick_values(0, count - 1)
    places = np.unique(np.asarray(ticks).astype(np.int64))
    return places[(places >= 0) & (places < count)]


def most_rows(ax: Axes) -> int:
    """Return how many rows of an axes can have a label of the size of its ticks' without touching."""
    size = float(ax.yaxis.get_ticklabels()[0].get_fontsize()) if ax.yaxis.get_ticklabels() else 10.0
    points = ax.get_window_extent().height / ax.get_figure(root=True).dpi * 72  # type: ignore[union-attr]
    return max(int(points / (1.15 * size)), 2)


def index_ticks(count: int, most: int) -> tuple[NDArray[np.int64], list[str]]:
    """Return places and names of so many things that count from 1, the first among them.

    Example:
        >>> index_ticks(8, 4), index_ticks(12, 4)
        ((array([0, 2, 4, 6]), ['1', '3', '5', '7']), (array([0, 4, 9]), ['1', '5', '10']))
    """
    ticks = whole_ticks(count + 1, most)
    if ticks[1] == 2:  # the even numbers would have 1 and 2 side by side
        ticks = ticks[ticks < count] + 1
    places = np.unique(np.maximum(ticks, 1)) - 1
    return places, [str(place + 1) for place in places]


def tick_rows(ax: Axes, names: Sequence[str], most: int = 12) -> None:
    """Name some rows of a heatmap."""
    places = whole_ticks(len(names), most)
    ax.set_yticks(places, [names[place] for place in places])
