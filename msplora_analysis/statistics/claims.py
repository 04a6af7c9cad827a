"""The paper's two claims, and what the runs at hand say of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from msplora_analysis.comparison.baseline import lora_command
from msplora_analysis.comparison.difference import Comparison
from msplora_analysis.measures import Average, measure
from msplora_analysis.statistics.differences import sign_flip_test
from msplora_analysis.statistics.verdicts import Verdict, verdict

if TYPE_CHECKING:
    from pandas import DataFrame

COMPLEXITY = "the global scale is the most complex, the layers' own the least"
DISTANCE = "MSPLoRA's layers are further apart than LoRA's"


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, and what one method's runs say of it.

    Args:
        number: 1 for complexity by scale (Fig. 3), 2 for distance between layers (Fig. 4).
        statement: what the paper says.
        method: whose runs.
        model: on which model.
        stack: of which stack of layers; empty if unknown.
        verdict: the answer, with its effect, n and p, or why it cannot be told and what to train.
        numbers: what it rests on, in words.
        differences: one a run (claim 1, in ranks) or pair of runs (claim 2, in nats), positive where it agrees with
            the claim; empty where it cannot be told.
        tasks: the task of each difference; a run of unknown task is a task of its own.
    """

    number: int
    statement: str
    method: str
    model: str
    stack: str
    verdict: Verdict
    numbers: str = ""
    differences: tuple[float, ...] = ()
    tasks: tuple[str, ...] = ()

    def __str__(self) -> str:
        stack = f", {self.stack}" if self.stack else ""
        answer, _, facts = str(self.verdict).partition(": ")
        numbers = "; ".join(filter(None, (self.numbers, facts)))
        return f"Claim {self.number}, {self.statement}: {answer} for {self.method}{stack} ({numbers})"


def complexity_claims(table: DataFrame, average: Average = "spectra") -> list[Claim]:
    """Test claim 1 for each method with a global and a layer scale: entropy rank falls from global to layer.

    The difference of a run is the smaller of two steps of its entropy rank, from global to the scales between and from
    these to layer: positive where global is the highest and layer the lowest. It is tested at equal ranks only, as in
    Section 5.1 of the paper: a rank of 8 has a higher entropy rank than a rank of 2 by construction.

    Args:
        table: spectra of one epoch per run (see `measures.last_epochs`).
        average: singular values first or measures first (see `measure`).

    Returns:
        A claim for each (model, method, stack).
    """
    claims = []
    own = table[table["scale"] != "total"]
    for names, rows in own.groupby(["model", "method", "stack"], observed=True, sort=False):
        model, method, stack = (str(name) for name in names)
        if {"global", "layer"} <= set(rows["scale"].unique()):
            claims.append(Claim(1, COMPLEXITY, method, model, stack, *_complexity(rows, average)))
    return claims


_Answer = tuple[Verdict, str, tuple[float, ...], tuple[str, ...]]


def _complexity(rows: DataFrame, average: Average) -> _Answer:
    import pandas as pd

    ranks = rows.groupby("scale", observed=True)["rank"].agg(["min", "max"])
    length, highest = int(ranks["min"].min()), int(ranks["max"].max())
    if length < highest:
        numbers = ""
        if length > 1:
            cut = measure(rows[rows["k"] <= length].assign(rank=length), ["scale"], average=average)
            numbers = f"over the common leading {length} singular values {_by_scale(cut, 'm_eff_1')}"
        reason = f"ranks {'/'.join(map(str, ranks['max']))} differ by construction"
        return _cannot_tell(reason, f"train equal ranks, as --ranks {highest},{highest},{highest}", numbers)
    if length == 1:
        return _cannot_tell("spectra of rank 1 have no shape", "train ranks of at least 2, as --ranks 8,8,8")
    mean = measure(rows, ["scale"], average=average)
    if mean["entropy_rank"].isna().any():
        return _cannot_tell("a scale's spectra are zero", "train at least one epoch")
    each = measure(rows, ["run", "task", "scale"], average=average)
    entropy = each.pivot(index=["run", "task"], columns="scale", values="entropy_rank")
    between = entropy.drop(columns=["global", "layer"])
    high = between.max(axis=1).fillna(entropy["layer"])
    low = between.min(axis=1).fillna(entropy["global"])
    steps = pd.concat([entropy["global"] - high, low - entropy["layer"]], axis=1).min(axis=1, skipna=False)
    runs, tasks = zip(*steps.index, strict=True)
    return (
        verdict(replace(sign_flip_test(steps), of="runs"), unit="ranks between scales"),
        f"{_by_scale(mean, 'entropy_rank')}, {_by_scale(mean, 'm_eff_1')}; {_positive(steps)} runs",
        tuple(steps.tolist()),
        _named(runs, tasks),
    )


