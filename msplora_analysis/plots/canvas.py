"""What all pictures share: the size and type of one column of a paper, titles that fit, and colours."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from pandas import DataFrame

WIDTH = 3.3
"""Inches: one column of a two-column paper. At this width no text is below 6 points."""
M_EFF = r"$\mathrm{M}_\mathrm{eff}$"

_STYLE: dict[Any, Any] = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "legend.title_fontsize": 6,
    "axes.linewidth": 0.5,
    "axes.titlepad": 3,
    "axes.labelpad": 2,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.pad": 1.5,
    "ytick.major.pad": 1.5,
    "lines.linewidth": 1.0,
    "lines.markersize": 2.5,
    "figure.dpi": 200,
}
_LINE = 0.12
"""Inches from one line of text to the next, at 7 points."""
_TITLE, _FOOT = 7, 6
_MOST_TITLE_LINES = 2
"""Above the axes of a caller's grid; more would leave no room for the panels."""
_offscreen: ContextVar[bool] = ContextVar("offscreen", default=False)


@contextmanager
def offscreen() -> Iterator[None]:
    """Make new figures without pyplot: faster to load, never shown, nothing to close."""
    token = _offscreen.set(True)
    try:
        yield
    finally:
        _offscreen.reset(token)


@contextmanager
def paper_style(wanted: bool = True) -> Iterator[None]:
    """Set type and lines for one column, unless the caller brought the axes."""
    import matplotlib

    with matplotlib.rc_context(_STYLE if wanted else None):
        yield


@dataclass(frozen=True)
class Frame:
    """Where the panels of a new figure stand, in inches. The figure grows by what is written around them.

    Args:
        height: of the panels.
        left, right: margins beside all panels.
        gap: between panels.
        bar: width of a colour bar at the right of the panels; 0 for none.
    """

    height: float
    left: float = 0.36
    right: float = 0.08
    gap: float = 0.1
    bar: float = 0.0

    def panels(
        self, count: int, *, title: str = "", foot: str = "", lines: int = 1, titled: bool = True
    ) -> tuple[list[Axes], Axes | None]:
        """Return new axes side by side, and those of the colour bar.

        Args:
            count: how many.
            title: written above all of them, in lines that fit the figure.
            foot: written below all of them, likewise.
            lines: of text in the label of the x axes, and below it.
            titled: whether the panels have titles of their own.
        """
        title, foot = fitted(title, 72 * WIDTH - 8, _TITLE), fitted(foot, 72 * WIDTH - 8, _FOOT)
        top = 0.05 + _LINE * (_count_lines(title) + titled)
        bottom = 0.2 + _LINE * lines + 0.9 * _LINE * _count_lines(foot)
        whole = self.height + top + bottom
        figure = _new_figure(WIDTH, whole)
        width = (WIDTH - self.left - self.right - self.gap * (count - 1)) / count

        def place(left: float, width: float) -> Axes:
            return figure.add_axes((left / WIDTH, bottom / whole, width / WIDTH, self.height / whole))

        axes = [place(self.left + panel * (width + self.gap), width) for panel in range(count)]
        bar = place(WIDTH - self.right + 0.06, self.bar) if self.bar else None
        figure.text(0.5, 1 - 0.03 / whole, title, ha="center", va="top", fontsize=_TITLE)
        figure.text(4 / 72 / WIDTH, 0.03 / whole, foot, ha="left", va="bottom", fontsize=_FOOT)
        return axes, bar


def _new_figure(width: float, height: float) -> Figure:
    if _offscreen.get():
        from matplotlib.figure import Figure

        return Figure(figsize=(width, height))
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(width, height))


def _count_lines(text: str) -> int:
    return text.count("\n") + 1 if text else 0


def fitted(text: str, points: float, size: float | str) -> str:
    """Break lines that are wider than so many points, at a usual width of letters.

    Example:
        >>> fitted("unet.down_blocks.0 and one more", 90, 7)
        'unet.down_blocks.0 and\\none more'
    """
    most = max(int(points / (0.53 * float(size))), 8)
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line.replace(M_EFF, "Meff"), most)
                     ).replace("Meff", M_EFF)  # fmt: skip


def write_around(ax: Axes, title: str, foot: str) -> None:
    """Put a title and a foot into the title and the x label of the caller's axes, where its layout has them in view."""
    width = ax.get_window_extent().width / ax.get_figure(root=True).dpi * 72  # type: ignore[union-attr]
    if title:
        size = ax.title.get_fontsize()
        lines = fitted(title, width, size).split("\n")
        if len(lines) > _MOST_TITLE_LINES:
            lines = [*lines[: _MOST_TITLE_LINES - 1], lines[_MOST_TITLE_LINES - 1][:-3] + "..."]
        ax.set_title("\n".join(filter(None, [*lines, ax.get_title()])))
    if foot:
        size = ax.xaxis.label.get_fontsize()
        ax.set_xlabel(f"{ax.get_xlabel()}\n{fitted(foot, width, size)}")


def add_colour_bar(image: ScalarMappable, axes: list[Axes], bar: Axes | None, label: str) -> None:
    """Add a colour bar in its own axes, or beside those of the caller; small numbers share one power of ten."""
    from matplotlib.colors import LogNorm

    colours = axes[0].figure.colorbar(image, cax=bar, ax=None if bar else axes)
    colours.set_label(label)
    colours.outline.set_linewidth(0.5)
    if not isinstance(image.norm, LogNorm):
        colours.ax.ticklabel_format(axis="y", scilimits=(-2, 3))


def colour_norm(values: NDArray[np.float64], vmin: float | None, vmax: float | None, log: bool) -> Normalize:
    """Return the colour scale of values that are at least 0: from 0, or logarithmic from the least above 0.

    Args:
        values: those shown; what is not finite does not count.
        vmin, vmax: the ends of the scale, where not those of the values.
        log: whether it is logarithmic.
    """
    from matplotlib.colors import LogNorm, Normalize

    known = values[np.isfinite(values) & (values > 0)]
    highest = vmax if vmax is not None else known.max(initial=0.0) or 1.0
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


def time_axis(frame: DataFrame) -> tuple[str, str]:
    """Return the column of a frame that runs along training, and its name in words: `time` by its clock, or `epoch`."""
    return ("time", str(frame["clock"].iloc[0])) if "time" in frame.columns else ("epoch", "epoch")


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


def tick_rows(ax: Axes, names: Sequence[str], most: int = 12) -> None:
    """Name some rows of a heatmap."""
    places = whole_ticks(len(names), most)
    ax.set_yticks(places, [names[place] for place in places])
