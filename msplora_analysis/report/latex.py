"""Tables for a paper: LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msplora_analysis.report.claim_texts import claims_table
from msplora_analysis.report.tables import TextTable, text_tables

if TYPE_CHECKING:
    from msplora_analysis.analysis import Analysis

_ESCAPES = str.maketrans({
    **{sign: f"\\{sign}" for sign in "&%$#_{}"}, "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}", "<": "$<$", ">": "$>$", "|": "$|$", "–": "--", "σ": r"$\sigma$",
    "₁": r"\textsubscript{1}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "≥": r"$\geq$", "·": r"$\cdot$", "×": r"$\times$", "†": r"$\dagger$",
})  # fmt: skip
"""Characters with a meaning in LaTeX, and those that its text fonts lack."""


def latex_tables(analysis: Analysis) -> Iterator[tuple[str, str]]:
    """Yield the tables of an analysis for a paper: `\\input` them with the package booktabs loaded.

    Args:
        analysis: from `analyse`.

    Yields:
        A name without ending, and the text.
    """
    tables = [*text_tables(analysis), *([claims_table(analysis.claims)] if analysis.claims else [])]
    names = [table.name for table in tables]
    for place, table in enumerate(tables):
        number = names[:place].count(table.name)
        name = f"{table.name}-{number + 1}" if number else table.name
        yield name, _latex(table, name)


def _latex(table: TextTable, name: str) -> str:
    import pandas as pd

    rows = [[cell.translate(_ESCAPES) for cell in row] for row in table.rows]
    frame = pd.DataFrame(rows, columns=[header.translate(_ESCAPES) for header in table.headers])
    key = " ".join(table.key.split())
    return frame.style.hide(axis="index").to_latex(
        hrules=True,
        column_format="l" * table.left + "r" * (len(table.headers) - table.left),
        position="t",
        position_float="centering",
        label=f"tab:{name}",
        caption=f"{table.title}. {key}".strip().translate(_ESCAPES),
    )
