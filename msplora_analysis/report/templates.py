"""The templates of the page, and the format of its table cells."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msplora_core.errors import one_line
from msplora_core.methods import title

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from pandas import DataFrame

ASSETS = Path(__file__).parent / "assets"
_MOST_ROWS = 500
"""Limit on the rows of a table in the page; the CSV file has all rows."""


def template(name: str) -> Template:
    """Return a template that escapes every text and refuses undefined names."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "method": title, "texts": _texts}
    return environment


def number(value: Any) -> str:
    """Return the text of a table cell: four significant digits, or a dash for a missing value.

    Example:
        >>> number(0.123456), number(12), number(float("nan")), number("lora-r8"), number(1e-7)
        ('0.1235', '12', '–', 'lora-r8', '1e-07')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)) or str(value) == "<NA>":
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value))


def _texts(values: dict[str, Any]) -> str:
    """Return values with all digits, as JSON."""
    return json.dumps({name: str(value) for name, value in values.items()})


def cells(table: DataFrame, name: str, title: str) -> dict[str, Any]:
    """Return the values for the template of a table: the columns that vary, the values that all rows have, the rows.

    Args:
        table: the rows, as in the CSV file.
        name: the name of the CSV file.
        title: above the table.
    """
    shown = table.loc[:, [column for column in table if table[column].notna().any() and (table[column] != "").any()]]
    same = [column for column in shown if len(shown) > 1 and shown[column].nunique(dropna=False) == 1]
    common = {str(column): shown[column].astype(object).iloc[0] for column in same}
    shown = shown.drop(columns=same)
    head = shown.head(_MOST_ROWS)
    words: Iterable[Any] = [
        name for name in shown if shown[name].dtype.kind not in "iuf" and str(shown[name].dtype) != "Int64"
    ]
    return {
        "name": name,
        "title": title,
        "columns": [str(name) for name in shown],
        "same": common,
        "words": set(map(str, words)),
        "rows": head.astype(object).to_numpy().tolist(),
        "left_out": len(table) - len(head),
    }
