"""The default style of figures: one column of a paper, text of 6 and 7 points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 3.3
"""Inches: one column of a two-column paper. At this width no text is smaller than 6 points."""
TITLE, SMALL = 7, 6
"""Font sizes in points: titles and labels; ticks, keys and notes."""

_STYLE: dict[Any, Any] = {
    "font.size": TITLE,
    "axes.titlesize": TITLE,
    "axes.labelsize": TITLE,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.title_fontsize": SMALL,
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
    "hatch.linewidth": 0.5,
}
_DPI = 200
_offscreen: ContextVar[bool] = ContextVar("offscreen", default=False)


@contextmanager
def offscreen() -> Iterator[None]:
    """Make new figures without pyplot: it loads faster, and the figures are never shown and need no closing."""
    token = _offscreen.set(True)
    try:
        yield
    finally:
        _offscreen.reset(token)


@contextmanager
def paper_style(wanted: bool = True) -> Iterator[None]:
    """Set fonts and lines for one column, in proportion to the user's font size. Other settings are kept.

    Args:
        wanted: false if the caller supplied the axes; then nothing is set.
    """
    import matplotlib

    style = {}
    if wanted:
        now, factory = matplotlib.rcParams, matplotlib.rcParamsDefault
        style = {name: value * magnification() for name, value in _STYLE.items() if now[name] == factory[name]}
        if now["axes.titley"] is None:  # no ticks stand above panels: titles need not be measured against them
            style["axes.titley"] = 1.0
    with matplotlib.rc_context(style):
        yield


def magnification() -> float:
    """Return the user's font size relative to that of one column of a paper: 1 if the user's style sets none."""
    import matplotlib

    size = float(matplotlib.rcParams["font.size"])
    return 1.0 if size in (TITLE, matplotlib.rcParamsDefault["font.size"]) else size / TITLE


def new_figure(height: float) -> Figure:
    """Return an empty figure of one column's width.

    Args:
        height: inches, for text of 7 points; width and height grow with the user's font size.
    """
    import matplotlib

    size = (WIDTH * magnification(), height * magnification())
    same = matplotlib.rcParams["figure.dpi"] == matplotlib.rcParamsDefault["figure.dpi"]
    if _offscreen.get():
        from matplotlib.figure import Figure

        return Figure(figsize=size)
    import matplotlib.pyplot as plt

    return plt.figure(figsize=size, dpi=_DPI if same else None)


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes are on."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # it is missing only after the axes were removed
    return figure


def size_in_points(ax: Axes) -> tuple[float, float]:
    """Return the width and height of axes in points, at their current place."""
    extent, dpi = ax.get_window_extent(), figure_of(ax).dpi
    return 72 * extent.width / dpi, 72 * extent.height / dpi
