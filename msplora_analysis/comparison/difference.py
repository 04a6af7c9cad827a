"""One method against another: how far apart its layers' spectra are, beside those of a baseline (Fig. 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.comparison.layers import adjacent_kl, layer_rows, mean_by_layer
from msplora_analysis.comparison.pairing import common_stacks, counterparts
from msplora_analysis.kernels import pairwise_spectral_kl
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from pandas import DataFrame

Lengths = Literal["common", "own"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Pairwise KL between a method's layers, and between the baseline's, and their difference.

    Args:
        model: the base model of both.
        method: whose layers.
        baseline: the method they are held against.
        scale: which spectra: `layer` for each layer's own component, `total` for all that acts on a layer.
        modules: the module types averaged over; types that stand in other layers make another comparison.
        rule: how spectra of unequal length were made comparable, in words.
        lengths: how many leading singular values were taken, of the method and of the baseline.
        layers: (L,) layer indexes.
        kl: (L, L) nats, D(row ‖ column) between the method's layers.
        kl_baseline: (L, L) the same of the baseline.
        pairs: a row for each pair of runs on the same task and seed: task, seed, epoch, epoch_baseline,
            adjacent_kl, adjacent_kl_baseline, difference, share_positive.
    """

    model: str
    method: str
    baseline: str
    scale: str
    modules: tuple[str, ...]
    rule: str
    lengths: tuple[int, int]
    layers: NDArray[np.int64]
    kl: NDArray[np.float64]
    kl_baseline: NDArray[np.float64]
    pairs: DataFrame

    @property
    def difference(self) -> NDArray[np.float64]:
        """(L, L) nats: the method's KL minus the baseline's; positive where its layers are further apart."""
        with np.errstate(invalid="ignore"):
            return self.kl - self.kl_baseline

    @property
    def adjacent(self) -> dict[str, float]:
        """Means over adjacent layers (see `adjacent_kl`): of both methods, of the difference, its positive share."""
        return _adjacent(self.kl, self.kl_baseline)


def compare(
    table: DataFrame,
    baseline: DataFrame,
    *,
    scale: str = "layer",
    lengths: Lengths = "common",
    floor: float | None = None,
) -> list[Comparison]:
    """Hold every method of one table against every method of another, on the same model, task and seed.

    As in the paper, singular values are averaged over modules and over tasks and seeds first, then
    measured. Only runs with a counterpart count.

    Args:
        table: spectra of one epoch per run (see `measures.last_epochs`).
        baseline: the same of the baseline's runs.
        scale: `layer` or `total`. A method with layer components only has these as its total, too.
        lengths: for spectra of unequal length: `common` takes the leading singular values that all have, and
            measures their distribution; `own` leaves each method its own length.
        floor: as in `spectral_kl`.

    Returns:
        A comparison for each (model, method, baseline) and each set of module types that stand in the same layers.

    Raises:
        ComparisonError: if there is no counterpart at all, or layers or modules differ; both sides are named.
        ParameterError: for an unknown `scale` or `lengths`.
    """
    if scale not in ("layer", "total"):
        raise ParameterError("scale", expected="'layer' or 'total'", found=scale)
    if lengths not in ("common", "own"):
        raise ParameterError("lengths", expected="'common' or 'own'", found=lengths)
    ours, theirs = layer_rows(table, scale), layer_rows(baseline, scale)
    comparisons = []
    matched = counterparts(ours, theirs)
    for names, pairs in matched.groupby(["model", "method", "method_baseline"], sort=False):
        model, method, other = (str(name) for name in names)
        mine = ours[ours["run"].isin(pairs["run"])]
        its = theirs[theirs["run"].isin(pairs["run_baseline"])]
        for modules, part, its_part in common_stacks(mine, its, f"{method} on {model}", f"{other} on {model}"):
            comparisons.append(_comparison(model, method, other, scale, modules, part, its_part, pairs, lengths, floor))
    return comparisons


def _comparison(
    model: str,
    method: str,
    baseline: str,
    scale: str,
    modules: tuple[str, ...],
    ours: DataFrame,
    theirs: DataFrame,
    pairs: DataFrame,
    lengths: Lengths,
    floor: float | None,
) -> Comparison:
    import pandas as pd

    own = int(ours["rank"].min()), int(theirs["rank"].min())
    cut = own if lengths == "own" else (min(own), min(own))
    ours, theirs = ours[ours["k"] <= cut[0]], theirs[theirs["k"] <= cut[1]]

    def kl(rows: DataFrame) -> NDArray[np.float64]:
        return pairwise_spectral_kl(mean_by_layer(rows), floor)

    each = []
    for (task, seed), runs in pairs.groupby(["task", "seed"], sort=False, dropna=False):
        mine, its = ours[ours["run"].isin(runs["run"])], theirs[theirs["run"].isin(runs["run_baseline"])]
        epochs = {"epoch": float(mine["epoch"].max()), "epoch_baseline": float(its["epoch"].max())}
        each.append({"task": task, "seed": seed, **epochs, **_adjacent(kl(mine), kl(its))})
    return Comparison(
        model=model,
        method=method,
        baseline=baseline,
        scale=scale,
        modules=modules,
        rule=_rule(cut, ours, theirs),
        lengths=cut,
        layers=np.unique(ours["unit"].to_numpy()).astype(np.int64),
        kl=kl(ours),
        kl_baseline=kl(theirs),
        pairs=pd.DataFrame(each).astype({"seed": "Int64"}),
    )


def _adjacent(kl: NDArray[np.float64], kl_baseline: NDArray[np.float64]) -> dict[str, float]:
    ours, theirs = adjacent_kl(kl), adjacent_kl(kl_baseline)
    with np.errstate(invalid="ignore"):
        difference = ours - theirs
    known = bool(difference.size) and not np.isnan(difference).any()
    return {
        "adjacent_kl": float(ours.mean()) if ours.size else np.nan,
        "adjacent_kl_baseline": float(theirs.mean()) if theirs.size else np.nan,
        "difference": float(difference.mean()) if known else np.nan,
        "share_positive": float((difference > 0).mean()) if known else np.nan,
    }


def _rule(cut: tuple[int, int], ours: DataFrame, theirs: DataFrame) -> str:
    ranks = sorted({int(rank) for rows in (ours, theirs) for rank in rows["rank"].unique()})
    if len(ranks) == 1:
        return f"all {ranks[0]} singular values"
    if cut[0] == cut[1]:
        return f"common leading {cut[0]} singular values"
    return f"own lengths: {cut[0]} against {cut[1]} singular values"
