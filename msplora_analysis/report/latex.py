"""Tables for a paper: LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msplora_analysis.report.tables import TextTable, claims_table, text_tables

if TYPE_CHECKING:
    from msplora_analysis.analysis import Analysis

_SYMBOLS = {
    "σ₁": r"$\sigma_1$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "≥": r"$\geq$", "·": r"$\cdot$", "†": r"$\dagger$",
    "–": "--",
}  # fmt: skip
"""Characters that LaTeX's text fonts lack."""


def latex_tables(analysis: Analysis) -> Iterator[tuple[str, str]]:
    """Yield the tables of an analysis for a paper: `\\input` them with the package booktabs loaded.

    Args:
        analysis: from `analyse`.

    Yields:
        A name without ending, and the text.
    """
    tables = [*text_tables(analysis), *([claims_table(analysis)] if analysis.claims else [])]
    names = [table.name for table in tables]
    for place, table in enumerate(tables):
        number = names[:place].count(table.name)
        yield f"{table.name}-{number + 1}" if number else table.name, _latex(table)


def _latex(table: TextTable) -> str:
    import pandas as pd

    frame = pd.DataFrame(list(table.rows), columns=list(table.headers))
    styled = frame.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    key = " ".join(table.key.split())
    text = styled.to_latex(
        hrules=True,
        column_format="l" * table.left + "r" * (len(table.headers) - table.left),
        position="t",
        position_float="centering",
        label=f"tab:{table.name}",
        caption=_escaped(f"{table.title}. {key}".strip()),
    )
    for sign, code in _SYMBOLS.items():
        text = text.replace(sign, code)
    return text


def _escaped(text: str) -> str:
    """Return a text escaped for a caption."""
    for sign in "&%$#_":
        text = text.replace(sign, f"\\{sign}")
    return text
