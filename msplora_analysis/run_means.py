"""Means over runs, with the lowest and the highest run: what lines and bands over training show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from msplora_analysis.choices import by_choice
from msplora_analysis.courses import COURSE, SHARE
from msplora_analysis.measures import ordered
from msplora_analysis.statistics.flips import sign_flips

if TYPE_CHECKING:
    from pandas import DataFrame

_KIND = ["model", "method", "stack", "scale", "rank"]
_LAYERS = ["model", "method", "stack", "scale", "module"]
_NO_MEASURES = {*COURSE, "module", "task", "seed", "run", "rank", "runs", "components"}


def means_over_runs(table: DataFrame, by: Sequence[str], values: Sequence[str]) -> DataFrame:
    """Return the mean of each value over the runs of each group, with the lowest and the highest.

    Args:
        table: a row for each run in each group.
        by: columns to group by.
        values: columns to average. Rows without the first are left out.

    Returns:
        Columns `by`, `runs` (their number), and for each value its mean, under its own name, `..._low` and `..._high`
        (missing for one run).

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"method": ["lora", "lora", "dora"], "kl": [1.0, 3.0, 5.0]})
        >>> means_over_runs(table, ["method"], ["kl"])
          method  runs   kl  kl_low  kl_high
        0   dora     1  5.0     NaN      NaN
        1   lora     2  2.0     1.0      3.0
    """
    groups = table[table[values[0]].notna()].groupby(list(by), observed=True, dropna=False, sort=False)
    found = groups.agg(
        runs=(values[0], "size"),
        **{
            f"{value}{name}": (value, how)
            for value in values
            for name, how in (("", "mean"), ("_low", "min"), ("_high", "max"))
        },
    ).reset_index()
    ends = [f"{value}{end}" for value in values for end in ("_low", "_high")]
    found[ends] = found[ends].where(found["runs"] > 1)
    return ordered(found, by)


def course_means(courses: DataFrame) -> DataFrame:
    """Return the measures over training, averaged over runs: of all tasks, where `task` is empty, and of each.

    Args:
        courses: the measures of each run (`Analysis.courses`).

    Returns:
        Columns task, model, method, stack, clock, time, scale, rank, module, line, and those of `means_over_runs`.
        `line` is empty, but over shares of training, which runs need not have in common, it is the run.
    """
    values = ["entropy_rank", *(name for name in courses.columns if name not in {*_NO_MEASURES, "entropy_rank"})]
    by = [*COURSE, "rank", "module", "line"]
    return by_choice(partial(means_over_runs, values=values), _with_line(courses), by, choices=["task"])


def measure_means(by_run: DataFrame, nulls: DataFrame) -> DataFrame:
    """Return the measures of runs, averaged over them: of all tasks, where `task` is empty, and of each.

    Args:
        by_run: the measures of each run (`Analysis.by_run`). Zero spectra and undefined measures are left out.
        nulls: their null models (`Analysis.run_nulls`).

    Returns:
        Columns task, model, method, stack, scale, rank, measure, runs, mean, low and high (95% interval about these
        tasks, see `sign_flips`; NaN for fewer than six runs), null_mean, null_low and null_high (those of the runs'
        own null models, averaged over the runs, so that single runs can be compared with them), null, and outside
        (number of runs outside their own null_low to null_high). Those on nulls are missing without a null.
    """
    beside = _outside(nulls).rename(columns={"value": "mean"})
    return by_choice(partial(_measure_means, nulls=beside), by_run, _KIND, choices=["task"])


def _outside(nulls: DataFrame) -> DataFrame:
    return nulls.assign(outside=(nulls["value"] < nulls["null_low"]) | (nulls["value"] > nulls["null_high"]))


def _measure_means(by_run: DataFrame, by: Sequence[str], nulls: DataFrame) -> DataFrame:
    import pandas as pd

    measures = [name for name in by_run.columns if name not in {*_NO_MEASURES, "epoch"}]
    found = []
    for key, rows in by_run[by_run["entropy_rank"].notna()].groupby(list(by), observed=True, sort=False):
        values = rows[measures].dropna(axis=1)
        _, low, high = sign_flips(values.to_numpy(np.float64))
        found += [
            (*key, name, len(rows), *numbers) for name, *numbers in zip(values, values.mean(), low, high, strict=True)
        ]
    means = pd.DataFrame(found, columns=[*by, "measure", "runs", "mean", "low", "high"])
    groups = nulls.groupby([*by, "measure"], observed=True, sort=False)
    of_nulls = groups.agg(
        **{name: (name, "mean") for name in ("null_mean", "null_low", "null_high")},
        null=("null", "first"), outside=("outside", "sum"),
    ).reset_index()  # fmt: skip
    keys = [*by, "measure"]
    return ordered(means, by).merge(of_nulls.astype(means[keys].dtypes), on=keys, how="left")


def score_means(scores: DataFrame) -> DataFrame:
    """Return the evaluation metrics over training, averaged over the seeds of each task.

    Args:
        scores: from `load_scores`.
    """
    return means_over_runs(scores, ["model", "method", "task", "metric", "epoch"], ["value"])


def sharing_course_means(course: DataFrame) -> DataFrame:
    """Return what layers share over training, averaged over components and then over runs.

    Args:
        course: `Overlap.course` with the columns `clock` and `time` (see `courses`).

    Returns:
        Columns task and module (each empty for all), model, method, clock, time, line, and those of `means_over_runs`
        for excess and deviation_own.
    """
    values = ["excess", "deviation_own"]

    def of_runs(rows: DataFrame, by: Sequence[str]) -> DataFrame:
        return rows.groupby(list(by), observed=True, sort=False)[values].mean().reset_index()

    by_run = by_choice(of_runs, course, ["model", "method", "task", "run", "clock", "time"], choices=["module"])
    by = ["model", "method", "module", "clock", "time", "line"]
    return by_choice(partial(means_over_runs, values=values), _with_line(by_run), by, choices=["task"])


def cosine_means(cosines: DataFrame, sharing: DataFrame) -> DataFrame:
    """Return the cosine of each pair of layers, averaged over runs: of all tasks and of each.

    Args:
        cosines: columns run, scale, module, layer, other_layer, cosine.
        sharing: `Overlap.sharing`, which names the runs and has the bounds of their cosines.

    Returns:
        Columns task, model, method, stack, scale, module, layer, other_layer, those of `means_over_runs` for cosine,
        and `bound` (see `bound_of_mean`).
    """
    means = partial(means_over_runs, values=["cosine", "bound"])
    found = by_choice(means, _named(cosines, sharing), [*_LAYERS, "layer", "other_layer"], choices=["task"])
    bounds = [bound_of_mean(bound, runs) for bound, runs in zip(found["bound"], found["runs"], strict=True)]
    return found.assign(bound=bounds).drop(columns=["bound_low", "bound_high"])


def phi_means(grids: DataFrame, sharing: DataFrame) -> DataFrame:
    """Return φ(i, j) of neighbouring layers, averaged over runs: of all tasks and of each.

    Args:
        grids: columns run, scale, module, side, i, j, phi.
        sharing: `Overlap.sharing`, which names the runs.
    """
    means = partial(means_over_runs, values=["phi"])
    return by_choice(means, _named(grids, sharing), [*_LAYERS, "side", "i", "j"], choices=["task"])


def bound_of_mean(mean_bound: float, runs: int) -> float:
    """Return the bound of mean cosines of several runs: the mean of their bounds (see `cosine_bound`) over √runs."""
    return mean_bound / math.sqrt(runs)


def _named(rows: DataFrame, sharing: DataFrame) -> DataFrame:
    keys = ["run", "scale", "module"]
    facts = sharing[[*keys, "model", "method", "task", "stack", "cosine_bound"]]
    return rows.merge(facts.rename(columns={"cosine_bound": "bound"}), on=keys)


def _with_line(rows: DataFrame) -> DataFrame:
    return rows.assign(line=rows["run"].astype(str).where(rows["clock"] == SHARE, ""))
