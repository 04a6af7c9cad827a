"""The paper's two claims, and whether the runs at hand bear them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from msplora_analysis.comparison.difference import Comparison
from msplora_analysis.measures import measure

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Verdict = Literal["borne out", "not borne out", "mixed", "cannot tell"]
COMPLEXITY = "the global scale is the most complex, the layers' own the least"
DISTANCE = "MSPLoRA's layers are further apart than LoRA's"


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, held against one method's runs.

    Args:
        number: 1 for complexity by scale (Fig. 3), 2 for distance between layers (Fig. 4).
        statement: what the paper says.
        method: whose runs.
        model: on which model.
        verdict: `mixed` where the average and single runs, or the measures, disagree; `cannot tell` where
            the runs do not put it to the test.
        numbers: what the verdict rests on, in words.
    """

    number: int
    statement: str
    method: str
    model: str
    verdict: Verdict
    numbers: str

    def __str__(self) -> str:
        return f"Claim {self.number}, {self.statement}: {self.verdict} for {self.method} ({self.numbers})"


def complexity_claims(table: DataFrame) -> list[Claim]:
    """Claim 1 for each method with a global and a layer scale: entropy rank falls, M_eff-1 rises, from global to layer.

    Put to the test at equal ranks only, as in Section 5.1 of the paper: a rank of 8 has a higher entropy
    rank than a rank of 2 by construction.

    Args:
        table: spectra of one epoch per run (see `measures.last_epochs`).

    Returns:
        A claim for each (model, method).
    """
    claims = []
    own = table[table["scale"] != "total"]
    for names, rows in own.groupby(["model", "method"], observed=True, sort=False):
        model, method = (str(name) for name in names)
        if {"global", "layer"} <= set(rows["scale"].unique()):
            claims.append(Claim(1, COMPLEXITY, method, model, *_complexity(rows)))
    return claims


def _complexity(rows: DataFrame) -> tuple[Verdict, str]:
    ranks = rows.groupby("scale", observed=True)["rank"].agg(["min", "max"])
    length = int(ranks["min"].min())
    if length == ranks["max"].max():
        return _complexity_at_equal_ranks(rows, length)
    shown = "/".join(str(rank) for rank in ranks["max"])
    equal = ",".join([str(ranks["max"].max())] * 3)
    reason = f"ranks {shown} differ by construction; train equal ranks, as --ranks {equal}, to test it"
    if length > 1:
        cut = rows[rows["k"] <= length].assign(rank=length)
        reason += f"; over the common leading {length} singular values {_by_scale(measure(cut, ['scale']), 'm_eff_1')}"
    return "cannot tell", reason


def _complexity_at_equal_ranks(rows: DataFrame, rank: int) -> tuple[Verdict, str]:
    mean = measure(rows, ["scale"]).set_index("scale")
    shown = f"{_by_scale(mean.reset_index(), 'entropy_rank')}, {_by_scale(mean.reset_index(), 'm_eff_1')}"
    columns = ["entropy_rank", *(column for column in mean.columns if column.startswith("m_eff"))]
    informative = mean[columns].dropna(axis="columns")
    if "entropy_rank" not in informative:
        return "cannot tell", "a scale's spectra are zero: nothing was trained"
    if rank == 1:
        return "cannot tell", "spectra of rank 1 have no shape"
    holds = [_ordered(informative[column], rising=column != "entropy_rank") for column in informative]
    each = measure(rows, ["task", "seed", "scale"])
    runs = [
        _ordered(part.set_index("scale")["entropy_rank"], rising=False)
        for _, part in each.groupby(["task", "seed"], observed=True, dropna=False)
    ]
    if len(runs) > 1:
        shown += f"; in {sum(runs)} of {len(runs)} runs"
    if all(holds):
        return ("borne out" if all(runs) else "mixed"), shown
    return ("mixed" if any(holds) or any(runs) else "not borne out"), shown


def _ordered(values: Series[float], *, rising: bool) -> bool:
    """Whether global and layer stand at the two ends, in this direction."""
    ends = (values.loc["global"], values.loc["layer"])
    low, high = ends if rising else ends[::-1]
    return bool(low < high and low == values.min() and high == values.max())


def _by_scale(measured: DataFrame, column: str) -> str:
    name = {"entropy_rank": "entropy rank", "m_eff_1": "M_eff-1"}[column]
    return f"{name} " + ", ".join(
        f"{scale} {value:.2f}" for scale, value in zip(measured["scale"], measured[column], strict=True)
    )


def distance_claim(comparison: Comparison) -> Claim:
    """Claim 2: the mean KL between adjacent layers, of a method and its baseline.

    Borne out if the method's is higher on average and for every pair of runs.

    Args:
        comparison: of a method with its baseline.

    Returns:
        The claim; `cannot tell` with one layer, or where a divergence is infinite or undefined.
    """
    adjacent, pairs = comparison.adjacent, comparison.pairs["difference"].to_numpy()
    difference = adjacent["difference"]
    shown = (
        f"mean KL of adjacent layers {adjacent['adjacent_kl']:.3g} against {adjacent['adjacent_kl_baseline']:.3g} nats "
        f"of {comparison.baseline}, difference {difference:+.3g}, positive for {adjacent['share_positive']:.0%} of "
        f"adjacent pairs; {comparison.rule}"
    )
    verdict: Verdict
    if len(comparison.layers) < 2:
        verdict, shown = "cannot tell", "one layer has no neighbour"
    elif not np.isfinite([difference, *pairs]).all():
        verdict, shown = "cannot tell", "a divergence is infinite or undefined: zero singular values; see --floor"
    else:
        positive = int((pairs > 0).sum())
        if len(pairs) > 1:
            shown += (
                f"; positive in {positive} of {len(pairs)} pairs of runs ({pairs.min():+.2g} to {pairs.max():+.2g})"
            )
        else:
            shown += "; one pair of runs, so no spread is known"
        if difference > 0:
            verdict = "borne out" if positive == len(pairs) else "mixed"
        else:
            verdict = "mixed" if positive else "not borne out"
    return Claim(2, DISTANCE, comparison.method, comparison.model, verdict, shown)
