"""Compare methods: KL between the layers of one method minus that of a baseline (Fig. 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.comparison.cells import cell_tests
from msplora_analysis.comparison.layers import adjacent_kl, layer_rows, layer_spectra
from msplora_analysis.comparison.pairing import Pair, common_stacks, counterparts
from msplora_analysis.kernels import pairwise_spectral_kl
from msplora_analysis.measures import Average
from msplora_core.errors import ParameterError
from msplora_core.pyramid import LAYER_SCALES

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Lengths = Literal["common", "own"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Pairwise KL between a method's layers, and between the baseline's, and their difference.

    All numbers are means over pairs of runs of a KL for each run.

    Args:
        model: the base model of both.
        method: the method compared.
        baseline: the method it is compared with.
        scale: `layer` for each layer's own component, `total` for the sum of all components that serve a layer.
        stack: the list of layers and the shape of its matrices; empty if unknown.
        modules: the averaged module types; types in other layers have their own comparison.
        rule: how spectra of unequal length were made comparable, in words.
        ranks: the ranks of the method and of the baseline, ascending.
        lengths: numbers of leading singular values used, of the method and of the baseline.
        average: `spectra` if singular values of a run's modules were averaged before the KL, `measures` if their KL.
        layers: (L,) layer indices.
        kl: (L, L) nats, D(row ‖ column) between the method's layers, the mean over the pairs.
        kl_baseline: (L, L) likewise for the baseline.
        pairs: a row for each pair of runs: run, run_baseline, task, seed, epoch, epoch_baseline, adjacent_kl,
            adjacent_kl_baseline, difference, share_positive; from `analyse`, also `CONTROLS` if there are any.
        cells: a row for each ordered pair of layers: row, column, difference, low, high, p, p_corrected, decided
            (see `cell_tests`): about these tasks, corrected over the cells of this matrix.
        pooled_difference: mean over adjacent layers if singular values are averaged over all pairs before the KL, as in
            the paper. Its sign can differ from that of every pair, so verdicts do not use it.
    """

    model: str
    method: str
    baseline: str
    scale: str
    stack: str
    modules: tuple[str, ...]
    rule: str
    ranks: tuple[tuple[int, ...], tuple[int, ...]]
    lengths: tuple[int, int]
    average: Average
    layers: NDArray[np.int64]
    kl: NDArray[np.float64]
    kl_baseline: NDArray[np.float64]
    pairs: DataFrame
    cells: DataFrame
    pooled_difference: float

    @property
    def equal_ranks(self) -> bool:
        """Whether all spectra have one rank; else no verdict rests on their KL."""
        return len({*self.ranks[0], *self.ranks[1]}) == 1

    @property
    def difference(self) -> NDArray[np.float64]:
        """(L, L) nats: the method's KL minus the baseline's; positive where its layers are further apart."""
        with np.errstate(invalid="ignore"):
            return self.kl - self.kl_baseline

    @property
    def adjacent(self) -> dict[str, float]:
        """Means over adjacent layers (see `adjacent_kl`): of both methods, of the difference, its positive share."""
        return {name: float(value[0]) for name, value in _adjacent(self.kl[None], self.kl_baseline[None]).items()}


