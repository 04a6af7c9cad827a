"""KL divergence between the layers' spectra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from msplora_analysis.comparison.layers import LayerDivergence
from msplora_analysis.plots.canvas import PANELS_A_ROW, Frame
from msplora_analysis.plots.colours import ALL_LAYERS_ALIKE, DIVERGENCE
from msplora_analysis.plots.heatmap import add_colour_bar, colour_norm
from msplora_analysis.plots.layer_matrix import (
    as_matrix,
    default_title,
    draw_cells,
    draw_layer_matrix,
)
from msplora_analysis.plots.paper import paper_style
from msplora_analysis.plots.words import divergence_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABEL = "D(row || column) (nats)"
_FRAME = Frame(left=0.3, gap=0.24, bar="below")


def plot_pairwise_kl(
    kl: LayerDivergence | ArrayLike,
    *,
    layers: ArrayLike | None = None,
    title: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the KL divergence between the spectra of all pairs of layers as a layers × layers matrix.

    Args:
        kl: a `LayerDivergence`, with its layers and title; or (L, L) nats as from `pairwise_spectral_kl`, where row i,
            column j holds D(Σᵢ ‖ Σⱼ). Values that are not finite are shown as missing.
        layers: (L,) names of the layers; by default 0 to L-1.
        title: above the axes.
        vmin, vmax: ends of the colour scale, in nats; by default 0 and the highest value, at least 0.05.
        ax: an Axes to draw on; by default a new figure of one column's width. A figure with
            `layout="constrained"` has room for the colour bar and the notes.

    Returns:
        The axes drawn on.

    Raises:
        ParameterError: if `kl` is not a square matrix, or `layers` has another length.
    """
    if isinstance(kl, LayerDivergence):
        layers = kl.layers if layers is None else layers
        title = default_title(divergence_title(kl), ax) if title is None else title
        kl = kl.kl
    matrix = as_matrix(kl, "kl", "LayerDivergence")
    norm = colour_norm(matrix, vmin, vmax, least=ALL_LAYERS_ALIKE)
    return draw_layer_matrix(matrix, layers, ax, title=title or "", label=_LABEL, cmap=DIVERGENCE, norm=norm)


def plot_kl_panels(panels: Sequence[tuple[str, LayerDivergence]], *, title: str = "", note: str = "") -> list[Axes]:
    """Draw several divergences side by side, three in a row, with one colour scale.

    Args:
        panels: the title and the divergence of each panel.
        title: above all panels.
        note: below all panels.

    Returns:
        The axes drawn on, of a new figure.
    """
    everything = np.concatenate([one.kl.ravel() for _, one in panels])
    norm = colour_norm(everything, None, None, least=ALL_LAYERS_ALIKE)
    missing = "" if np.isfinite(everything).all() else "hatched: undefined or infinite"
    foot = "; ".join(filter(None, [note, missing]))
    with paper_style():
        columns = min(max(len(panels), 2), PANELS_A_ROW)
        names = [name for name, _ in panels]
        axes, bar = _FRAME.lay_out_panels(names, columns, x="layer", y="layer", title=title, foot=foot)
        for ax, (_, one) in zip(axes, panels, strict=True):
            image = draw_cells(ax, one.kl, one.layers, cmap=DIVERGENCE, norm=norm)
        add_colour_bar(image, axes, bar, _LABEL)
    return axes
