"""How far apart the layers' spectra are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from msplora_analysis.comparison.layers import LayerDivergence
from msplora_analysis.plots.canvas import colour_norm
from msplora_analysis.plots.colours import DIVERGENCE
from msplora_analysis.plots.layer_matrix import as_matrix, default_title, draw_layer_matrix
from msplora_analysis.plots.words import divergence_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_pairwise_kl(
    kl: LayerDivergence | ArrayLike,
    *,
    layers: ArrayLike | None = None,
    title: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the divergence of every layer's spectrum from every other's, layers × layers.

    Args:
        kl: a `LayerDivergence`, which brings its layers and title; or (L, L) nats, row i, column j holding
            D(Σᵢ ‖ Σⱼ), as `pairwise_spectral_kl` gives it. Values that are not finite are shown as missing.
        layers: (L,) names of the layers; 0 to L-1 where not given.
        title: written above.
        vmin, vmax: ends of the colour scale, in nats; 0 and the highest value where not given.
        ax: an Axes to draw on; a new figure of one column's width where not given.

    Returns:
        The axes drawn on.

    Raises:
        ParameterError: if `kl` is no square matrix, or `layers` has another length.
    """
    if isinstance(kl, LayerDivergence):
        layers = kl.layers if layers is None else layers
        title = default_title(divergence_title(kl), ax) if title is None else title
        kl = kl.kl
    matrix = as_matrix(kl, "kl", "LayerDivergence")
    return draw_layer_matrix(
        matrix,
        layers,
        ax,
        title=title or "",
        label="D(row || column) (nats)",
        cmap=DIVERGENCE,
        norm=colour_norm(matrix, vmin, vmax, log=False),
    )
