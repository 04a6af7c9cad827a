"""Cosines between the leading directions of the adapted and the base weight."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from msplora_analysis.plots.canvas import LINE, Frame, Row
from msplora_analysis.plots.lettering import write_around
from msplora_analysis.plots.paper import WIDTH, paper_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_FRAME = Frame(left=0.42)
_HEIGHT = 1.7
_LETTER = 0.05
"""Mean width of a letter of the legend, in inches."""
_MOST_COLUMNS = 4
_SAFE_COLOURS = 10
"""The palette for colour-blind readers has no more."""
_FOOT = "points: leading directions of each weight; those below the line are intruder dimensions"


def plot_intruders(directions: DataFrame, *, epsilon: float = 0.5, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw the cosine of each leading direction of W₀ + ΔW with the closest one of W₀, layer by layer.

    Args:
        directions: from an `Intrusion`.
        epsilon: directions below this line are intruders.
        title: above the axes.
        ax: an Axes to draw on; by default a new figure of one column's width.

    Returns:
        The axes drawn on.
    """
    import seaborn as sns

    modules = list(dict.fromkeys(map(str, directions["module"])))
    columns = int((WIDTH - _FRAME.left) / (0.3 + _LETTER * max(map(len, modules))))
    columns = min(max(columns, 1), _MOST_COLUMNS, len(modules))
    colours = sns.color_palette("colorblind" if len(modules) <= _SAFE_COLOURS else "husl", len(modules))
    with paper_style(ax is None):
        row = Row([_HEIGHT], below=0.2 + LINE * (1.5 + ceil(len(modules) / columns)), panel_titles=0)
        panel = ax if ax is not None else _FRAME.lay_out([row], title=title, foot=_FOOT)[0][0][0]
        sns.stripplot(
            directions, x="layer", y="cosine", hue="module", hue_order=modules, dodge=len(modules) > 1, size=2,
            palette=colours, jitter=False, ax=panel, linewidth=0,
        )  # fmt: skip
        panel.axhline(epsilon, color="0.4", linewidth=0.6, linestyle="--", zorder=0)
        panel.set_ylim(-0.03, 1.03)
        panel.set_xlabel("layer")
        panel.set_ylabel("largest cosine with W₀")
        layers = directions["layer"].nunique()
        step = -(-layers // 12)
        for place, label in enumerate(panel.get_xticklabels()):
            label.set_visible(place % step == 0)
        panel.legend(
            frameon=False, loc="upper left", bbox_to_anchor=(0, -0.2), ncols=columns, borderaxespad=0, borderpad=0,
            labelspacing=0.2, columnspacing=1, handlelength=1,
        )  # fmt: skip
        if ax is not None:
            write_around([panel], title, _FOOT)
    return panel
