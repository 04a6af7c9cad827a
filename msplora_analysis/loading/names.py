"""Names of runs, by which they are grouped: base model, method and task."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from msplora_analysis.loading.source import Source
from msplora_analysis.loading.unknowns import name_unknown_bases, name_unknown_tasks
from msplora_analysis.loading.variants import separate_variants

if TYPE_CHECKING:
    from pandas import DataFrame


def name_runs(runs: Sequence[tuple[str, Source]], keys: Sequence[Collection[str]]) -> tuple[list[Source], list[str]]:
    """Name unknown base models and tasks, and runs of one method that are not replicates.

    Args:
        runs: names and sources.
        keys: of the components of each.

    Returns:
        The sources, and notes on what was named.
    """
    names = [name for name, _ in runs]
    sources, of_bases = name_unknown_bases(runs, keys)
    sources, of_variants = separate_variants(list(zip(names, sources, strict=True)), keys)
    sources, of_tasks = name_unknown_tasks(list(zip(names, sources, strict=True)))
    return sources, [*of_bases, *of_tasks, *of_variants]


def named_as_in(table: DataFrame, other: DataFrame, left_out: Collection[str] = ()) -> DataFrame:
    """Return another table of the same runs with the methods and models of a spectra table.

    Args:
        table: the spectra table.
        other: with columns run, method and model; runs that are not in `table` keep theirs.
        left_out: runs of `other` to leave out.
    """
    names = table[["run", "method", "model"]].drop_duplicates("run").astype(str).set_index("run")
    rows = other[~other["run"].isin(left_out)]
    runs = rows["run"].astype(str)
    return rows.assign(
        method=runs.map(names["method"]).fillna(rows["method"].astype(str)),
        model=runs.map(names["model"]).fillna(rows["model"].astype(str)),
    )
