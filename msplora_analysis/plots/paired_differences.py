"""For each pair of runs, how much further apart a method's adjacent layers are than the baseline's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from msplora_analysis.comparison.difference import Comparison
from msplora_analysis.plots.canvas import Frame, Row, given_axes
from msplora_analysis.plots.colours import DIFFERENCE, SCALE_COLOURS
from msplora_analysis.plots.heatmap import add_colour_bar, write_in_units
from msplora_analysis.plots.kl_difference import (
    LABEL,
    around_zero,
    decided_cells,
    decided_note,
    mark_difference,
    nats,
    plot_kl_difference,
)
from msplora_analysis.plots.layer_matrix import draw_cells
from msplora_analysis.plots.lettering import write_around
from msplora_analysis.plots.paper import WIDTH, paper_style
from msplora_analysis.plots.words import INTERVAL, comparison_title, task_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_LETTER = 0.045
"""Width of a tick label, in inches."""
_ROW = 0.15


def plot_paired_differences(
    pairs: DataFrame,
    *,
    scale: str = "layer",
    interval: tuple[float, float] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the difference of each pair of runs as a point, one row for each task, with the overall mean below.

    Args:
        pairs: `Comparison.pairs`: columns run, task and difference (nats; mean over adjacent layers).
        scale: sets the colour of the points.
        interval: confidence interval of the mean, in nats.
        title: above the axes.
        ax: an Axes to draw on; by default a new figure of one column's width.

    Returns:
        The axes drawn on.
    """
    from matplotlib.ticker import MaxNLocator

    known = pairs[np.isfinite(pairs["difference"])]
    tasks = [str(task) or str(run) for task, run in zip(known["task"], known["run"], strict=True)]
    names = list(dict.fromkeys(tasks))
    shown = [task_title(name) for name in names]
    mean = float(known["difference"].mean()) if len(known) else np.nan
    foot = _marks(mean, interval)
    with paper_style(ax is None):
        own = ax is None
        if ax is None:
            frame = Frame(left=label_width([*shown, "mean"]))
            ((ax,),), _ = frame.lay_out([_row(len(names))], title=title, foot=foot)
        ax.axvline(0, color="0.4", linewidth=0.6, zorder=1)
        places = [names.index(task) for task in tasks]
        ax.plot(
            known["difference"], places, linestyle="", marker="o", markersize=3, color=SCALE_COLOURS[scale], alpha=0.7,
            markeredgewidth=0,
        )  # fmt: skip
        if interval:
            ax.plot(interval, [len(names)] * 2, color="black", linewidth=1)
        ax.plot([mean], [len(names)], linestyle="", marker="D", markersize=3.5, color="black", markeredgewidth=0)
        ax.axhline(len(names) - 0.5, color="0.8", linewidth=0.4, zorder=1)
        ax.set_yticks(range(len(names) + 1), [*shown, "mean"])
        ax.set_ylim(len(names) + 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_xlabel("difference in KL of adjacent layers (nats)" + write_in_units(ax.xaxis, ax.get_xlim()))
        if not own:
            write_around([ax], title, "")
    return ax


def plot_comparison(
    comparison: Comparison,
    *,
    interval: tuple[float, float] | None = None,
    reach: float | None = None,
    title: str | None = None,
    ax: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Draw all of Fig. 4: the layers × layers matrix of differences, and below it the difference of each pair of runs.

    Args:
        comparison: of a method with its baseline.
        interval: confidence interval of the mean over adjacent layers, in nats.
        reach: limit of the colour scale on both sides of 0, in nats; by default as in `plot_kl_difference`.
        title: above the figure.
        ax: two Axes, for the matrix and for the pairs; by default a new figure of one column's width. A figure with
            `layout="constrained"` has room for the colour bar and the notes.

    Returns:
        The two axes drawn on.

    Raises:
        ParameterError: if `ax` has another length.
    """
    given = given_axes(ax, 2, ": the matrix and the pairs of runs")
    if given is not None:
        above, below = given
        plot_kl_difference(comparison, title=title, vmin=None if reach is None else -reach, vmax=reach, ax=above)
        plot_paired_differences(comparison.pairs, scale=comparison.scale, interval=interval, ax=below)
        return [above, below]
    pairs = comparison.pairs
    names = [task_title(str(task) or str(run)) for task, run in zip(pairs["task"], pairs["run"], strict=True)]
    left = label_width([*names, "mean"])
    frame = Frame(left=left, right=0.62, bar="beside")
    side = WIDTH - left - frame.right
    decided, mean = decided_cells(comparison), float(pairs["difference"].mean())
    finite = "" if np.isfinite(comparison.difference).all() else "hatched: undefined or infinite"
    notes = ["outlined: adjacent layers", decided_note(decided), finite, _marks(mean, interval)]
    foot = "; ".join(filter(None, notes))
    with paper_style():
        layout = [Row([side], below=0.32, panel_titles=0), _row(len(set(names)))]
        ((above,), (below,)), bar = frame.lay_out(
            layout, title=comparison_title(comparison) if title is None else title, foot=foot
        )
        matrix = comparison.difference
        image = draw_cells(above, matrix, comparison.layers, cmap=DIFFERENCE, norm=around_zero(matrix, reach))
        mark_difference(above, matrix, decided)
        above.set(xlabel="layer", ylabel="layer")
        add_colour_bar(image, [above], bar, LABEL)
        plot_paired_differences(pairs, scale=comparison.scale, interval=interval, ax=below)
    return [above, below]


def label_width(names: Sequence[str], most: float = 1.2) -> float:
    """Return the space that labels need to the left of an axis, in inches.

    Example:
        >>> label_width(["MRPC", "STS-B"])
        0.32
    """
    return round(min(max(0.095 + _LETTER * max(map(len, names)), 0.3), most), 3)


def _marks(mean: float, interval: tuple[float, float] | None) -> str:
    number = nats(mean) if np.isfinite(mean) else "undefined"
    return f"a point: a pair of runs; diamond: mean {number}" + (f" and {INTERVAL}" if interval else "")


def _row(tasks: int) -> Row:
    return Row([_ROW * (tasks + 1)], panel_titles=0)
