"""The results of `svd` on a run or a study, as data."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from msplora_analysis.checked_runs import checked_runs
from msplora_analysis.choices import by_choice
from msplora_analysis.comparison.baseline import Options, compare_with, compare_with_lora, is_plain
from msplora_analysis.comparison.conditions import unequal_settings
from msplora_analysis.comparison.controls import beside_controls
from msplora_analysis.comparison.difference import Comparison, Lengths
from msplora_analysis.comparison.layers import LayerDivergence, layer_divergences
from msplora_analysis.comparison.pairing import Pair
from msplora_analysis.comparison.spread import replicate_spread
from msplora_analysis.courses import COURSE, courses
from msplora_analysis.interference_courses import interference_courses
from msplora_analysis.loading.cosines import load_interference
from msplora_analysis.loading.names import named_as_in
from msplora_analysis.loading.run_states import load_runs, run_notes
from msplora_analysis.loading.scores import load_scores
from msplora_analysis.loading.settings import load_settings
from msplora_analysis.loading.table import load_spectra
from msplora_analysis.measures import Average, average_spectra, last_epochs, measure, measure_averages
from msplora_analysis.remarks import broken_notes, doubts, epoch_notes, null_notes, pooling_notes, time_notes
from msplora_analysis.run_means import measure_means
from msplora_analysis.statistics.claims import Claim, settle
from msplora_analysis.statistics.complexity import complexity_drafts
from msplora_analysis.statistics.distance import distance_drafts, layer_drafts
from msplora_analysis.statistics.null_measures import DrawnSpectra
from msplora_analysis.untrained import without_untrained
from msplora_core.errors import ParameterError
from msplora_core.methods import is_trained
from msplora_core.pyramid import LAYER_SCALES
from msplora_core.wording import counted

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class Analysis:
    """The result of `analyse`.

    Args:
        path: the run or study.
        table: its spectra table (see `load_spectra`); `method` distinguishes runs that are not replicates.
        compared: its rows at the compared epoch.
        spectra: averaged spectra by model, method, stack, time and scale (see `average_spectra`): Fig. 3. `clock` is
            the unit of `time`: epochs, steps, or the share of training (see `courses`).
        trajectory: the measures of these (see `measure`).
        final: measures by model, method, stack and scale, each run at the compared epoch.
        by_run: the same for each run.
        layers: KL between the layers of each method, at full length, for both `layer` and `total`.
        comparisons: with the baseline, for both `layer` and `total`: Fig. 4.
        spread: KL between the spectra of one layer in two seeds, by model, method, stack, scale and task, as reference
            for a KL between layers (see `replicate_spread`).
        nulls: null models for each number of `final`: model, method, stack, scale, rank, measure, value, null_mean,
            null_low, null_high, place, draws, null, null_seed (see `null_measures`); empty without draws.
        run_nulls: the same for each number of `by_run`.
        scores: evaluation metrics by run and epoch (see `load_scores`).
        runs: whether each run was finished and learned anything (see `load_runs`).
        interference: cosines between scales and between layers by run and epoch, if recorded (see
            `interference_courses`).
        findings: of the checks of runs, one row each, the most severe first (see `checked_runs`).
        claims: the paper's two claims and their premises, for every method that they concern, with verdicts.
        notes: remarks on the numbers, one sentence each.
        skipped: messages on what could not be read, of the runs and the baseline.
        failed: runs of which nothing could be read.
        average: the order of averaging of all measures and divergences.
        floor: the least singular value in divergences (see `spectral_kl`).
        scale: the scale of the comparison in figures.
    """

    path: Path
    table: DataFrame
    compared: DataFrame
    spectra: DataFrame
    trajectory: DataFrame
    final: DataFrame
    by_run: DataFrame
    layers: list[LayerDivergence]
    comparisons: list[Comparison]
    spread: DataFrame
    nulls: DataFrame
    run_nulls: DataFrame
    scores: DataFrame
    runs: DataFrame
    interference: DataFrame
    findings: DataFrame
    claims: list[Claim]
    notes: list[str]
    skipped: list[str]
    failed: list[str]
    average: Average
    floor: float | None
    scale: str

    @cached_property
    def doubts(self) -> dict[tuple[str, str], str]:
        """By model and method, the number of runs that were not finished or learned nothing (see `remarks.doubts`)."""
        return doubts(self.table, self.runs)

    @cached_property
    def measure_means(self) -> DataFrame:
        """The measures of runs, averaged over them, with intervals and nulls (see `run_means.measure_means`)."""
        return measure_means(self.by_run, self.run_nulls)

    @cached_property
    def courses(self) -> DataFrame:
        """The measures of each run over training: of all module types, where `module` is empty, and of each."""
        by = ["model", "method", "task", "seed", "run", "stack", "clock", "time", "scale"]
        return by_choice(partial(measure, average=self.average), courses(self.table, self.runs), by, choices=["module"])

    def __repr__(self) -> str:
        parts = [
            counted(self.table["method"].nunique(), "method"),
            counted(self.table["run"].nunique(), "run"),
            counted(len(self.comparisons), "comparison"),
            counted(len(self.claims), "claim"),
            counted(len(self.notes), "note"),
        ]
        return f"Analysis({', '.join(parts)}; {self.path})"

    def _repr_html_(self) -> str:
        """Return the final measures, the claims and the notes, for notebooks."""
        from html import escape

        lines = "".join(f"<li>{escape(line)}</li>" for line in [*map(str, self.claims), *self.notes])
        table = self.final.to_html(index=False, float_format="{:.3g}".format, na_rep="–", border=0)
        return f"<p>{escape(repr(self))}</p>{table}<ul>{lines}</ul>"


def analyse(
    path: str | os.PathLike[str],
    *,
    baseline: str | os.PathLike[str] | None = None,
    pair: Pair = "task-seed",
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
    draws: int | None = None,
    null_seed: int = 0,
    n_jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Analysis:
    """Measure a run or a study, and compare its methods with the baseline.

    Args:
        path: a run, an adapter, or a folder of such (see `load_spectra`).
        baseline: the same, to compare with; by default the LoRA runs in `path`.
        pair: which runs are compared: `task-seed` pairs runs on the same model, task and seed, `position` the first
            run of `path` with the first of `baseline`, and so on.
        scale: the scale of the comparison in figures: `layer` (each layer's own component) or `total` (the sum of all
            components that serve a layer).
        lengths: how spectra of unequal length are compared (see `compare`).
        floor: the least singular value in divergences (see `spectral_kl`).
        epoch: the epoch to compare and tabulate; by default each run's last.
        average: average singular values first (`spectra`) or measures first (see `measure` and `compare`).
        alpha, base, module, model, task, seed: how adapters are read, also those of the baseline (see `load_spectra`).
        draws: number of draws of the null models; by default 200, or fewer for large adapters (see `null_measures`).
        null_seed: of these draws.
        n_jobs: number of processes that read (see `load_spectra`).
        progress: called after each run read, with the number of runs read and of all runs.

    Returns:
        An `Analysis`.

    Raises:
        RunDirectoryError: if nothing can be read at `path` or `baseline`.
        ComparisonError: if a given baseline has no counterpart, or other layers or modules.
        ParameterError: for a parameter with a wrong value.
    """
    if scale not in LAYER_SCALES:
        raise ParameterError("scale", expected="'layer' or 'total'", found=scale)
    if draws is not None and draws < 0:
        raise ParameterError("draws", expected="at least 0", found=draws)
    if pair != "task-seed" and baseline is None:
        raise ParameterError("pair", expected="'task-seed' unless a baseline is given (--baseline)", found=pair)
    options = Options(lengths=lengths, floor=floor, average=average, pair=pair)
    load = partial(
        load_spectra, alpha=alpha, base=base, module=module, model=model, task=task, seed=seed, n_jobs=n_jobs
    )
    loaded = load(path, factors=draws != 0, progress=progress)
    table = _without_messages(loaded)
    tables = [loaded]
    checked = _at(table, epoch)
    table, untrained = without_untrained(table)
    final = _at(table, epoch)
    settings = load_settings(path)
    if baseline is None:
        comparisons, found = compare_with_lora(final, options, settings)
    else:
        tables.append(load(baseline))
        other, found = without_untrained(_without_messages(tables[1]))
        found += epoch_notes(other, epoch)
        comparisons = compare_with(final, _at(other, epoch), path, baseline, options)
    sharing = {run for one in tables for run in one[one["scale"].isin(["global", "mid"])]["run"].unique()}
    # Without shared scales, the total is the layer's own component: one of the two comparisons is enough.
    comparisons = beside_controls(
        [one for one in comparisons if one.scale == scale or sharing & {*one.pairs["run"], *one.pairs["run_baseline"]}]
    )
    left_out = set(loaded["run"].unique()) - set(table["run"].unique())
    found += unequal_settings(comparisons, settings, settings if baseline is None else load_settings(baseline))
    scores = load_scores(path)
    runs = load_runs(path, scores)
    scores = named_as_in(table, scores, left_out)
    findings = checked_runs(checked, scores, loaded.attrs["findings"])
    timed = courses(table, runs)
    spectra = average_spectra(timed, COURSE)
    by = ["model", "method", "stack", "scale"]
    measured = measure(final, by, average=average)
    drawn = DrawnSpectra.of(final if draws != 0 else final.iloc[:0], draws or None, null_seed)
    nulls = drawn.beside(measured, by, average)
    of_run = ["model", "method", "task", "seed", "run", "epoch", "stack", "scale"]
    by_run = measure(final, of_run, average=average)
    run_nulls = drawn.beside(by_run, of_run, average)
    layers = [one for of in LAYER_SCALES for one in layer_divergences(final, scale=of, floor=floor, average=average)]
    spread = replicate_spread(final, floor=floor, average=average)
    pyramids = final[final["run"].isin(sharing) & final["method"].astype(str).map(is_trained)]
    claimed = [
        one for one in comparisons if is_plain(one.baseline) and sharing.issuperset(one.pairs["run"])
        and is_trained(one.method)
    ]  # fmt: skip
    claims = settle(
        [
            *complexity_drafts(pyramids, _entropy_nulls(run_nulls, pyramids), average),
            *distance_drafts(claimed, spread, settings),
            *layer_drafts(layers),
        ]
    )
    return Analysis(
        path=Path(path),
        table=table,
        compared=final,
        spectra=spectra,
        trajectory=(
            measure_averages(spectra, COURSE) if average == "spectra" else measure(timed, COURSE, average=average)
        ),
        final=measured,
        by_run=by_run,
        layers=layers,
        comparisons=comparisons,
        spread=spread,
        nulls=nulls,
        run_nulls=run_nulls,
        scores=scores,
        runs=runs,
        interference=interference_courses(named_as_in(table, load_interference(path), left_out)),
        findings=findings,
        claims=claims,
        notes=list(dict.fromkeys([*(note for one in tables for note in one.attrs["notes"]), *run_notes(runs),
                                  *untrained, *broken_notes(findings),
                                  *found, *epoch_notes(table, epoch), *time_notes(timed, epoch),
                                  *pooling_notes(comparisons),
                                  *(null_notes(final, measured, nulls) if draws != 0 else [])])),
        skipped=[message for one in [*tables, scores] for message in one.attrs["skipped"]],
        failed=[run for one in tables for run in one.attrs["failed"]],
        average=average,
        floor=floor,
        scale=scale,
    )  # fmt: skip


def _without_messages(table: DataFrame) -> DataFrame:
    """The same rows without `attrs`, of which pandas would make a deep copy at every step."""
    rows = table.copy(deep=False)
    rows.attrs = {}
    return rows


def _entropy_nulls(run_nulls: DataFrame, pyramids: DataFrame) -> DataFrame:
    """The null of the entropy rank of each run and scale of some methods."""
    rows = run_nulls[(run_nulls["measure"] == "entropy_rank") & (run_nulls["scale"] != "total")]
    return rows[rows["run"].isin(pyramids["run"].unique())]


def _at(table: DataFrame, epoch: int | None) -> DataFrame:
    if epoch is None:
        return last_epochs(table)
    rows = table[table["epoch"] == epoch]
    if rows.empty:
        epochs = table["epoch"]
        expected = f"a recorded epoch, of {epochs.min():g} to {epochs.max():g}"
        raise ParameterError("epoch", expected=expected, found=epoch)
    return rows
