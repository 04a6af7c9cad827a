"""The state of each run: whether it was finished, and whether its score is better than a constant answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import sqrt
from typing import TYPE_CHECKING, Any

from msplora_analysis.loading.scores import load_scores
from msplora_analysis.loading.sources import run_directories, trainings
from msplora_core.errors import FileError
from msplora_core.wording import listed

if TYPE_CHECKING:
    from pandas import DataFrame

    from msplora_core.runs import RunRecord

_COLUMNS = ["run", "finished", "planned", "epoch", "metric", "score", "constant_score", "chance_score", "constant"]
_CORRELATIONS = ("matthews", "matthews_correlation", "pearson", "pearsonr", "spearman", "spearmanr")
_ACCURACIES = ("accuracy", "token_accuracy")
_ONE_SIDED = 1.645
"""Standard errors above the mean that a normal variable exceeds in 5% of cases."""
_MARGIN = 1e-9


def load_runs(path: str | os.PathLike[str], scores: DataFrame | None = None) -> DataFrame:
    """Read the state of the runs of a study.

    Args:
        path: a run directory, a folder of a Trainer's checkpoints, or a folder of such. Other adapters have no row.
        scores: from `load_scores` for this path; by default they are read.

    Returns:
        One row a run, with columns

        | column | type | |
        |---|---|---|
        | run | str | as in `load_spectra` |
        | finished | bool | False for a run that was killed or still trains |
        | planned | float64 | planned number of epochs; NaN if unknown |
        | epoch | float64 | of the last evaluation, NaN if there is none; of the last checkpoint of a Trainer |
        | metric, score | str, float64 | the task's metric and its last value; empty and NaN if unknown |
        | constant_score | float64 | of a constant answer, which ignores the input; NaN if unknown |
        | chance_score | float64 | exceeded without skill in 5% of samples of the examples (below); NaN if unknown |
        | constant | boolean | whether the last score is not above `chance_score`; missing if unknown |

        `chance_score` is the upper end of a one-sided 95% interval: c + 1.645·√(c(1 - c)/n) for an accuracy and
        c + 1.645/√n for a correlation, with the constant score c and n examples (older runs: their limit on evaluated
        examples); c itself if n is unknown.

    Example:
        >>> import tempfile
        >>> from msplora_core.runs import RunDirectory, RunRecord
        >>> run = RunDirectory(tempfile.mkdtemp())
        >>> run.write_record(RunRecord(method="lora-r2", model="minilm", task="cola", eval_examples=400))
        >>> run.append_metrics({"epoch": 1.0, "eval_matthews": 0.03})
        >>> load_runs(run.path)[["finished", "epoch", "metric", "score", "constant"]]
           finished  epoch    metric  score  constant
        0     False    1.0  matthews   0.03      True
    """
    import pandas as pd

    scores = load_scores(path) if scores is None else scores
    by_run = dict(tuple(scores[scores["metric"] != "loss"].groupby("run", sort=False)))
    rows = []
    for name, run in run_directories(path):
        try:
            record = run.read_record()
        except FileError:  # `load_spectra` warns of it
            continue
        own = by_run.get(name)
        metric = record.metric or ("" if own is None else str(own["metric"].iloc[0]))
        own = None if own is None or metric not in set(own["metric"]) else own[own["metric"] == metric]
        epoch, score = (float("nan"),) * 2 if own is None else own[["epoch", "value"]].iloc[-1]
        constant = record.constant_score
        constant = 0.0 if constant is None and metric in _CORRELATIONS else constant
        chance = None if constant is None else _chance_score(metric, constant, _eval_examples(record))
        like = None if own is None or chance is None else not score > chance + _MARGIN  # also for NaN
        planned = record.hyperparameters.get("epochs")
        planned = planned if isinstance(planned, int | float) else None
        rows.append((name, record.finished is not None, planned, epoch, metric, score, constant, chance, like))
    nan = float("nan")
    rows += [
        (name, one.finished, one.planned, one.checkpoints[-1].epoch, "", nan, None, None, None)
        for name, one in trainings(path)
        if one.planned == one.planned
    ]
    table = pd.DataFrame(rows, columns=_COLUMNS)
    numbers = dict.fromkeys(["planned", "epoch", "score", "constant_score", "chance_score"], "float64")
    return table.astype({"finished": "bool", "constant": "boolean", **numbers})


def _eval_examples(record: RunRecord) -> int:
    """How many examples the metric is computed on; 0 if unknown."""
    limit = record.hyperparameters.get("max_eval_examples")
    return record.eval_examples or (limit if type(limit) is int else 0)


def _chance_score(metric: str, constant: float, examples: int) -> float:
    """The score that is reached without skill in 5% of samples of so many examples."""
    variance = constant * (1 - constant) if metric in _ACCURACIES else float(metric in _CORRELATIONS)
    return min(1.0, constant + _ONE_SIDED * sqrt(max(variance, 0.0) / examples)) if examples > 0 else constant


def run_notes(runs: DataFrame) -> list[str]:
    """Return notes on the runs that were not finished or learned nothing.

    Args:
        runs: from `load_runs`.
    """
    return [*_unfinished(runs), *_constant(runs)]


def _unfinished(runs: DataFrame) -> Iterator[str]:
    rows = runs[~runs["finished"]]
    if len(rows):
        yield f"Not finished (killed, or still training): {_listed(rows, _progress)}."


def _constant(runs: DataFrame) -> Iterator[str]:
    rows = runs[runs["constant"].fillna(False).astype(bool)]
    if len(rows):
        yield f"No better than a constant answer, beyond chance: {_listed(rows, _score)}."


def _progress(row: Any) -> str:
    reached = "no evaluation yet" if row.epoch != row.epoch else f"epoch {row.epoch:g}"
    return reached if row.planned != row.planned else f"{reached} of {row.planned:g}"


def _score(row: Any) -> str:
    if row.score != row.score:
        return f"{row.metric} undefined: all predictions are equal"
    chance = "" if row.chance_score == row.constant_score else f", by chance up to {row.chance_score:.3f}"
    return f"{row.metric} {row.score:.3f}, constant {row.constant_score:.3f}{chance}"


def _listed(rows: DataFrame, describe: Any) -> str:
    return listed([f"{row.run} ({describe(row)})" for row in rows.itertuples()])
