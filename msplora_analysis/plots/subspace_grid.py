"""How much the leading directions of two updates overlap, as in Fig. 3 of the LoRA paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from msplora_analysis.plots.canvas import Frame, Row, given_axes
from msplora_analysis.plots.colours import MAGNITUDE
from msplora_analysis.plots.heatmap import add_colour_bar, colour_norm, draw_heatmap, index_ticks
from msplora_analysis.plots.lettering import write_around
from msplora_analysis.plots.paper import paper_style
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FRAME = Frame(right=0.62, gap=0.24, bar="beside")
_HEIGHT = 1.15


def plot_subspace_similarity(
    grids: Mapping[str, ArrayLike],
    *,
    names: tuple[str, str] = ("i", "j"),
    title: str = "",
    foot: str = "",
    vmax: float | None = None,
    ax: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Draw φ(i, j) of the leading i directions of one update and j of another, one panel for each side.

    Args:
        grids: for each side, such as inputs and outputs, the (I, J) grid from `subspace_similarity`.
        names: what the rows and the columns count.
        title: above all panels.
        foot: below all panels, such as the value for random subspaces.
        vmax: upper end of the colour scale; by default the highest value.
        ax: an Axes for each side; by default a new figure of one column's width. A figure with
            `layout="constrained"` has room for the colour bar and the notes.

    Returns:
        The axes drawn on.

    Raises:
        ParameterError: if there is no grid, one is not a matrix, or `ax` has another length.
    """
    matrices = {side: np.asarray(grid, dtype=np.float64) for side, grid in grids.items()}
    if not matrices or any(grid.ndim != 2 or not grid.size for grid in matrices.values()):
        raise ParameterError(
            "grids", expected="a matrix for each side", found=[grid.shape for grid in matrices.values()]
        )
    axes, own, bar = given_axes(ax, len(matrices), ", one for each side"), ax is None, None
    values = np.concatenate([grid.ravel() for grid in matrices.values()])
    norm = colour_norm(values, 0.0, vmax, log=False)
    with paper_style(own):
        if axes is None:
            (axes,), bar = _FRAME.lay_out([Row([_HEIGHT] * len(matrices))], title=title, foot=foot)
        for panel, (side, grid) in zip(axes, matrices.items(), strict=True):
            image = draw_heatmap(panel, grid, cmap=MAGNITUDE, norm=norm)
            panel.set_title(side)
            panel.set_xlabel(names[1])
            for axis, count in ((panel.xaxis, grid.shape[1]), (panel.yaxis, grid.shape[0])):
                axis.set_ticks(*index_ticks(count, 8))
        axes[0].set_ylabel(names[0])
        if not own:
            write_around(axes, title, foot)
        add_colour_bar(image, axes, bar, r"$\phi(i, j)$")
    return axes
