"""Cosines over training, between scales and between layers that share a component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msplora_analysis.plots.canvas import LINE, Frame, Row, given_axes
from msplora_analysis.plots.colours import PAIR_COLOURS, SCALE_COLOURS
from msplora_analysis.plots.lettering import write_around
from msplora_analysis.plots.paper import paper_style
from msplora_analysis.plots.words import INTERVAL
from msplora_core.errors import ParameterError
from msplora_core.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_FRAME = Frame(left=0.42, gap=0.34)
_HEIGHT = 1.35
_TITLES = {"scales": "two scales' steps", "layers": "two layers' gradients"}
_COLOURS = PAIR_COLOURS | SCALE_COLOURS


def plot_interference(courses: DataFrame, *, title: str = "", ax: Sequence[Axes] | None = None) -> list[Axes]:
    """Draw cosines over training of one method: a panel for pairs of scales, and one for layers that share a component.

    Above 0, both move in the same direction; below 0, they partly cancel. With several runs, the line is their mean
    and the band its 95% t interval over runs.

    Args:
        courses: from `interference_by_epoch`, of one model and method.
        title: above the panels.
        ax: an Axes for each panel; by default a new figure of one column's width.

    Returns:
        The axes drawn on: `scales`, then `layers`, if there are any.

    Raises:
        ParameterError: if there is nothing to draw, several methods, or `ax` has another length.
    """
    from matplotlib.ticker import MaxNLocator

    kinds = [kind for kind in _TITLES if (courses["between"] == kind).any()]
    if not kinds or courses["method"].nunique() > 1:
        found = f"{courses['method'].nunique()} methods with {len(courses)} rows"
        raise ParameterError("courses", expected="cosines of one method", found=found)
    axes = given_axes(ax, len(kinds), f", one for each of {', '.join(kinds)}")
    runs = int(courses["runs"].max())
    foot = f"line: mean of {counted(runs, 'run')}; band: its {INTERVAL}" if runs > 1 else ""
    with paper_style(ax is None):
        if axes is None:
            row = Row([_HEIGHT] * len(kinds), below=0.2 + 4 * LINE)
            (axes,), _ = _FRAME.lay_out([row], title=title, foot=foot)
        for panel, kind in zip(axes, kinds, strict=True):
            rows = courses[courses["between"] == kind].sort_values("epoch")
            panel.axhline(0, color="0.6", linewidth=0.6, zorder=0)
            pairs = [pair for pair in _COLOURS if (rows["pair"] == pair).any()]
            for pair in pairs:
                one, colour = rows[rows["pair"] == pair], _COLOURS[pair]
                panel.plot(one["epoch"], one["cosine"], color=colour, marker="o", markeredgewidth=0, label=_name(pair))
                panel.fill_between(one["epoch"], one["low"], one["high"], color=colour, alpha=0.2, linewidth=0)
            panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            panel.yaxis.set_major_locator(MaxNLocator(5))
            panel.set_title(_TITLES[kind])
            panel.set_xlabel("epoch")
            panel.set_ylabel("cosine" if panel is axes[0] else "")
            key: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, -0.27)} if ax is None else {}
            panel.legend(frameon=False, borderaxespad=0, borderpad=0, labelspacing=0.2, **key)
        if ax is not None:
            write_around(axes, title, foot)
    return axes


def _name(pair: str) -> str:
    """The compared scales in words.

    Example:
        >>> _name("global-mid"), _name("mid")
        ('global and mid', 'of mid')
    """
    return pair.replace("-", " and ") if "-" in pair else f"of {pair}"
