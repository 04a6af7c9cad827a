"""A layers × layers matrix with its colour bar, for figures of KL and cosines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_analysis.plots.canvas import Frame, Row
from msplora_analysis.plots.heatmap import add_colour_bar, draw_heatmap, tick_rows, whole_ticks
from msplora_analysis.plots.lettering import write_around
from msplora_analysis.plots.paper import SMALL, magnification, paper_style, size_in_points
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

_FRAME = Frame(right=0.62, bar="beside")
_SIDE = 2.32
_TICK_GAP, _DIGIT = 0.06, 0.06
"""Inches between the names of two layers, and of a digit."""


def as_matrix(value: Any, name: str, kind: str) -> NDArray[np.float64]:
    """Return a square matrix.

    Args:
        value: the argument of the caller.
        name: of the parameter.
        kind: the class that is accepted instead.

    Raises:
        ParameterError: if it is not a layers × layers matrix.
    """
    expected = f"a {kind} or a matrix of layers by layers"
    try:
        matrix = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(name, expected=expected, found=type(value).__name__) from error
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        found = f"shape {matrix.shape}" if matrix.ndim else type(value).__name__
        raise ParameterError(name, expected=expected, found=found)
    return matrix


def default_title(text: str, ax: Axes | None) -> str:
    """Return the title of an object: its full text on a new figure, its first line on the caller's axes."""
    return text if ax is None else text.split("\n")[0]


def draw_cells(ax: Axes, matrix: NDArray[np.float64], layers: ArrayLike | None, **image: Any) -> ScalarMappable:
    """Draw the matrix without title and colour bar, with a few layer names along both axes.

    Args:
        ax: the axes.
        matrix: (L, L).
        layers: names of the layers; by default 0 to L-1.
        **image: cmap, norm.

    Raises:
        ParameterError: if `layers` has another length.
    """
    names = [str(name) for name in (np.arange(len(matrix)) if layers is None else np.asarray(layers))]
    if len(names) != len(matrix):
        raise ParameterError("layers", expected=f"{len(matrix)} names, one for each row", found=len(names))
    drawn = draw_heatmap(ax, matrix, **image)
    width, _ = size_in_points(ax)
    labels = ax.xaxis.get_ticklabels()
    larger = float(labels[0].get_fontsize()) / (SMALL * magnification()) if labels else 1.0
    most = max(int(width / 72 / (_TICK_GAP + _DIGIT * larger * len(names[-1]))), 3)
    tick_rows(ax, names, most)
    places = whole_ticks(len(names), most)
    ax.set_xticks(places, [names[place] for place in places])
    return drawn


def draw_layer_matrix(
    matrix: NDArray[np.float64],
    layers: ArrayLike | None,
    ax: Axes | None,
    *,
    title: str,
    label: str,
    cmap: str,
    norm: Normalize,
    foot: str = "",
) -> Axes:
    """Draw the matrix with title, foot and colour bar.

    Args:
        matrix: (L, L).
        layers: names of the layers; by default 0 to L-1.
        ax: an Axes to draw on; by default a new figure.
        title: above the axes.
        label: of the colour bar.
        cmap, norm: colours.
        foot: note below the axes.

    Returns:
        The axes drawn on.

    Raises:
        ParameterError: if `layers` has another length.
    """
    if not np.isfinite(matrix).all():
        foot = "; ".join(filter(None, [foot, "hatched: undefined or infinite"]))
    own, bar = ax is None, None
    with paper_style(own):
        if ax is None:
            ((ax,),), bar = _FRAME.lay_out([Row([_SIDE], panel_titles=0)], title=title, foot=foot)
        image = draw_cells(ax, matrix, layers, cmap=cmap, norm=norm)
        ax.set_xlabel("layer")
        ax.set_ylabel("layer")
        if not own:
            write_around([ax], title, foot)
        add_colour_bar(image, [ax], bar, label)
    return ax
