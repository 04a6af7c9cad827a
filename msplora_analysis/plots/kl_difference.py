"""Fig. 4: KL between the layers of one method minus that of the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_analysis.comparison.difference import Comparison
from msplora_analysis.plots.colours import ALL_LAYERS_ALIKE, DIFFERENCE
from msplora_analysis.plots.layer_matrix import as_matrix, default_title, draw_layer_matrix
from msplora_analysis.plots.paper import paper_style, size_in_points
from msplora_analysis.plots.words import comparison_title
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

LABEL = "KL minus the baseline's (nats)"
_PALE = 0.45
_DECIDED = "p\N{NO-BREAK SPACE}<\N{NO-BREAK SPACE}0.05"


def plot_kl_difference(
    difference: Comparison | ArrayLike,
    *,
    decided: ArrayLike | None = None,
    layers: ArrayLike | None = None,
    adjacent: float | None = None,
    title: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw pairwise KL of a method minus that of its baseline, layers × layers (Fig. 4).

    Colours diverge around 0: red if the method's layers are further apart, blue if the baseline's are. Decided cells
    have full colour and their sign, the others are pale. The band of adjacent layers is outlined, and its mean, if
    given, is written below.

    Args:
        difference: a `Comparison`, which includes layers, mean, title and decided cells; or (L, L) nats, as from
            `kl_difference`. Values that are not finite are shown as missing.
        decided: (L, L) booleans: whether a cell's difference is decided; by default all have full colour.
        layers: (L,) names of the layers; by default 0 to L-1.
        adjacent: the mean over adjacent layers, in nats, as in `Comparison.adjacent`.
        title: above the axes.
        vmin, vmax: ends of the colour scale, in nats; by default symmetric, up to the largest magnitude, at least 0.05.
        ax: an Axes to draw on; by default a new figure of one column's width. A figure with
            `layout="constrained"` has room for the colour bar and the notes.

    Returns:
        The axes drawn on.

    Raises:
        ParameterError: if `difference` is not a square matrix, or `layers` or `decided` has another size.
    """
    if isinstance(difference, Comparison):
        layers = difference.layers if layers is None else layers
        adjacent = difference.adjacent["difference"] if adjacent is None else adjacent
        title = default_title(comparison_title(difference), ax) if title is None else title
        decided = decided_cells(difference) if decided is None else decided
        difference = difference.difference
    matrix = as_matrix(difference, "difference", "Comparison")
    known = None if decided is None else np.asarray(decided, dtype=bool)
    if known is not None and known.shape != matrix.shape:
        raise ParameterError("decided", expected=f"{matrix.shape}, as the differences", found=known.shape)
    drawn = draw_layer_matrix(
        matrix,
        layers,
        ax,
        title=title or "",
        label=LABEL,
        cmap=DIFFERENCE,
        norm=around_zero(matrix, vmax, vmin),
        foot="; ".join(filter(None, [_adjacent_note(adjacent, len(matrix)), decided_note(known)])),
    )
    with paper_style(ax is None):
        mark_difference(drawn, matrix, known)
    return drawn


def mark_difference(ax: Axes, matrix: NDArray[np.float64], decided: NDArray[np.bool_] | None) -> None:
    """Outline the band of adjacent layers; make undecided cells pale, and write the sign of the others."""
    _outline_adjacent(ax, len(matrix))
    if decided is None:
        return
    (image,) = ax.get_images()
    image.set_alpha(np.where(decided, 1.0, _PALE))
    size = min(size_in_points(ax)[0] / len(matrix) * 0.45, 5)
    for marker, which in (("+", matrix > 0), ("_", matrix < 0)):
        rows, columns = np.nonzero(decided & which)
        ax.plot(columns, rows, linestyle="", marker=marker, markersize=size, markeredgewidth=0.8, color="black")


def decided_note(decided: NDArray[np.bool_] | None) -> str:
    """Return the meaning of the marks, in words."""
    if decided is None:
        return ""
    if not decided.any():
        return f"pale: no cell is decided after correction ({_DECIDED})"
    return f"+ and −: decided after correction ({_DECIDED}); pale: not decided"


def nats(value: float) -> str:
    """Return a difference with its sign, as axes have it.

    Example:
        >>> nats(-0.0116)
        '−0.0116 nats'
    """
    return f"{value:+.3g}".replace("-", "−") + " nats"


def decided_cells(comparison: Comparison) -> NDArray[np.bool_]:
    """Return whether each cell of a comparison is decided, (L, L)."""
    decided = np.zeros(comparison.difference.shape, dtype=bool)
    places = {layer: place for place, layer in enumerate(comparison.layers.tolist())}
    cells = comparison.cells[comparison.cells["decided"]]
    decided[cells["row"].map(places), cells["column"].map(places)] = True
    return decided


def _adjacent_note(adjacent: float | None, count: int) -> str:
    if adjacent is None or count < 2:
        return ""
    mean = nats(adjacent) if np.isfinite(adjacent) else "undefined"
    return f"adjacent layers (outlined): mean {mean}"


def around_zero(matrix: NDArray[np.float64], vmax: float | None = None, vmin: float | None = None) -> Normalize:
    """Return the colour scale of differences, white at 0; by default up to the largest magnitude, at least 0.05."""
    from matplotlib.colors import Normalize, TwoSlopeNorm

    reach = np.abs(matrix[np.isfinite(matrix)]).max(initial=ALL_LAYERS_ALIKE)
    high = reach if vmax is None else vmax
    low = (-high if vmax is not None and vmax > 0 else -reach) if vmin is None else vmin
    return Normalize(low, high) if not low < 0 < high or low == -high else TwoSlopeNorm(0, low, high)


def _outline_adjacent(ax: Axes, count: int) -> None:
    if count < 2:
        return
    edges = np.arange(count + 1) - 0.5
    upper, lower = np.clip(edges + 2, None, count - 0.5), np.clip(edges - 1, -0.5, None)
    ax.step(edges, np.append(upper[:-1], upper[-1]), where="post", color="black", linewidth=0.8)
    ax.step(edges, np.append(lower[:-1], lower[-2]), where="post", color="black", linewidth=0.8)
