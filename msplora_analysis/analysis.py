"""Everything that `svd` finds out about a run or a study, as data."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msplora_analysis.comparison.difference import Comparison, Lengths, compare
from msplora_analysis.comparison.layers import LayerDivergence, layer_divergences
from msplora_analysis.loading.scores import load_scores
from msplora_analysis.loading.table import load_spectra
from msplora_analysis.measures import Average, average_spectra, common_epochs, last_epochs, measure
from msplora_analysis.statistics.claims import Claim, complexity_claims, distance_claim
from msplora_core.errors import ComparisonError, ParameterError
from msplora_core.methods import is_lora

if TYPE_CHECKING:
    from pandas import DataFrame, Series


_SCALES = ("layer", "total")


@dataclass(frozen=True, eq=False)
class Analysis:
    """What `analyse` found.

    Args:
        path: the run or study.
        table: the spectra table of it (see `load_spectra`).
        spectra: averaged spectra by model, method, epoch and scale (see `average_spectra`): Fig. 3. Where
            runs of a method are not equally long, only the epochs that all of them have.
        trajectory: the measures of these, by epoch (see `measure`).
        final: measures by model, method and scale, each run at the epoch compared.
        layers: KL between the layers of each method, at their own length, for both `layer` and `total`.
        comparisons: with the baseline, for both `layer` and `total`: Fig. 4.
        scores: evaluation metrics by run and epoch (see `load_scores`).
        claims: the paper's two, for every method that they can be asked of.
        notes: what a reader of the numbers must know, a sentence each.
        skipped: what could not be read, of the runs and the baseline, a message each.
        failed: the runs of which nothing could be read.
        average: the order of averaging behind `trajectory` and `final`.
        scale: which of them the second claim is read from, and pictures show.
    """

    path: Path
    table: DataFrame
    spectra: DataFrame
    trajectory: DataFrame
    final: DataFrame
    layers: list[LayerDivergence]
    comparisons: list[Comparison]
    scores: DataFrame
    claims: list[Claim]
    notes: list[str]
    skipped: list[str]
    failed: list[str]
    average: Average
    scale: str


def analyse(
    path: str | os.PathLike[str],
    *,
    baseline: str | os.PathLike[str] | None = None,
    scale: str = "layer",
    lengths: Lengths = "common",
    floor: float | None = None,
    epoch: int | None = None,
    average: Average = "spectra",
    alpha: float | None = None,
    base: str | os.PathLike[str] | None = None,
    module: str | Collection[str] = (),
    model: str | None = None,
    task: str | None = None,
    seed: int | None = None,
    n_jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Analysis:
    """Measure a run or a study, and hold its methods against the baseline.

    Args:
        path: a run, an adapter, or a folder of such (see `load_spectra`).
        baseline: the same, to compare with; the LoRA runs in `path` where not given.
        scale: from which comparison the second claim is read, and which the pictures show: `layer` (each
            layer's own component) or `total` (all that acts on a layer).
        lengths: how spectra of unequal length are compared (see `compare`).
        floor: raises small singular values before a divergence is taken (see `spectral_kl`).
        epoch: which epoch to compare and to tabulate; each run's last where not given.
        average: singular values first (`spectra`) or measures first (see `measure`).
        alpha, base, module, model, task, seed: how adapters are read, also those of the baseline (see `load_spectra`).
        n_jobs: how many processes read (see `load_spectra`).
        progress: called after each run read, with the number read and of all.

    Returns:
        An `Analysis`.

    Raises:
        RunDirectoryError: if nothing can be read at `path` or `baseline`.
        ComparisonError: if a given baseline has no counterpart, or other layers or modules.
        ParameterError: for a value that a parameter cannot have.
    """
    if scale not in _SCALES:
        raise ParameterError("scale", expected="'layer' or 'total'", found=scale)
    load = partial(
        load_spectra, alpha=alpha, base=base, module=module, model=model, task=task, seed=seed, n_jobs=n_jobs
    )
    table = load(path, progress=progress)
    final = _at(table, epoch)
    tables = [table] if baseline is None else [table, load(baseline)]
    if baseline is None:
        comparisons, notes = _with_lora(final, lengths, floor)
    else:
        comparisons, notes = _with_baseline(final, _at(tables[-1], epoch), lengths, floor), []
    trajectory = common_epochs(table)
    claims = complexity_claims(final)
    shared = _methods_with_shared_scales(final)
    claims += [distance_claim(one) for one in comparisons if one.scale == scale and one.method in shared]
    return Analysis(
        path=Path(path),
        table=table,
        spectra=average_spectra(trajectory),
        trajectory=measure(trajectory, average=average),
        final=measure(final, ["model", "method", "scale"], average=average),
        layers=[one for each in _SCALES for one in layer_divergences(final, scale=each, floor=floor)],
        comparisons=comparisons,
        scores=load_scores(path),
        claims=claims,
        notes=_notes(tables) + notes + _epoch_notes(final),
        skipped=[message for each in tables for message in each.attrs["skipped"]],
        failed=[run for each in tables for run in each.attrs["failed"]],
        average=average,
        scale=scale,
    )


def _at(table: DataFrame, epoch: int | None) -> DataFrame:
    if epoch is None:
        return last_epochs(table)
    rows = table[table["epoch"] == epoch]
    if rows.empty:
        epochs = table["epoch"]
        raise ParameterError("epoch", expected=f"one recorded, of {epochs.min():g} to {epochs.max():g}", found=epoch)
    return rows


def _with_baseline(final: DataFrame, baseline: DataFrame, lengths: Lengths, floor: float | None) -> list[Comparison]:
    """Every method but the baseline's own, if there are others."""
    others = final[~final["method"].isin(baseline["method"].unique())]
    ours = final if others.empty else others
    both = [compare(ours, baseline, scale=scale, lengths=lengths, floor=floor) for scale in _SCALES]
    return [comparison for found in both for comparison in found]


def _with_lora(final: DataFrame, lengths: Lengths, floor: float | None) -> tuple[list[Comparison], list[str]]:
    """Every other method with the LoRA runs beside it; what cannot be compared becomes a note."""
    plain = final["method"].map(is_lora).astype(bool)
    theirs, ours = final[plain], final[~plain]
    if ours.empty:
        return [], ["only LoRA runs here: Fig. 4 compares another method with them"]
    if theirs.empty:
        return [], [_how_to_get_a_baseline(ours)]
    comparisons, notes = [], []
    for method in ours["method"].unique():
        for scale in _SCALES:
            try:
                rows = ours[ours["method"] == method]
                comparisons += compare(rows, theirs, scale=scale, lengths=lengths, floor=floor)
            except ComparisonError as error:
                notes.append(str(error))
    return comparisons, list(dict.fromkeys(notes))


def _methods_with_shared_scales(table: DataFrame) -> set[str]:
    return set(table[table["scale"].isin(["global", "mid"])]["method"].unique())


def _how_to_get_a_baseline(ours: DataFrame) -> str:
    tasks = _words(ours["task"])
    seeds = _words(ours["seed"].dropna())
    model = str(ours["model"].iloc[0])
    options = " ".join([f"--task {task}" for task in tasks] + [f"--seed {seed}" for seed in seeds])
    return (
        f"Fig. 4 needs LoRA runs on the same model, task and seed: msplora-analyze train --method lora --model {model} "
        f"{options} --out RUNS, then svd again with --baseline RUNS"
    )


def _words(column: Series[Any]) -> list[str]:
    return [str(value) for value in column.unique() if str(value)]


def _notes(tables: list[DataFrame]) -> list[str]:
    return list(dict.fromkeys(note for table in tables for note in table.attrs["notes"]))


def _epoch_notes(final: DataFrame) -> list[str]:
    notes = []
    for names, rows in final.groupby(["model", "method"], observed=True, sort=False):
        epochs = rows["epoch"].unique()
        if len(epochs) > 1:
            notes.append(
                f"{names[1]} on {names[0]}: runs end between epoch {epochs.min():g} and {epochs.max():g}; each is "
                "taken at its last, and figures over epochs show those that all have"
            )
    return notes
