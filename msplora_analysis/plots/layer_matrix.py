"""A layers × layers matrix with its colour bar: what the pictures of KL have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_analysis.plots.canvas import (
    Frame,
    add_colour_bar,
    draw_heatmap,
    paper_style,
    tick_rows,
    whole_ticks,
    write_around,
)
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

_FRAME = Frame(height=2.3, right=0.62, bar=0.08)
_MOST_TICKS, _MOST_TICKS_IN_A_GRID = 12, 6


def as_matrix(value: Any, name: str, kind: str) -> NDArray[np.float64]:
    """Return a square matrix, or refuse what is none.

    Args:
        value: what the caller gave.
        name: of the parameter.
        kind: the class that the caller could have given instead.

    Raises:
        ParameterError: if it is no matrix of layers by layers.
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
    """Return the title of an object: all of it on a new figure, its first line on axes of the caller's grid."""
    return text if ax is None else text.split("\n")[0]


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
    """Draw the matrix, layers named along both axes.

    Args:
        matrix: (L, L).
        layers: names of the layers; 0 to L-1 where None.
        ax: an Axes to draw on; a new figure where None.
        title: written above.
        label: of the colour bar.
        cmap, norm: colours.
        foot: written below.

    Returns:
        The axes drawn on.

    Raises:
        ParameterError: if `layers` has another length.
    """
    names = [str(name) for name in (np.arange(len(matrix)) if layers is None else np.asarray(layers))]
    if len(names) != len(matrix):
        raise ParameterError("layers", expected=f"{len(matrix)} names, one for each row", found=len(names))
    if not np.isfinite(matrix).all():
        foot = "; ".join(filter(None, [foot, "hatched: undefined or infinite"]))
    own, bar = ax is None, None
    with paper_style(own):
        if ax is None:
            (ax,), bar = _FRAME.panels(1, title=title, foot=foot, titled=False)
        image = draw_heatmap(ax, matrix, cmap=cmap, norm=norm)
        most = _MOST_TICKS if own else _MOST_TICKS_IN_A_GRID
        tick_rows(ax, names, most)
        places = whole_ticks(len(names), most)
        ax.set_xticks(places, [names[place] for place in places])
        ax.set_xlabel("layer")
        ax.set_ylabel("layer")
        if not own:
            write_around(ax, title, foot)
        add_colour_bar(image, [ax], bar, label)
    return ax
