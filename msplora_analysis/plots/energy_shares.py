"""Shares of the energy of layers' updates, with those of layers that share nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from msplora_analysis.plots.canvas import LINE, Frame, Row
from msplora_analysis.plots.colours import SCALE_COLOURS
from msplora_analysis.plots.lettering import fitted, write_around
from msplora_analysis.plots.paper import SMALL, paper_style
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_PARTS = {"shared_by_all": ("all layers", "global"), "shared_by_groups": ("groups", "mid"),
          "own": ("own", "layer")}  # fmt: skip
_ROW, _BAR, _NULL = 0.22, 0.46, 0.22
"""Height of a row in inches; heights of a bar and of its null, as shares of the row."""
_RIGHT = 0.14
"""Half the width of the last label of the axis, in inches."""
_LETTER = 0.05
"""Width of a letter of 6 points, in inches."""
_MOST_LABEL = 1.5
"""Largest width of labels in a new figure, in inches; longer labels are wrapped."""


def plot_energy_shares(shares: DataFrame, labels: Sequence[str], *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw a bar for each row: the shares of the energy shared by all layers, by groups of layers, and by none.

    The thin, pale bar below it shows the shares of layers that share nothing.

    Args:
        shares: columns shared_by_all, shared_by_groups, own and null_shared_by_all, null_shared_by_groups, null_own
            (see `Overlap.sharing`).
        labels: a name for each row.
        title: above the axes.
        ax: an Axes to draw on; by default a new figure of one column's width.

    Returns:
        The axes drawn on.

    Raises:
        ParameterError: if `labels` has another length.
    """
    if len(labels) != len(shares):
        raise ParameterError("labels", expected=f"{len(shares)}, one for each row", found=len(labels))
    own = ax is None
    undefined = bool(shares["own"].isna().any())
    foot = "thin bars: layers that share nothing" + ("; no bar: every update is zero" if undefined else "")
    with paper_style(own):
        if ax is None:
            labels = [fitted(label, 72 * _MOST_LABEL, SMALL) for label in labels]
            left = 0.14 + _LETTER * max(len(line) for label in labels for line in label.split("\n"))
            row = Row([_ROW * len(labels)], below=0.2 + 2 * LINE, panel_titles=0)
            ((ax,),), _ = Frame(left=left, right=_RIGHT).lay_out([row], title=title, foot=foot)
        rows = np.arange(len(shares))
        for kind, offset, height, alpha in (("", -0.12, _BAR, 1.0), ("null_", 0.26, _NULL, 0.4)):
            start = np.zeros(len(shares))
            for name, (words, scale) in _PARTS.items():
                width = shares[f"{kind}{name}"].to_numpy(dtype=np.float64)
                ax.barh(rows + offset, width, height, start, color=SCALE_COLOURS[scale], alpha=alpha, linewidth=0,
                        label=words if not kind else None)  # fmt: skip
                start = start + width
        ax.set_yticks(rows, list(labels))
        ax.set_ylim(len(shares) - 0.5, -0.5)
        ax.set_xlim(0, 1)
        ax.set_xlabel("share of the energy")
        ax.legend(loc="upper right", bbox_to_anchor=(1.0, -0.27 / (_ROW * len(labels))), ncols=3, frameon=False,
                  handlelength=1, columnspacing=1)  # fmt: skip
        if not own:
            write_around([ax], title, foot)
    return ax