def compare(
    table: DataFrame,
    baseline: DataFrame,
    *,
    scale: str = "layer",
    lengths: Lengths = "common",
    floor: float | None = None,
    average: Average = "spectra",
    pair: Pair = "task-seed",
) -> list[Comparison]:
    """Compare every method of one table with every method of another, pair of runs by pair of runs.

    Args:
        table: spectra of one epoch per run (see `measures.last_epochs`).
        baseline: likewise for the baseline's runs.
        scale: `layer` or `total`. For a method with layer components only, these are also its total.
        lengths: for spectra of unequal length: `common` uses the leading singular values that all have, and their
            distribution; `own` uses the full length of each method.
        floor: as in `spectral_kl`.
        average: within a run, average the singular values of its modules, then measure (`spectra`), or measure each
            module, then average (`measures`). Over pairs of runs, the KL is averaged in both cases.
        pair: which runs are compared: those on the same model, task and seed (`task-seed`), or in their order
            (`position`). Runs without a counterpart are ignored.

    Returns:
        A comparison for each (model, method, baseline) and each set of module types in the same layers.

    Raises:
        ComparisonError: if there is no counterpart, or layers or modules differ; names both sides.
        ParameterError: for an unknown `scale`, `lengths`, `average` or `pair`.
    """
    for name, value, allowed in (
        ("scale", scale, LAYER_SCALES),
        ("lengths", lengths, ("common", "own")),
        ("average", average, ("spectra", "measures")),
    ):
        if value not in allowed:
            raise ParameterError(name, expected=" or ".join(map(repr, allowed)), found=value)
    ours, theirs = (layer_rows(side, scale) for side in (table, baseline))
    comparisons = []
    matched = counterparts(ours, theirs, pair)
    for names, pairs in matched.groupby(["model", "method", "method_baseline"], sort=False):
        model, method, other = (str(name) for name in names)
        mine = ours[ours["run"].isin(pairs["run"])]
        its = theirs[theirs["run"].isin(pairs["run_baseline"])]
        for stack, modules, *sides in common_stacks(mine, its, f"{method} on {model}", f"{other} on {model}"):
            ranks = _ranks(sides[0]), _ranks(sides[1])
            least = ranks[0][0], ranks[1][0]
            cut = least if lengths == "own" else (min(least), min(least))
            kl, pooled = _kl_of_runs(sides[0], modules, cut[0], pairs["run"], average, floor)
            kl_baseline, pooled_baseline = _kl_of_runs(sides[1], modules, cut[1], pairs["run_baseline"], average, floor)
            epochs = {"epoch": _epochs(mine, pairs["run"]), "epoch_baseline": _epochs(its, pairs["run_baseline"])}
            each = pairs[["run", "run_baseline", "task", "seed"]].assign(**epochs, **_adjacent(kl, kl_baseline))
            layers = np.unique(sides[0]["unit"].to_numpy()).astype(np.int64)
            with np.errstate(invalid="ignore"):
                differences = kl - kl_baseline
            comparisons.append(
                Comparison(
                    model=model,
                    method=method,
                    baseline=other,
                    scale=scale,
                    stack=stack,
                    modules=modules,
                    rule=_rule(cut, ranks),
                    ranks=ranks,
                    lengths=cut,
                    average=average,
                    layers=layers,
                    kl=kl.mean(axis=0),
                    kl_baseline=kl_baseline.mean(axis=0),
                    pairs=each.reset_index(drop=True),
                    cells=cell_tests(differences, layers),
                    pooled_difference=float(_adjacent(pooled[None], pooled_baseline[None])["difference"][0]),
                )
            )
    return comparisons


def _kl_of_runs(
    rows: DataFrame, modules: tuple[str, ...], length: int, runs: Series[str], average: Average, floor: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """KL between the layers of each run, (n, L, L), and of the averaged singular values, (L, L)."""
    names, spectra = layer_spectra(rows, modules, length)
    spectra = spectra[[names.index(run) for run in runs]]
    pooled = pairwise_spectral_kl(spectra.mean(axis=(0, 1)), floor)
    if average == "spectra":
        return pairwise_spectral_kl(spectra.mean(axis=1), floor), pooled
    return pairwise_spectral_kl(spectra, floor).mean(axis=1), pooled


def _adjacent(kl: NDArray[np.float64], kl_baseline: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Means over adjacent layers of (n, L, L); NaN if a difference is undefined, or there is only one layer."""
    ours, theirs = adjacent_kl(kl), adjacent_kl(kl_baseline)
    if not ours.shape[-1]:
        return dict.fromkeys(_ADJACENT, np.full(len(ours), np.nan))
    with np.errstate(invalid="ignore"):
        difference = ours - theirs
    positive = np.where(np.isnan(difference), np.nan, difference > 0).mean(axis=-1)
    means = ours.mean(axis=-1), theirs.mean(axis=-1), difference.mean(axis=-1), positive
    return dict(zip(_ADJACENT, means, strict=True))


_ADJACENT = ("adjacent_kl", "adjacent_kl_baseline", "difference", "share_positive")


def _epochs(rows: DataFrame, runs: Series[str]) -> Any:
    """The epoch of each run."""
    return runs.map(rows.groupby("run", observed=True)["epoch"].max().to_dict()).to_numpy()


def _ranks(rows: DataFrame) -> tuple[int, ...]:
    return tuple(sorted(int(rank) for rank in rows["rank"].unique()))


def _rule(cut: tuple[int, int], ranks: tuple[tuple[int, ...], tuple[int, ...]]) -> str:
    if len({*ranks[0], *ranks[1]}) == 1:
        return f"all {cut[0]} singular values"
    if cut[0] == cut[1]:
        return f"common leading {cut[0]} singular values"
    return f"own lengths: {cut[0]} against {cut[1]} singular values"
