"""Cosines between layers' updates, layers × layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from msplora_analysis.plots.colours import DIFFERENCE
from msplora_analysis.plots.layer_matrix import as_matrix, draw_layer_matrix
from msplora_analysis.plots.paper import paper_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_MOST_NUMBERED = 8
_LEAST_NUMBERED = 0.1


def plot_layer_cosines(
    cosines: ArrayLike,
    *,
    bound: float | None = None,
    layers: ArrayLike | None = None,
    title: str = "",
    name: str = "layer",
    ax: Axes | None = None,
) -> Axes:
    """Draw the cosines between updates, layers × layers: red for the same direction, blue for opposite ones.

    Colours reach to the largest cosine between two layers, or to the bound if that is larger. The diagonal, which is 1
    by definition, is left out. Up to eight layers have numbers in the cells, unless all are below 0.1.

    Args:
        cosines: (L, L), from `update_cosines`; NaN is shown as missing.
        bound: marked in the colour bar: the value that no |cosine| exceeds if layers share nothing (see
            `cosine_bound`).
        layers: (L,) names of the layers; by default 0 to L-1.
        title: above the axes.
        name: of the rows, in one word.
        ax: an Axes to draw on; by default a new figure of one column's width. A figure with
            `layout="constrained"` has room for the colour bar and the notes.

    Returns:
        The axes drawn on.

    Raises:
        ParameterError: if `cosines` is not a square matrix, or `layers` has another length.
    """
    from matplotlib.colors import Normalize

    matrix = as_matrix(cosines, "cosines", "LayerCosines").copy()
    np.fill_diagonal(matrix, 0.0)
    known = bound if bound is not None and np.isfinite(bound) else 0.0
    reach = max(np.nanmax(abs(matrix), initial=0.0), known) or 1.0
    foot = (
        f"lines in the colour bar: no cosine is larger (p = 0.95) if nothing is shared, ±{known:.3g}" if known else ""
    )
    own = ax is None
    drawn = draw_layer_matrix(
        matrix, layers, ax, title=title, label="cosine", cmap=DIFFERENCE, norm=Normalize(-reach, reach), foot=foot
    )
    drawn.set_xlabel(drawn.get_xlabel().replace("layer", name, 1))
    drawn.set_ylabel(name)
    with paper_style(own):
        drawn.plot([-0.5, len(matrix) - 0.5], [-0.5, len(matrix) - 0.5], color="0.6", linewidth=0.5)
        if known:
            for place in (-known, known):
                drawn.figure.axes[-1].axhline(place, color="black", linewidth=0.8)
        if len(matrix) <= _MOST_NUMBERED and reach >= _LEAST_NUMBERED:
            for i, j in np.argwhere(abs(matrix) > 0):
                colour = "white" if abs(matrix[i, j]) > 0.6 * reach else "black"
                number = f"{matrix[i, j]:.2f}".replace("-", "−")
                drawn.text(j, i, number, color=colour, fontsize="small", ha="center", va="center")
    return drawn
