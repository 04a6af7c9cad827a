"""Remarks on the numbers of an analysis, one sentence each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from msplora_analysis.comparison.difference import Comparison
from msplora_analysis.courses import SHARE
from msplora_core.wording import listed

if TYPE_CHECKING:
    from pandas import DataFrame


def epoch_notes(table: DataFrame, epoch: int | None) -> list[str]:
    """Return a note on the runs that an analysis at one epoch leaves out, since they did not record it.

    Args:
        table: a spectra table.
        epoch: the compared epoch; None for each run's last.
    """
    if epoch is None:
        return []
    recorded = table["epoch"].eq(epoch).groupby(table["run"], observed=True, sort=False).any()
    without = [str(run) for run in recorded.index[~recorded]]
    return [f"runs without a snapshot of epoch {epoch} are left out: {listed(without, 8)}"] if without else []


def time_notes(timed: DataFrame, epoch: int | None = None) -> list[str]:
    """Return notes on the clock of courses, for methods whose runs differ in their epochs (see `courses`).

    Args:
        timed: from `courses`.
        epoch: the compared epoch; None for each run's last.
    """
    notes = []
    for names, rows in timed.groupby(["model", "method"], observed=True, sort=False):
        ends = rows.groupby("run", observed=True)["time"].max()
        if rows["clock"].iloc[0] == SHARE and len(ends) > 1:
            notes.append(
                f"{names[1]} on {names[0]}: no epoch is common to all runs, so courses are over the share of training; "
                "the column runs has the number of runs at each point"
            )
        elif ends.nunique() > 1:
            clock = rows["clock"].iloc[0]
            compared = "" if epoch is not None else f"; each is compared at its last {clock}"
            notes.append(
                f"{names[1]} on {names[0]}: runs end between {clock} {ends.min():g} and {ends.max():g}{compared}; "
                "the column runs has the number of runs at each point of courses"
            )
    return notes


def pooling_notes(comparisons: Sequence[Comparison]) -> list[str]:
    """Return notes on differences whose sign depends on the order of averaging."""
    return [
        f"{one.method} minus {one.baseline}, {one.scale}, {'+'.join(one.modules)}: the mean over "
        f"{len(one.pairs)} pairs of runs is {one.adjacent['difference']:+.3g} nats, but {one.pooled_difference:+.3g} "
        "if singular values are averaged over all runs before the KL, as in the paper; the mean over pairs is shown"
        for one in comparisons
        if one.adjacent["difference"] * one.pooled_difference < 0
    ]


def null_notes(final: DataFrame, measured: DataFrame, nulls: DataFrame) -> list[str]:
    """Return notes on methods whose null model is missing, or does not use the factors of their training.

    Args:
        final: a spectra table with the columns of factors.
        measured: from `measure`.
        nulls: from `null_measures` for these.
    """
    defined = measured[measured["entropy_rank"].notna() & (measured["rank"] > 1)]
    without, random = list[str](), list[str]()
    for names, _ in defined.groupby(["model", "method"], observed=True, sort=False):
        own = nulls[(nulls["model"] == names[0]) & (nulls["method"] == names[1])]
        if own.empty:
            without.append(str(names[1]))
        elif (own["null"] == "gaussian").any():
            random.append(str(names[1]))
    reasons = {
        "no null model: their updates are dense, or neither factors nor shapes are known": without,
        "null of random factors of the same shape, since the singular values of the factors are not recorded": random,
        "null of factors from an SVD (an extracted, converted or truncated adapter): it does not describe the factors "
        "of a training": [method for _, method in _split_by_svd(final)],
    }
    return [f"{', '.join(dict.fromkeys(methods))}: {reason}" for reason, methods in reasons.items() if methods]


def _split_by_svd(final: DataFrame) -> list[tuple[str, str]]:
    """The models and methods whose singular values are the products of those of their factors."""
    if "sigma_B" not in final:
        return []
    rows = final[(final["rank"] > 1) & final["sigma_B"].notna()]
    rows = rows.assign(scaling=rows["scaling"].abs().fillna(1.0))
    with np.errstate(over="ignore", invalid="ignore"):
        apart = (rows["scaling"] * rows["sigma_B"] * rows["sigma_A"] - rows["sigma"]).abs()
        largest = rows["sigma"].where(rows["k"] == 1).ffill()
        split = (apart <= _ALIGNED * largest) & (largest > 0)
    found = split.groupby([rows["model"], rows["method"]], observed=True, sort=False).all()
    return [(str(model), str(method)) for model, method in found.index[found]]


_ALIGNED = 1e-3
"""Relative to the largest value: tolerance for factors in half precision."""


def broken_notes(found: DataFrame) -> list[str]:
    """Return notes on broken runs, which can dominate averages.

    Args:
        found: from `checked_runs`.
    """
    notes = []
    for (run, kind), rows in found[found["severity"] == "broken"].groupby(["run", "kind"], sort=False):
        rows = rows.sort_values("value", ascending=False, kind="stable")
        worst = rows.iloc[0]
        outweighs = " It dominates every average that includes it." if kind == "exploded" else ""
        says = f"{listed(list(rows['module']), 1)} of {run}: {worst['says']}; {worst['advice']}."
        notes.append(f"Broken, {kind}: {says}{outweighs}")
    return notes


def doubts(table: DataFrame, runs: DataFrame) -> dict[tuple[str, str], str]:
    """Count the runs of each model and method that were not finished, or score no better than a constant answer.

    Args:
        table: a spectra table.
        runs: from `load_runs`.

    Returns:
        The counts in words by model and method, for tables and titles; without methods whose runs are sound.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"run": ["a", "b"], "model": "minilm", "method": "lora-r8"})
        >>> runs = pd.DataFrame({"run": ["a", "b"], "finished": [True, False], "constant": [pd.NA, False]})
        >>> doubts(table, runs)
        {('minilm', 'lora-r8'): '1 of 2 runs not finished'}
    """
    found = dict[tuple[str, str], str]()
    members = table[["run", "model", "method"]].drop_duplicates().astype(str)
    known = members.merge(runs[["run", "finished", "constant"]], on="run", how="left")
    for (model, method), rows in known.groupby(["model", "method"], sort=False):
        counts = {
            "not finished": int(rows["finished"].eq(False).sum()),
            "no better than a constant answer": int(rows["constant"].eq(True).sum()),
        }
        words = [(count, what) for what, count in counts.items() if count]
        if words:
            (first, what), *more = words
            shown = [f"{first} of {len(rows)} runs {what}", *(f"{count} {what}" for count, what in more)]
            found[str(model), str(method)] = ", ".join(shown)
    return found
