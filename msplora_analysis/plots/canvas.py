"""Layout of panels on a figure of one column's width, in inches. The height includes titles and notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from msplora_analysis.plots.lettering import count_lines, fitted, title_and_foot
from msplora_analysis.plots.paper import SMALL, TITLE, WIDTH, magnification, new_figure
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE = 0.12
"""Line spacing of text of 7 points, in inches."""
PANELS_A_ROW = 3
"""Limit on the panels side by side, of which a title has room."""
_BESIDE = 0.15
"""Inches of the gaps beside a panel that its title takes."""
_BAR = 0.07
_BAR_TEXT = 0.27
_BAR_END = 0.14
"""Inches beside a colour bar below the panels: half the width of the number at its end."""


@dataclass(frozen=True)
class Row:
    """One row of panels, aligned at their upper edges.

    Args:
        heights: of each panel, in inches.
        below: inches below the highest panel, for ticks and labels.
        panel_titles: lines of text in the titles of its panels.
        heading: whether the row has a line for `write_heading` above the titles.
        columns: number of panels that fit its width; by default the number of panels.
    """

    heights: Sequence[float]
    below: float = 0.28
    panel_titles: int = 1
    heading: bool = False
    columns: int | None = None

    @property
    def above(self) -> float:
        """Inches above its panels."""
        return LINE * (self.panel_titles + self.heading) + 0.03

    @property
    def height(self) -> float:
        """Total height in inches."""
        return self.above + max(self.heights) + self.below


@dataclass(frozen=True)
class Frame:
    """Margins that rows of panels have in common.

    Args:
        left, right: inches beside the panels.
        gap: inches between panels.
        bar: place of a colour bar: `below` all rows, `beside` the first, or empty for none.
    """

    left: float = 0.3
    right: float = 0.08
    gap: float = 0.1
    bar: str = ""

    def width(self, columns: int) -> float:
        """Return the width of a panel in inches."""
        return (WIDTH - self.left - self.right - self.gap * (columns - 1)) / columns

    def lay_out(self, rows: Sequence[Row], *, title: str = "", foot: str = "") -> tuple[list[list[Axes]], Axes | None]:
        """Return new axes for each row, and those of the colour bar, on a new figure.

        Args:
            rows: from top to bottom.
            title: above all rows, wrapped to the width of the figure.
            foot: note below all rows, likewise.
        """
        label = title.replace("\n", "; ")
        title, foot = title_and_foot(title, foot)
        top = 0.05 + LINE * count_lines(title)
        bottom = 0.04 + 0.9 * LINE * count_lines(foot) + (_BAR + _BAR_TEXT if self.bar == "below" else 0)
        whole = top + sum(row.height for row in rows) + bottom
        figure = new_figure(whole)

        def place(left: float, upper: float, width: float, height: float) -> Axes:
            return figure.add_axes((left / WIDTH, 1 - (upper + height) / whole, width / WIDTH, height / whole))

        panels, upper = [], top
        for row in rows:
            width = self.width(row.columns or len(row.heights))
            panels.append(
                [
                    place(self.left + column * (width + self.gap), upper + row.above, width, height)
                    for column, height in enumerate(row.heights)
                ]
            )
            upper += row.height
        bar = None
        if self.bar == "below":
            bar = place(self.left, upper, WIDTH - self.left - max(self.right, _BAR_END), _BAR)
        elif self.bar:
            bar = place(WIDTH - self.right + 0.06, top + rows[0].above, _BAR, rows[0].heights[0])
        size = magnification()
        figure.set_label(label)  # for readers who do not see it
        figure.text(0.5, 1 - 0.03 / whole, title, ha="center", va="top", fontsize=TITLE * size)
        figure.text(4 / 72 / WIDTH, 0.03 / whole, foot, ha="left", va="bottom", fontsize=SMALL * size)
        return panels, bar

    def lay_out_panels(
        self, names: Sequence[str], columns: int, height: float | None = None, *, x: str, y: str, title: str, foot: str
    ) -> tuple[list[Axes], Axes | None]:
        """Return new axes of one size, row by row, and those of the colour bar, on a new figure.

        Args:
            names: the title of each panel, broken to its width.
            columns: number of panels in a row.
            height: of a panel in inches; by default its width.
            x, y: labels of the last row and the first column.
            title, foot: as for `lay_out`.
        """
        side = self.width(columns)
        titles = [fitted(name, 72 * (side + _BESIDE)) for name in names]
        rows = [titles[start : start + columns] for start in range(0, len(titles), columns)]
        layout = [
            Row([height or side] * len(row), below=0.15 + LINE * (row is rows[-1]),
                panel_titles=max(map(count_lines, row)), columns=columns)
            for row in rows
        ]  # fmt: skip
        nested, bar = self.lay_out(layout, title=title, foot=foot)
        axes = [ax for row in nested for ax in row]
        for ax, name in zip(axes, titles, strict=True):
            ax.set_title(name)
        for ax in nested[-1]:
            ax.set_xlabel(x)
        for row_of_axes in nested:
            row_of_axes[0].set_ylabel(y)
        return axes, bar


def given_axes(ax: Axes | Sequence[Axes] | None, count: int, what: str) -> list[Axes] | None:
    """Return the caller's axes as a list, also one Axes and grids of `pyplot.subplots`; None if there are none.

    Raises:
        ParameterError: unless there are as many as panels.
    """
    if ax is None:
        return None
    axes = list(np.array(ax, dtype=object).ravel())
    if len(axes) != count:
        raise ParameterError("ax", expected=f"{count} axes{what}", found=len(axes))
    return axes


def write_heading(ax: Axes, text: str, lines: int) -> None:
    """Write a heading above a panel's title, left-aligned.

    Args:
        ax: the panel.
        text: one line.
        lines: number of lines between heading and panel.
    """
    if text:
        ax.set_title(text + "\n" * lines, loc="left", fontweight="bold")
