"""What all pictures share: the size and type of one column of a paper, and how a missing value looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from pandas import DataFrame

WIDTH = 3.3
"""Inches: one column of a two-column paper. At this width no text is below 6 points."""

_STYLE: dict[Any, Any] = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
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
_offscreen: ContextVar[bool] = ContextVar("offscreen", default=False)


@contextmanager
def offscreen() -> Iterator[None]:
    """Within it, new figures are made without pyplot: quicker to load, never shown, nothing to close."""
    token = _offscreen.set(True)
    try:
        yield
    finally:
        _offscreen.reset(token)


@contextmanager
def paper_style(wanted: bool = True) -> Iterator[None]:
    """Type and lines for one column; left alone on axes that the caller brought."""
    import matplotlib

    with matplotlib.rc_context(_STYLE if wanted else None):
        yield


@dataclass(frozen=True)
class Frame:
    """Where the panels of a new figure stand, in inches.

    Args:
        height: of the whole figure.
        left, right, bottom, top: margins around all panels.
        gap: between panels.
        bar: width of a colour bar at the right of the panels; 0 for none.
    """

    height: float
    left: float = 0.36
    right: float = 0.08
    bottom: float = 0.32
    top: float = 0.2
    gap: float = 0.1
    bar: float = 0.0

    def panels(self, count: int) -> tuple[list[Axes], Axes | None]:
        """New axes side by side, and the colour bar's."""
        figure = _new_figure(WIDTH, self.height)
        width = (WIDTH - self.left - self.right - self.gap * (count - 1)) / count
        height = self.height - self.bottom - self.top

        def place(left: float, width: float) -> Axes:
            return figure.add_axes(
                (left / WIDTH, self.bottom / self.height, width / WIDTH, height / self.height)
            )  # fmt: skip

        axes = [place(self.left + panel * (width + self.gap), width) for panel in range(count)]
        bar = place(WIDTH - self.right + 0.06, self.bar) if self.bar else None
        return axes, bar


def _new_figure(width: float, height: float) -> Figure:
    if _offscreen.get():
        from matplotlib.figure import Figure

        return Figure(figsize=(width, height))
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(width, height))


def add_colour_bar(image: AxesImage, axes: list[Axes], bar: Axes | None, label: str) -> None:
    """A colour bar in its own axes, or beside those that the caller brought; small numbers share one power of ten."""
    colours = axes[0].figure.colorbar(image, cax=bar, ax=None if bar else axes)
    colours.set_label(label)
    colours.outline.set_linewidth(0.5)
    colours.ax.ticklabel_format(axis="y", scilimits=(-2, 3))


def draw_heatmap(ax: Axes, values: NDArray[np.float64], **image: Any) -> AxesImage:
    """A matrix as squares of colour, with what is not finite left open on a hatched ground."""
    from matplotlib.patches import Rectangle

    shown = np.ma.masked_invalid(values)
    if shown.mask.any():
        ax.add_patch(Rectangle((0, 0), 1, 1, transform=ax.transAxes, zorder=-1, **_missing()))
    return ax.imshow(shown, interpolation="nearest", aspect="auto", **image)


def label_missing(ax: Axes, text: str, *, down: float, right: float = 0.0) -> None:
    """Say what the hatched ground means, so many points off the lower right corner of the axes."""
    from matplotlib.patches import Patch

    ax.legend(
        handles=[Patch(label=text, **_missing())],
        loc="upper right",
        bbox_to_anchor=(1.0, 0.0),
        bbox_transform=moved(ax, down=down, right=right),
        frameon=False,
        borderaxespad=0,
        borderpad=0,
        handlelength=1.4,
        handletextpad=0.4,
    )


def moved(ax: Axes, *, down: float, right: float = 0.0) -> Any:
    """Axes coordinates moved by so many points, whatever the size of the axes."""
    from matplotlib.transforms import ScaledTranslation

    return ax.transAxes + ScaledTranslation(right / 72, -down / 72, ax.figure.dpi_scale_trans)


def _missing() -> dict[str, Any]:
    return {"facecolor": "0.93", "edgecolor": "0.7", "hatch": "//////", "linewidth": 0}


def time_axis(frame: DataFrame) -> tuple[str, str]:
    """The column of a frame that runs along training, and its name in words: `time` by its clock, or `epoch`."""
    return ("time", str(frame["clock"].iloc[0])) if "time" in frame.columns else ("epoch", "epoch")


def sparse_ticks(count: int, most: int) -> NDArray[np.intp]:
    """At most so many places among `count`, at an even, round step, from the first on.

    Example:
        >>> sparse_ticks(6, 12), sparse_ticks(32, 8)
        (array([0, 1, 2, 3, 4, 5]), array([ 0,  5, 10, 15, 20, 25, 30]))
    """
    steps = (step * 10**power for power in range(9) for step in (1, 2, 5))
    step = next(step for step in steps if (count - 1) // step < most)
    return np.arange(0, count, step)
