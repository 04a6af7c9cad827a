"""How far apart the layers' spectra are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from msplora_analysis.plots.layer_matrix import draw_layer_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_pairwise_kl(
    kl: ArrayLike, *, layers: ArrayLike | None = None, title: str = "", ax: Axes | None = None
) -> Axes:
    """Draw the divergence of every layer's spectrum from every other's, layers × layers.

    Args:
        kl: (L, L) nats, row i, column j holding D(Σᵢ ‖ Σⱼ), as `pairwise_spectral_kl` gives it. What is not
            finite is shown as missing.
        layers: (L,) names of the layers; 0 to L-1 where not given.
        title: written above.
        ax: an Axes to draw on; a new figure of one column's width where not given.

    Returns:
        The axes drawn on.

    Raises:
        ParameterError: if `kl` is no square matrix, or `layers` has another length.
    """
    kl = np.asarray(kl, dtype=np.float64)
    highest = kl[np.isfinite(kl)].max(initial=0.0) or 1.0
    return draw_layer_matrix(
        kl, "kl", layers, ax, title=title, label="D(row || column) (nats)", cmap="cividis", vmin=0, vmax=highest
    )
