"""Fig. 4: where one method's layers are further apart than the baseline's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from msplora_analysis.plots.canvas import moved, paper_style
from msplora_analysis.plots.layer_matrix import draw_layer_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_kl_difference(
    difference: ArrayLike,
    *,
    layers: ArrayLike | None = None,
    adjacent: float | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw pairwise KL of a method minus that of its baseline, layers × layers (Fig. 4).

    Colours diverge around 0: red where the method's layers are further apart, blue where the baseline's
    are. The band of adjacent layers is outlined, and its mean, if given, written beneath.

    Args:
        difference: (L, L) nats, as `kl_difference` and `Comparison.difference` give it. What is not finite is
            shown as missing.
        layers: (L,) names of the layers; 0 to L-1 where not given.
        adjacent: the mean over adjacent layers, in nats, as `Comparison.adjacent` has it.
        title: written above.
        ax: an Axes to draw on; a new figure of one column's width where not given.

    Returns:
        The axes drawn on.

    Raises:
        ParameterError: if `difference` is no square matrix, or `layers` has another length.
    """
    difference = np.asarray(difference, dtype=np.float64)
    reach = np.abs(difference[np.isfinite(difference)]).max(initial=0.0) or 1.0
    own_figure = ax is None
    ax = draw_layer_matrix(
        difference,
        "difference",
        layers,
        ax,
        title=title,
        label="KL minus the baseline's (nats)",
        cmap="RdBu_r",
        vmin=-reach,
        vmax=reach,
    )
    count = len(difference)
    if count > 1:
        edges = np.arange(count + 1) - 0.5
        upper, lower = np.clip(edges + 2, None, count - 0.5), np.clip(edges - 1, -0.5, None)
        with paper_style(own_figure):
            ax.step(edges, np.append(upper[:-1], upper[-1]), where="post", color="black", linewidth=0.8)
            ax.step(edges, np.append(lower[:-1], lower[-2]), where="post", color="black", linewidth=0.8)
            if adjacent is not None:
                mean = f"{adjacent:+.3g} nats" if np.isfinite(adjacent) else "undefined"
                text = f"adjacent layers (outlined): mean {mean}"
                ax.text(0, 0, text, va="top", ha="left", transform=moved(ax, down=24))
    return ax
