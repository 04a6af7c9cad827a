"""The same numbers for each task and module type, which a reader of the page can choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

CHOICES = ("task", "module")
ALL = ""
"""Value of the columns `task` and `module` for averages over all of them."""


def by_choice(
    reduce: Callable[[DataFrame, Sequence[str]], DataFrame],
    table: DataFrame,
    by: Sequence[str],
    *,
    choices: Sequence[str] = CHOICES,
    most: float = inf,
) -> DataFrame:
    """Reduce a spectra table over all tasks and module types, for each of them, and for each pair.

    Args:
        reduce: a function of a table and the columns to group by: `average_spectra`, `measure`.
        table: a spectra table.
        by: columns to group by.
        choices: of task and module.
        most: largest number of rows; above it, pairs are left out, then all choices.

    Returns:
        The concatenated frames with the columns `choices`, which are empty for averages over all.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"task": ["mrpc", "cola"], "module": "query", "sigma": [1.0, 3.0]})
        >>> mean = lambda table, by: table.groupby(list(by), observed=True)["sigma"].mean().reset_index()
        >>> by_choice(mean, table.assign(scale="layer"), ["scale"])
           task module  scale  sigma
        0                layer    2.0
        1  cola          layer    3.0
        2  mrpc          layer    1.0
    """
    import pandas as pd

    open_choices = [name for name in choices if table[name].nunique() > 1]
    kept = sorted(product((False, True), repeat=len(open_choices)), key=sum)
    parts: list[DataFrame] = []
    for wanted in kept:
        names = [name for name, one in zip(open_choices, wanted, strict=True) if one]
        part = reduce(table, [*by, *names])
        for place, name in enumerate(choices):
            values = part.pop(name).astype(str) if name in names else ALL
            part.insert(place, name, values)
        if parts and sum(map(len, parts)) + len(part) > most:
            break
        parts.append(part)
    return pd.concat(parts, ignore_index=True)
