"""The results of `overlap` on an adapter, a run or a study, as data."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msplora_analysis.directions.adapter_pairs import AdapterComparison, compare_adapters
from msplora_analysis.directions.direction_tables import course_sharing, final_sharing, final_subspaces
from msplora_analysis.directions.layer_directions import Groups
from msplora_analysis.directions.redundancy import Redundancy, excess_by_method, redundancy
from msplora_analysis.directions.run_directions import RunDirections, run_directions
from msplora_analysis.loading.adapter_updates import AdapterUpdates, load_all_updates
from msplora_analysis.loading.names import name_runs
from msplora_analysis.loading.settings import load_settings
from msplora_analysis.loading.sources import find_sources
from msplora_core.components import ComponentKey
from msplora_core.errors import MSPLoraError, RunDirectoryError, UnsupportedAdapterError
from msplora_core.wording import listed

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class Overlap:
    """The result of `overlap`.

    Args:
        path: the adapter, run or study.
        runs: each run with the matrices behind the tables: cosines, similarities of subspaces.
        sharing: a row a run, module type and scale (`layer`, each layer's own component; `total`, the whole update of
            a layer), at the end of the run: shares of the energy Σ‖ΔW_l‖² that sum to 1 (shared_by_all,
            shared_by_groups, own), with mean and standard deviation for layers that share nothing (null_*,
            deviation_*); excess, the sum of the first two minus its null; the largest cosine between two layers, and
            the bound that no cosine exceeds, with probability 0.95, if layers share nothing.
        course: the same over training, for whole updates.
        subspaces: overlap of the layers' subspaces at the end: a row a run, module type, scale and side.
        methods: mean excess by method, with intervals over runs and over tasks.
        answers: whether MSPLoRA removes redundancy that LoRA has, for each method that this concerns.
        adapters: comparison of the adapters of `path` and `with_`, if given.
        notes: remarks on the numbers, one sentence each.
        skipped: messages on what could not be read.
        failed: runs of which nothing could be read.
        seed: of all random draws.
    """

    path: Path
    runs: list[RunDirections]
    sharing: DataFrame
    course: DataFrame
    subspaces: DataFrame
    methods: DataFrame
    answers: list[Redundancy]
    adapters: AdapterComparison | None
    notes: list[str]
    skipped: list[str]
    failed: list[str]
    seed: int

    def __repr__(self) -> str:
        return f"Overlap({len(self.runs)} runs, {len(self.notes)} notes; {self.path})"


def overlap(
    path: str | os.PathLike[str],
    *,
    with_: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    groups: Groups = None,
    draws: int = 20,
    alpha: float | None = None,
    module: str | Collection[str] = (),
    model: str | None = None,
    task: str | None = None,
    seed: int | None = None,
    n_jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Overlap:
    """Measure the overlap of updates' directions: between the layers of each run, over its training, between methods.

    Args:
        path: an adapter, a run, or a study, i.e. a folder that contains such at any depth (see `load_spectra`).
        with_: other adapters, seeds or epochs of the same base model to compare with those of `path`, in any format
            and of any rank; for a folder, each of its adapters.
        groups: groups of layers by depth: a number, or the boundaries; by default three, or one for up to three layers.
        draws: of the null model of common subspaces.
        alpha, module, model, task, seed: how adapters are read (see `load_spectra`).
        n_jobs: number of processes for the module types of a large adapter (see `load_spectra`).
        progress: called after each run read, with the number of runs read and of all runs.

    Returns:
        An `Overlap`.

    Raises:
        RunDirectoryError: if nothing can be read at `path`, or there are no two layers to compare.
        ComparisonError: if adapters have different base models or shapes, or no module in common.
        ParameterError: for a parameter with a wrong value.
    """
    others = [with_] if isinstance(with_, (str, os.PathLike)) else list(with_)
    adapters, compared, errors = None, list[AdapterUpdates](), list[MSPLoraError]()
    if others:
        read = partial(load_all_updates, errors=errors, alpha=alpha, module=module, model=model, task=task, seed=seed)
        compared = [one for place in (path, *others) for one in read(place)]
        if model is not None:  # also of runs, whose records name it in another way
            compared = [replace(one, model=model) for one in compared]
        adapters = compare_adapters(compared)
    found = find_sources(path, alpha=alpha, module=module, model=model, task=task, seed=seed, inner=True)
    runs, failed = list[RunDirections](), list[str]()
    for done, (name, opened) in enumerate(found, 1):
        before = len(errors)
        try:
            run = run_directions(name, opened(), errors, groups, draws, _SEED, n_jobs)
        except MSPLoraError as error:
            errors.append(error)
            run = None
        if run is not None:
            runs.append(run)
        elif not all(isinstance(error, UnsupportedAdapterError) for error in errors[before:]):
            failed.append(name)
        if progress is not None:
            progress(done, len(found))
    if adapters is None:
        _check_something(path, runs, errors)
    sources, of_names = name_runs([(run.name, run.source) for run in runs], [run.keys for run in runs])
    facts = {
        run.name: {"method": one.method, "model": one.model, "task": one.task, "seed": one.seed}
        for run, one in zip(runs, sources, strict=True)
    }
    sharing = final_sharing(runs, facts)
    notes = [note for run in runs for note in run.notes]
    notes += [note for adapter in compared for note in adapter.notes]
    notes += list(adapters.notes) if adapters else []
    notes += [*_zero_layers(runs), *(() if adapters else _lone_layers(runs)), *of_names]
    return Overlap(
        path=Path(path),
        runs=runs,
        sharing=sharing,
        course=course_sharing(runs, facts),
        subspaces=final_subspaces(runs, facts),
        methods=excess_by_method(sharing),
        answers=redundancy(sharing, load_settings(path)),
        adapters=adapters,
        notes=list(dict.fromkeys(notes)),
        skipped=list(dict.fromkeys(map(str, errors))),
        failed=failed,
        seed=_SEED,
    )


_SEED = 0


def _zero_layers(runs: Sequence[RunDirections]) -> Iterator[str]:
    """Notes on layers with a zero update, which have no cosines."""
    for run in runs:
        for one in (one.cosines for one in run.final):
            zero = [str(layer) for layer, norm in zip(one.layers, one.norms, strict=True) if norm == 0]
            if zero:
                layers = "all layers" if len(zero) == len(one.layers) else f"layer {', '.join(zero)}"
                yield f"{run.name}: {layers} of {one.module} ({one.scale}): the update is zero; left out of means"


def _lone_layers(runs: Sequence[RunDirections]) -> Iterator[str]:
    """Notes on module types that only one layer has."""
    for run in runs:
        compared = {one.cosines.module for one in run.final}
        alone = dict.fromkeys(key.module for key in map(ComponentKey.parse, run.keys) if key.module not in compared)
        if alone:
            yield f"{run.name}: not compared, since only one layer has them: {listed(list(alone))}"


def _check_something(
    path: str | os.PathLike[str], runs: Sequence[RunDirections], errors: Sequence[MSPLoraError]
) -> None:
    if any(run.final for run in runs):
        return
    if errors:
        raise errors[-1]
    raise RunDirectoryError(
        path,
        expected="two or more layers of a module type",
        found="one layer of each module type",
        hint="compare it with another adapter (--with)",
    )