def distance_claim(comparison: Comparison) -> Claim:
    """Test claim 2: the mean KL between adjacent layers is higher for a method than for its baseline.

    It is tested at equal ranks only: the KL of few singular values and that of many are not comparable.

    Args:
        comparison: of a method with its baseline.

    Returns:
        The claim; `cannot tell` with one layer, at unequal ranks or ranks of 1, or where a divergence is infinite or
        undefined.
    """
    return Claim(2, DISTANCE, comparison.method, comparison.model, comparison.stack, *_distance(comparison))


def _distance(one: Comparison) -> _Answer:
    ours, theirs = one.ranks
    if len(one.layers) < 2:
        return _cannot_tell("one layer has no neighbour")
    adjacent, pairs = one.adjacent, one.pairs
    numbers = (
        f"mean KL of adjacent layers {adjacent['adjacent_kl']:.3g} against {adjacent['adjacent_kl_baseline']:.3g} nats "
        f"of {one.baseline}, difference {adjacent['difference']:+.3g}; {one.rule}"
    )
    if ours != theirs or len(ours) > 1:
        train = "compare methods of one rank"
        if len(ours) == 1 < ours[0]:
            train = f"train a baseline of equal rank: {lora_command(one.model, pairs, rank=ours[0])}"
        elif ours == (1,):
            train = "train a rank of at least 2 on both sides"
        return _cannot_tell(f"ranks {_span(ours)} and {_span(theirs)} of {one.baseline} differ", train, numbers)
    if ours == (1,):
        reason = "spectra of one value have no shape: their KL is 0 by construction"
        return _cannot_tell(reason, "train a rank of at least 2 on both sides")
    differences = pairs["difference"].to_numpy(dtype=np.float64)
    if not np.isfinite(differences).all():
        return _cannot_tell("a divergence is infinite or undefined: zero singular values; see --floor")
    return (
        verdict(sign_flip_test(differences), unit="nats"),
        f"{numbers}; {_positive(differences)} pairs of runs ({differences.min():+.2g} to {differences.max():+.2g})",
        tuple(differences.tolist()),
        _named(pairs["run"], pairs["task"]),
    )


def _cannot_tell(reason: str, next_step: str = "", numbers: str = "") -> _Answer:
    return Verdict("cannot tell", reason=reason, next_step=next_step), numbers, (), ()


def _positive(differences: Iterable[float]) -> str:
    signs = [difference > 0 for difference in differences]
    return f"positive in {sum(signs)} of {len(signs)}"


def _named(runs: Iterable[str], tasks: Iterable[str]) -> tuple[str, ...]:
    return tuple(str(task) or str(run) for run, task in zip(runs, tasks, strict=True))


def _span(ranks: Sequence[int]) -> str:
    return str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"


def _by_scale(measured: DataFrame, column: str) -> str:
    name = {"entropy_rank": "entropy rank", "m_eff_1": "M_eff-1"}[column]
    return f"{name} " + ", ".join(
        f"{scale} {value:.2f}" for scale, value in zip(measured["scale"], measured[column], strict=True)
    )
