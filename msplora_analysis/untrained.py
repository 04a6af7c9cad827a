"""Runs that have trained nothing yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msplora_analysis.measures import last_epochs
from msplora_core.wording import listed

if TYPE_CHECKING:
    from pandas import DataFrame


def without_untrained(table: DataFrame) -> tuple[DataFrame, list[str]]:
    """Leave out the runs whose last updates are all zero, as of a training that has only begun, unless all are.

    Their spectra have no shape, which would leave every mean with them undefined.

    Args:
        table: a spectra table.

    Returns:
        The rows of the other runs, and a note that names those left out.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"run": ["a", "b"], "epoch": [3.0, 0.0], "step": [30, 0], "sigma": [1.0, 0.0]})
        >>> kept, notes = without_untrained(table)
        >>> list(kept["run"]), notes
        (['a'], ['Left out, since nothing is trained yet: b. Finish it.'])
    """
    largest = last_epochs(table).groupby("run", observed=True, sort=False)["sigma"].max()
    zero = list(map(str, largest.index[largest == 0]))
    if not zero or len(zero) == len(largest):
        return table, []
    finish = "Finish it" if len(zero) == 1 else "Finish them"
    return table[~table["run"].isin(zero)], [f"Left out, since nothing is trained yet: {listed(zero)}. {finish}."]
