"""KL between layers: of all tasks and module types, of each, and of each pair of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.comparison.difference import Comparison
from msplora_analysis.comparison.layers import LayerDivergence, layer_divergence, layer_rows, layer_spectra
from msplora_analysis.measures import Average

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class ChosenDivergence:
    """KL between layers of one choice of task and module type.

    Args:
        task: of the runs; empty for all.
        module: module type; empty for all of the stack.
        runs: number of averaged runs, or of pairs of runs.
        kl: (L, L) nats.
    """

    task: str
    module: str
    runs: int
    kl: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ChosenDifference(ChosenDivergence):
    """KL between layers with that of the baseline.

    Args:
        kl_baseline: (L, L) nats.
    """

    kl_baseline: NDArray[np.float64]


def chosen_divergences(
    table: DataFrame, one: LayerDivergence, floor: float | None = None, average: Average = "spectra"
) -> Iterator[ChosenDivergence]:
    """Yield the KL between the layers of a method: of all, of each task, each module type and each pair of them.

    Args:
        table: the spectra from which `one` was computed, of one epoch per run.
        one: from `layer_divergences`, for the method.
        floor, average: as in `layer_divergences`.
    """
    yield ChosenDivergence("", "", one.runs, one.kl)
    rows = _rows(table, one.model, one.method, one.scale, one.stack)
    runs, spectra = layer_spectra(rows, one.modules, one.length)
    tasks = _tasks(rows, runs)
    for task, module, which, place in _choices(tasks, one.modules):
        yield ChosenDivergence(task, module, len(which), layer_divergence(spectra[which][:, place], floor, average))


def chosen_differences(table: DataFrame, one: Comparison, floor: float | None = None) -> Iterator[ChosenDifference]:
    """Yield the KL of a method and of its baseline, likewise: means over pairs of runs.

    Args:
        table: the spectra from which `one` was computed, of one epoch per run; only that of all is yielded if the
            baseline is not in it.
        one: from `compare`.
        floor: as in `compare`.
    """
    yield ChosenDifference("", "", len(one.pairs), one.kl, one.kl_baseline)
    if not set(one.pairs["run_baseline"]) <= set(table["run"].unique()):
        return
    sides = []
    for method, runs, length in zip(
        (one.method, one.baseline), (one.pairs["run"], one.pairs["run_baseline"]), one.lengths, strict=True
    ):
        rows = _rows(table[table["run"].isin(runs)], one.model, method, one.scale)
        names, spectra = layer_spectra(rows, one.modules, length)
        sides.append(spectra[[names.index(run) for run in runs]])
    for task, module, which, place in _choices([str(task) for task in one.pairs["task"]], one.modules):
        ours, theirs = (
            np.mean([layer_divergence(run[None, place], floor, one.average) for run in side[which]], axis=0)
            for side in sides
        )
        yield ChosenDifference(task, module, len(which), ours, theirs)


def _rows(table: DataFrame, model: str, method: str, scale: str, stack: str | None = None) -> DataFrame:
    rows = table[(table["model"] == model) & (table["method"] == method)]
    return layer_rows(rows if stack is None else rows[rows["stack"] == stack], scale)


def _tasks(rows: DataFrame, runs: Sequence[str]) -> list[str]:
    tasks = rows[["run", "task"]].drop_duplicates().set_index("run")["task"]
    return [str(tasks[run]) for run in runs]


def _choices(
    tasks: Sequence[str], modules: Sequence[str]
) -> Iterator[tuple[str, str, NDArray[np.intp], NDArray[np.intp]]]:
    """Each known task, each module type, then each pair of them, with the indices of the runs and of the modules."""
    of_task = {"": np.arange(len(tasks))}
    if len(known := dict.fromkeys(filter(None, tasks))) > 1:
        of_task |= {name: np.array([place for place, task in enumerate(tasks) if task == name]) for name in known}
    of_module = {"": np.arange(len(modules))}
    if len(modules) > 1:
        of_module |= {module: np.array([place]) for place, module in enumerate(modules)}
    chosen = [*product(of_task, of_module)][1:]
    for task, module in sorted(chosen, key=all):
        yield task, module, of_task[task], of_module[module]
