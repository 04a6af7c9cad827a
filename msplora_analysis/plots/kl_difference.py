"""Fig. 4: where one method's layers are further apart than the baseline's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_analysis.comparison.difference import Comparison
from msplora_analysis.plots.canvas import paper_style
from msplora_analysis.plots.colours import DIFFERENCE
from msplora_analysis.plots.layer_matrix import as_matrix, default_title, draw_layer_matrix
from msplora_analysis.plots.words import comparison_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize


def plot_kl_difference(
    difference: Comparison | ArrayLike,
    *,
    layers: ArrayLike | None = None,
    adjacent: float | None = None,
    title: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw pairwise KL of a method minus that of its baseline, layers × layers (Fig. 4).

    Colours diverge around 0: red where the method's layers are further apart, blue where the baseline's
    are. The band of adjacent layers is outlined, and its mean, if given, is written below.

    Args:
        difference: a `Comparison`, which brings its layers, mean and title; or (L, L) nats, as `kl_difference`
            gives it. Values that are not finite are shown as missing.
        layers: (L,) names of the layers; 0 to L-1 where not given.
        adjacent: the mean over adjacent layers, in nats, as `Comparison.adjacent` has it.
        title: written above.
        vmin, vmax: ends of the colour scale, in nats; the greatest magnitude on both sides of 0 where not given.
        ax: an Axes to draw on; a new figure of one column's width where not given.

    Returns:
        The axes drawn on.

    Raises:
        ParameterError: if `difference` is no square matrix, or `layers` has another length.
    """
    if isinstance(difference, Comparison):
        layers = difference.layers if layers is None else layers
        adjacent = difference.adjacent["difference"] if adjacent is None else adjacent
        title = default_title(comparison_title(difference), ax) if title is None else title
        difference = difference.difference
    matrix = as_matrix(difference, "difference", "Comparison")
    foot = ""
    if adjacent is not None and len(matrix) > 1:
        mean = f"{adjacent:+.3g} nats" if np.isfinite(adjacent) else "undefined"
        foot = f"adjacent layers (outlined): mean {mean}"
    drawn = draw_layer_matrix(
        matrix,
        layers,
        ax,
        title=title or "",
        label="KL minus the baseline's (nats)",
        cmap=DIFFERENCE,
        norm=_around_zero(matrix, vmin, vmax),
        foot=foot,
    )
    with paper_style(ax is None):
        _outline_adjacent(drawn, len(matrix))
    return drawn


def _around_zero(matrix: NDArray[np.float64], vmin: float | None, vmax: float | None) -> Normalize:
    from matplotlib.colors import Normalize, TwoSlopeNorm

    reach = np.abs(matrix[np.isfinite(matrix)]).max(initial=0.0) or 1.0
    low, high = -reach if vmin is None else vmin, reach if vmax is None else vmax
    return Normalize(low, high) if not low < 0 < high or low == -high else TwoSlopeNorm(0, low, high)


def _outline_adjacent(ax: Axes, count: int) -> None:
    if count < 2:
        return
    edges = np.arange(count + 1) - 0.5
    upper, lower = np.clip(edges + 2, None, count - 0.5), np.clip(edges - 1, -0.5, None)
    ax.step(edges, np.append(upper[:-1], upper[-1]), where="post", color="black", linewidth=0.8)
    ax.step(edges, np.append(lower[:-1], lower[-2]), where="post", color="black", linewidth=0.8)
