"""Cosines between scales and between layers over training: one number a run, then intervals over runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msplora_analysis.statistics.differences import sign_flip_test, task_mean_test

if TYPE_CHECKING:
    from pandas import DataFrame

_BY = ["model", "method", "between", "pair"]


def interference_courses(table: DataFrame) -> DataFrame:
    """Return the cosines of each run and epoch, averaged over modules, layers and pairs of layers.

    Args:
        table: from `load_interference`.

    Returns:
        One row a run, epoch, kind and pair: model, method, run, task, seed, epoch, between, pair, cosine, `spread`
        (mean over the cosines of their standard deviation over steps) and `count` of the cosines.
    """
    keys = ["model", "method", "run", "task", "seed", "epoch", "between", "pair"]
    groups = table.groupby(keys, observed=True, sort=False, dropna=False)
    return groups.agg(cosine=("cosine", "mean"), spread=("spread", "mean"), count=("cosine", "size")).reset_index()


def interference_by_epoch(courses: DataFrame, by: Sequence[str] = ()) -> DataFrame:
    """Return the mean of the runs at each epoch.

    Args:
        courses: from `interference_courses`.
        by: columns to group by, besides model, method, kind, pair and epoch: `task`, for example.

    Returns:
        One row a group: `cosine`, `low` and `high` (95% t interval over the runs; NaN for one run), `spread`, `runs`.
    """
    import numpy as np
    from scipy.special import stdtrit

    groups = courses.groupby([*_BY, *by, "epoch"], observed=True, sort=False)
    found = groups.agg(
        cosine=("cosine", "mean"), spread=("spread", "mean"), runs=("run", "nunique"), deviation=("cosine", "std")
    ).reset_index()
    half = stdtrit(np.maximum(found["runs"] - 1, 1), 0.975) * found.pop("deviation") / np.sqrt(found["runs"])
    return found.assign(low=found["cosine"] - half, high=found["cosine"] + half)


def interference_by_method(courses: DataFrame) -> DataFrame:
    """Return for each method and pair the mean cosine over training, with intervals over runs and over tasks.

    The value of a run is the mean over its epochs, and the run is the unit of replication. Steps of independent random
    direction have cosines of mean 0 and standard deviation 1/√(out·in).

    Args:
        courses: from `interference_courses`.

    Returns:
        One row a model, method, kind and pair: `first` and `last` (mean cosine at the first and last epoch), `cosine`
        (over training), `low` and `high` (95%, about these tasks: exact sign flips of the runs; NaN below 6 runs),
        `tasks_low` and `tasks_high` (95%, about tasks like these: t over the means of the tasks), `p` and `least_p` of
        the sign flips, `runs`, `tasks`, `negative` (share of runs below 0).
    """
    import pandas as pd

    rows = []
    for names, part in courses.groupby(_BY, observed=True, sort=False):
        by_epoch = part.groupby("epoch")["cosine"].mean()
        runs = part.groupby(["run", "task"], observed=True, sort=False)["cosine"].mean().reset_index()
        here = sign_flip_test(runs["cosine"])
        beyond = task_mean_test(runs["cosine"], runs["task"].tolist())
        rows.append(
            {
                **dict(zip(_BY, names, strict=True)),
                "first": by_epoch.iloc[0],
                "last": by_epoch.iloc[-1],
                "cosine": here.effect,
                "low": here.low,
                "high": here.high,
                "tasks_low": beyond.low,
                "tasks_high": beyond.high,
                "p": here.p,
                "least_p": here.least_p,
                "runs": here.n,
                "tasks": beyond.n,
                "negative": float((runs["cosine"] < 0).mean()),
            }
        )
    columns = ["first", "last", "cosine", "low", "high", "tasks_low", "tasks_high", "p", "least_p", "runs", "tasks",
               "negative"]  # fmt: skip
    return pd.DataFrame(rows, columns=[*_BY, *columns])
