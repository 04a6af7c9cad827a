"""What a reader of the numbers must know of them, a sentence each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msplora_analysis.comparison.difference import Comparison
from msplora_analysis.courses import SHARE

if TYPE_CHECKING:
    from pandas import DataFrame


def time_notes(timed: DataFrame) -> list[str]:
    """What courses over training rest on, for methods whose runs differ in their epochs (see `courses`)."""
    notes = []
    for names, rows in timed.groupby(["model", "method"], observed=True, sort=False):
        ends = rows.groupby("run", observed=True)["time"].max()
        if rows["clock"].iloc[0] == SHARE and len(ends) > 1:
            notes.append(
                f"{names[1]} on {names[0]}: no epoch is common to all runs, so courses are over the share of training "
                "done; each point is over the runs at hand (column runs)"
            )
        elif ends.nunique() > 1:
            clock = rows["clock"].iloc[0]
            notes.append(
                f"{names[1]} on {names[0]}: runs end between {clock} {ends.min():g} and {ends.max():g}; each is "
                "compared at its last, and courses are over the runs at hand (column runs)"
            )
    return notes


def pooling_notes(comparisons: Sequence[Comparison]) -> list[str]:
    """Where the paper's order of averaging gives a difference of another sign than the mean of the pairs of runs."""
    return [
        f"{one.method} minus {one.baseline}, {one.scale}, {one.modules[0]}: the mean over {len(one.pairs)} pairs of "
        f"runs is {one.adjacent['difference']:+.3g} nats, but {one.pooled_difference:+.3g} if singular values are "
        "averaged over all runs before the KL, as in the paper; the mean over pairs is shown"
        for one in comparisons
        if one.adjacent["difference"] * one.pooled_difference < 0
    ]


def doubts(table: DataFrame, runs: DataFrame) -> dict[tuple[str, str], str]:
    """Say of each model and method how many of its runs were not finished, or score no better than a constant answer.

    Args:
        table: a spectra table.
        runs: as `load_runs` gives them.

    Returns:
        By model and method a few words for a table or a title; methods whose runs are sound are not in it.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"run": ["a", "b"], "model": "minilm", "method": "lora-r8"})
        >>> runs = pd.DataFrame({"run": ["a", "b"], "finished": [True, False], "constant": [pd.NA, False]})
        >>> doubts(table, runs)
        {('minilm', 'lora-r8'): '1 of 2 runs not finished'}
    """
    found = dict[tuple[str, str], str]()
    members = table[["run", "model", "method"]].astype(str).drop_duplicates()
    known = members.merge(runs[["run", "finished", "constant"]], on="run", how="left")
    for (model, method), rows in known.groupby(["model", "method"], sort=False):
        counts = {
            "not finished": int(rows["finished"].eq(False).sum()),
            "like a constant answer": int(rows["constant"].eq(True).sum()),
        }
        words = [(count, what) for what, count in counts.items() if count]
        if words:
            (first, what), *more = words
            shown = [f"{first} of {len(rows)} runs {what}", *(f"{count} {what}" for count, what in more)]
            found[str(model), str(method)] = ", ".join(shown)
    return found
