"""Load the evaluation metrics of runs."""

from __future__ import annotations

import math
import os
import warnings
from typing import TYPE_CHECKING, Any

from msplora_analysis.loading.sources import run_directories
from msplora_analysis.loading.table import SkippedWarning
from msplora_core.errors import FileError

if TYPE_CHECKING:
    from pandas import DataFrame

_COLUMNS = ["run", "method", "model", "task", "seed", "epoch", "metric", "value"]
_EVALUATION = "eval_"
_NOT_A_SCORE = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


def load_scores(path: str | os.PathLike[str]) -> DataFrame:
    """Read the evaluation metrics of a run or a study.

    Damaged lines are left out with a `SkippedWarning` that names the file and the line.

    Args:
        path: a run directory, or a folder of such. Adapters without run directory have no metrics; damaged runs are
            left out (`load_spectra` warns of them).

    Returns:
        One row a metric and epoch: run, method, model, task, seed, epoch, metric (`accuracy`, `loss`), value, which is
        NaN if the metric is undefined (a correlation with constant predictions). `attrs["skipped"]` lists messages on
        what was left out.

    Example:
        >>> import tempfile
        >>> from msplora_core.runs import RunDirectory, RunRecord
        >>> run = RunDirectory(tempfile.mkdtemp())
        >>> run.write_record(RunRecord(method="lora-r2", model="minilm", task="mrpc", seed=0))
        >>> run.append_metrics({"epoch": 1.0, "eval_accuracy": 0.75, "eval_runtime": 2.0})
        >>> load_scores(run.path)[["method", "task", "epoch", "metric", "value"]]
            method  task  epoch    metric  value
        0  lora-r2  mrpc    1.0  accuracy   0.75
    """
    import pandas as pd

    rows: list[tuple[Any, ...]] = []
    errors: list[FileError] = []
    for name, run in run_directories(path):
        try:
            record = run.read_record()
        except FileError:
            continue
        try:
            events = run.read_metrics(errors)
        except FileError as error:
            errors.append(error)
            continue
        who = (name, record.method, record.model, record.task, record.seed)
        for event in events:
            for key, value in event.items():
                metric = key.removeprefix(_EVALUATION)
                if key != metric and metric not in _NOT_A_SCORE and isinstance(value, int | float | None):
                    value = math.nan if value is None else float(value)
                    rows.append((*who, event.get("epoch", math.nan), metric, value))
    skipped = [str(error) for error in errors]
    for message in skipped:
        warnings.warn(f"left out: {message}", SkippedWarning, stacklevel=2)
    table = pd.DataFrame(rows, columns=_COLUMNS)
    table = table.astype({"seed": "Int64", "epoch": "float64", "value": "float64"})
    table.attrs["skipped"] = skipped
    return table


def last_scores(scores: DataFrame) -> DataFrame:
    """Return the task metrics of each run at its last evaluation, averaged over seeds.

    Args:
        scores: from `load_scores`.

    Returns:
        One row a model, task, metric (without loss) and method: mean, min, max and the number of runs.
    """
    rows = at_last_epoch(scores)
    groups = rows.groupby(["model", "task", "metric", "method"], sort=False)["value"]
    return groups.agg(["mean", "min", "max"]).assign(runs=groups.size()).reset_index()


def at_last_epoch(scores: DataFrame) -> DataFrame:
    """Return the last value of each metric of each run, without the loss."""
    last = scores["epoch"] == scores.groupby(["run", "metric"])["epoch"].transform("max")
    return scores[last & (scores["metric"] != "loss")]
