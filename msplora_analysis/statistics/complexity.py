"""Claims 1a to 1c: the order of a pyramid's scales by strength and complexity (Fig. 3)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from msplora_analysis.measures import Average, average_spectra, measure
from msplora_analysis.statistics.claims import Claim, Draft, both_questions, by_scale, untestable

if TYPE_CHECKING:
    from pandas import DataFrame

RUN = ("run", "task", "scale")
"""Columns to group by for claims on scales."""
_NUMBERS = ("1a", "1b", "1c")


def complexity_drafts(table: DataFrame, nulls: DataFrame, average: Average = "spectra") -> list[Draft]:
    """Test claims 1a to 1c for each method with a global and a layer scale.

    Each holds if its steps do: 1a and 1b compare every scale with the next (global, mid, layer) in σ₁ and in entropy
    rank; 1c compares global with every other scale in entropy rank minus the mean of its null. They are tested at
    equal ranks and scalings only, as in Section 5.1 of the paper, since rank 8 has a higher entropy rank than rank 2 by
    construction.

    Args:
        table: spectra of one epoch per run (see `measures.last_epochs`), with scalings as far as known.
        nulls: of the entropy rank, by model, method, stack, run and scale (see `null_measures`); if empty, 1c is left
            out.
        average: average singular values first or measures first (see `measure`).

    Returns:
        Up to three drafts for each (model, method, stack).
    """
    drafts: list[Draft] = []
    own = table[table["scale"] != "total"]
    pyramids = [
        (tuple(map(str, names)), rows)
        for names, rows in own.groupby(["model", "method", "stack"], observed=True, sort=False)
        if {"global", "layer"} <= set(rows["scale"].unique())
    ]
    equal = [names[1] for names, rows in pyramids if rows["rank"].nunique() == 1 < rows["rank"].max()]
    for (model, method, stack), rows in pyramids:
        drawn = nulls[(nulls["model"] == model) & (nulls["method"] == method) & (nulls["stack"] == stack)]
        claims = [Claim(number, method, model, stack) for number in _NUMBERS[: 3 if len(nulls) else 2]]
        reason, next_step = _obstacle(rows, equal)
        if reason:
            drafts += [untestable(claim, reason, next_step) for claim in claims]
        else:
            drafts += _drafts(claims, rows, drawn, average)
    return drafts


def _obstacle(rows: DataFrame, equal: list[str]) -> tuple[str, str]:
    """Why the scales cannot be compared, and what to train; empty if they can."""
    ranks = rows.groupby("scale", observed=True)["rank"].agg(["min", "max"])
    highest = int(ranks["max"].max())
    if ranks["min"].min() < highest:
        train = f"see {equal[0]}, of equal ranks" if equal else f"train --ranks {highest},{highest},{highest}"
        return f"ranks {'/'.join(map(str, ranks['max']))} differ by construction", train
    if highest == 1:
        return "spectra of rank 1 have no shape", "train --ranks 8,8,8"
    largest = rows[rows["k"] == 1].groupby(["run", "scale"], observed=True)["sigma"].max()
    if (largest == 0).any():
        return "a scale's spectra are zero", "train at least one epoch"
    return "", ""


def _drafts(claims: list[Claim], rows: DataFrame, nulls: DataFrame, average: Average) -> Iterator[Draft]:
    """The claims, each with its differences."""
    intensity, dimensions, *beyond = claims
    scalings = _scalings(rows)
    strength = average_spectra(rows, RUN).query("k == 1")
    if len(set(scalings)) > 1:
        shown = "/".join(f"{scaling:g}" for scaling in scalings)
        yield untestable(intensity, f"scalings {shown} differ by construction", "train --ranks 8,8,8 with one alpha")
    else:
        yield _draft(intensity, strength, "sigma", "σ₁", "in σ₁")
    entropy = measure(rows, RUN, average=average)
    null = _null_words(nulls)
    yield _draft(dimensions, entropy, "entropy_rank", "entropy rank", "ranks", null=null)
    if beyond and len(nulls):
        excess = nulls.assign(excess=nulls["value"] - nulls["null_mean"])
        yield _draft(beyond[0], excess, "excess", "entropy rank minus its null's", "ranks", null=null, ends=True)
    elif beyond:
        yield untestable(beyond[0], "no null model: neither factors nor shapes are recorded", "record the runs again")


def _draft(
    claim: Claim, measured: DataFrame, column: str, name: str, unit: str, *, null: str = "", ends: bool = False
) -> Draft:
    """The differences of one measure between scales, for each run.

    Args:
        claim: the claim.
        measured: a row for each run and scale.
        column: the measure.
        name: of the measure, in words.
        unit: of the measure.
        null: values of the null model, in words.
        ends: compare global with every other scale, instead of every scale with the next.
    """
    each = measured.pivot(index=["run", "task"], columns="scale", values=column)
    each = each[[scale for scale in ("global", "mid", "layer") if scale in each]]
    scales = list(each.columns)
    pairs = [("global", scale) for scale in scales[1:]] if ends else list(pairwise(scales))
    steps = {f"{high} minus {low}": (each[high] - each[low]).to_numpy() for high, low in pairs}
    runs, tasks = zip(*each.index, strict=True)
    means = each.mean().rename_axis("scale").reset_index(name=column)
    found = Claim(
        claim.number, claim.method, claim.model, claim.stack, numbers=by_scale(means, column, name),
        tasks=tuple(map(str, tasks)),
    )  # fmt: skip
    return both_questions(found, steps, [str(run) for run in runs], "run" if len(runs) == 1 else "runs", unit, null)


def _scalings(rows: DataFrame) -> list[float]:
    """The scaling of each scale, if all are known."""
    if "scaling" not in rows:
        return []
    known = rows.groupby("scale", observed=True)["scaling"].unique()
    values = [float(abs(value)) for found in known for value in found]
    return [] if np.isnan(values).any() else values


def _null_words(nulls: DataFrame) -> str:
    if nulls.empty:
        return ""
    means = nulls.groupby("scale", observed=True)["null_mean"].mean().reset_index()
    kind, draws = nulls["null"].iloc[0], int(nulls["draws"].iloc[0])
    return f"{by_scale(means, 'null_mean', 'entropy rank')} ({kind}, {draws} draws)"
