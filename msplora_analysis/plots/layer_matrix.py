"""A layers × layers matrix with its colour bar: what the pictures of KL have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_analysis.plots.canvas import Frame, add_colour_bar, draw_heatmap, label_missing, paper_style, sparse_ticks
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FRAME = Frame(height=3.1, right=0.62, bottom=0.5, top=0.35, bar=0.08)


def draw_layer_matrix(
    matrix: NDArray[np.float64],
    name: str,
    layers: ArrayLike | None,
    ax: Axes | None,
    *,
    title: str,
    label: str,
    **colours: Any,
) -> Axes:
    """Draw the matrix, layers named along both axes.

    Args:
        matrix: (L, L).
        name: what the caller calls it, for the message.
        layers: names of the layers; 0 to L-1 where None.
        ax: an Axes to draw on; a new figure where None.
        title: written above.
        label: of the colour bar.
        **colours: cmap, vmin and vmax.

    Returns:
        The axes drawn on.

    Raises:
        ParameterError: if the matrix is not square, or `layers` has another length.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ParameterError(name, expected="a matrix of layers by layers", found=f"shape {matrix.shape}")
    layers = np.arange(len(matrix)) if layers is None else np.asarray(layers)
    if len(layers) != len(matrix):
        raise ParameterError("layers", expected=f"{len(matrix)} names, one for each row", found=len(layers))
    with paper_style(ax is None):
        bar = None
        if ax is None:
            (ax,), bar = _FRAME.panels(1)
        image = draw_heatmap(ax, matrix, **colours)
        places = sparse_ticks(len(layers), 12)
        names = [str(layers[place]) for place in places]
        ax.set_xticks(places, names)
        ax.set_yticks(places, names)
        ax.set_xlabel("layer")
        ax.set_ylabel("layer")
        ax.set_title(title)
        if not np.isfinite(matrix).all():
            label_missing(ax, "undefined or infinite", down=24)
        add_colour_bar(image, [ax], bar, label)
    return ax
