"""Text broken into lines of a given width; formulas are never broken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msplora_analysis.plots.paper import SMALL, TITLE, WIDTH, figure_of, size_in_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

M_EFF = r"$M_{\mathrm{eff}\text{-}k}$"
_LETTER = 0.53
"""Mean width of a letter, as a share of the font size."""
_LINE = 1.2
"""Distance of two lines, relative to the font size."""
_LEAST = 0.3
"""Share of its height that axes keep, however long the text around them."""
_MOST_TITLE_LINES = 2
"""Limit above axes that the caller made: more lines would leave no room for the panels."""


def m_eff(k: int) -> str:
    """Return M_eff-k as the paper sets it.

    Example:
        >>> m_eff(1)
        '$M_{\\\\mathrm{eff}\\\\text{-}1}$'
    """
    return rf"$M_{{\mathrm{{eff}}\text{{-}}{k}}}$"


def fitted(text: str, points: float, size: float = TITLE, *, even: bool = False) -> str:
    """Break lines that are wider than `points`, estimated from the mean width of a letter. Long words are split.

    Args:
        text: the text; its own line breaks stay.
        points: the width.
        size: the font size in points.
        even: make the parts of a broken line about equally long.

    Example:
        >>> fitted("unet.down_blocks.0 and one more", 90, 7)
        'unet.down_blocks.0 and\\none more'
    """
    most = max(int(points / (_LETTER * size)), 8)
    lines = []
    for line in text.split("\n"):
        broken = _broken(line, most)
        width = most
        least = max(map(_letters, _words(line, most)), default=0)
        while even and width > least and len(_broken(line, width - 1)) == len(broken):
            width -= 1
        lines += _broken(line, width)
    return "\n".join(lines)


def _broken(line: str, most: int) -> list[str]:
    rows = [""]
    for word in _words(line, most):
        joined = f"{rows[-1]} {word}".strip()
        if rows[-1] and _letters(joined) > most:
            rows.append(word)
        else:
            rows[-1] = joined
    return rows


def title_and_foot(title: str, foot: str) -> tuple[str, str]:
    """Return both texts broken into lines that fit one column."""
    return fitted(title, 72 * WIDTH - 8, TITLE, even=True), fitted(foot, 72 * WIDTH - 8, SMALL)


def count_lines(text: str) -> int:
    """Return how many lines a text has: none if it is empty."""
    return text.count("\n") + 1 if text else 0


def write_around(axes: Sequence[Axes], title: str, foot: str) -> None:
    """Add a title and a foot to the title and x label of the first of the caller's axes, with room for all lines."""
    ax = axes[0]
    width, _ = size_in_points(ax)
    if title:
        lines = fitted(title, width, float(ax.title.get_fontsize())).split("\n")
        if len(lines) > _MOST_TITLE_LINES:
            lines = [*lines[: _MOST_TITLE_LINES - 1], lines[_MOST_TITLE_LINES - 1][:-3] + "..."]
        ax.set_title("\n".join(filter(None, [*lines, ax.get_title()])))
    if foot:
        written = fitted(foot, width, float(ax.xaxis.label.get_fontsize()))
        ax.set_xlabel(f"{ax.get_xlabel()}\n{written}".strip("\n"))
    if figure_of(ax).get_layout_engine() is None:
        _make_room(axes)


def _make_room(axes: Sequence[Axes]) -> None:
    """Shrink axes of a grid, as a colour bar does: for what is above one line of title and below one of x label."""
    above = max(_LINE * (count_lines(ax.get_title()) - 1) * float(ax.title.get_fontsize()) for ax in axes)
    below = max(_LINE * (count_lines(ax.get_xlabel()) - 1) * float(ax.xaxis.label.get_fontsize()) for ax in axes)
    height = min(size_in_points(ax)[1] for ax in axes)
    ratios = [max(above, 0.0), max(height - above - below, _LEAST * height), max(below, 0.0)]
    for ax in axes:
        if (place := ax.get_subplotspec()) is not None and ratios[0] + ratios[2] > 0:
            ax.set_subplotspec(place.subgridspec(3, 1, hspace=0, height_ratios=ratios)[1])


def _letters(text: str) -> int:
    """Return the width in letters; a formula counts as wide as M_eff-1."""
    return len(re.sub(r"\$[^$]*\$", "Meff1", text))


def _words(line: str, most: int) -> list[str]:
    """Return the words; words longer than a line are split."""
    return [
        part
        for word in filter(None, line.split(" "))  # a no-break space holds words together
        for part in ([word] if "$" in word else [word[start : start + most] for start in range(0, len(word), most)])
    ]
