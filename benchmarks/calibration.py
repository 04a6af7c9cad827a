"""Simulated studies without an effect: how often each test rejects, and how often its interval covers zero.

`python -m benchmarks.calibration` prints the table; 4,000 studies take some minutes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from msplora_analysis import Outcome, sign_flip_test, task_mean_test

TASKS, SEEDS = 4, 3
WITHIN = 0.5
LEVEL = 0.05
_RESAMPLES = 1_000

Study = NDArray[np.float64]
"""(..., tasks, seeds) differences between two methods."""


class Row(NamedTuple):
    """A row of the table.

    Args:
        question: the question that the method answers.
        method: the test or interval.
        between: standard deviation of the effect between tasks; its mean is zero.
        judge: for a study, whether the method rejects the null hypothesis (which is true), and whether its interval
            covers zero.
        offered: whether the toolkit offers the method for that question.
    """

    question: str
    method: str
    between: float
    judge: Callable[[Study], tuple[bool, bool]]
    offered: bool


def task_means(study: Study) -> tuple[bool, bool]:
    """The t test over the means of the tasks."""
    return _of(task_mean_test(study.ravel(), np.repeat(range(len(study)), study.shape[1]).tolist()))


def sign_flips(study: Study) -> tuple[bool, bool]:
    """Sign flips over all runs."""
    return _of(sign_flip_test(study.ravel()))


def _of(outcome: Outcome) -> tuple[bool, bool]:
    return outcome.p <= LEVEL, outcome.low <= 0 <= outcome.high


def flat_bootstrap(study: Study) -> tuple[bool, bool]:
    """The percentile interval over resampled runs; an interval without zero counts as a rejection."""
    random = np.random.default_rng(0)
    return _percentiles(study.ravel()[random.integers(study.size, size=(_RESAMPLES, study.size))])


def hierarchical_bootstrap(study: Study) -> tuple[bool, bool]:
    """The same over resampled tasks, and seeds resampled within each."""
    random = np.random.default_rng(0)
    tasks = random.integers(len(study), size=(_RESAMPLES, len(study), 1))
    return _percentiles(study[tasks, random.integers(study.shape[1], size=(_RESAMPLES, *study.shape))])


def _percentiles(resampled: NDArray[np.float64]) -> tuple[bool, bool]:
    low, high = np.quantile(resampled.reshape(_RESAMPLES, -1).mean(axis=1), [LEVEL / 2, 1 - LEVEL / 2])
    covers = bool(low <= 0 <= high)
    return not covers, covers


ROWS = [
    Row("about tasks like these", "task_mean_test", 1.0, task_means, True),
    Row("about these tasks", "sign_flip_test", 0.0, sign_flips, True),
    Row("about tasks like these", "sign flips over task × seed pairs", 1.0, sign_flips, False),
    Row("about tasks like these", "percentile bootstrap, flat", 1.0, flat_bootstrap, False),
    Row("about tasks like these", "percentile bootstrap, hierarchical", 1.0, hierarchical_bootstrap, False),
]


def simulated(studies: int, between: float, tasks: int = TASKS, seeds: int = SEEDS, seed: int = 0) -> Study:
    """Return (studies, tasks, seeds) differences: an effect per task around zero, and noise per run."""
    random = np.random.default_rng(seed)
    effects = random.normal(0.0, between, (studies, tasks, 1)) if between else 0.0
    return effects + random.normal(0.0, WITHIN, (studies, tasks, seeds))


def shares(row: Row, studies: Study, workers: int = 1) -> tuple[float, float]:
    """Return the share of studies in which the row's method rejects, and in which its interval covers zero."""
    if workers == 1:
        answers = list(map(row.judge, studies))
    else:
        with ProcessPoolExecutor(workers) as pool:
            answers = list(pool.map(row.judge, studies, chunksize=len(studies) // (workers * 8)))
    rejects, covers = np.mean(answers, axis=0).tolist()
    return rejects, covers


def main(studies: Annotated[int, typer.Option(help="How many studies to simulate.", min=100)] = 4_000) -> None:
    """Print how often each method rejects a true null, and how often its 95% interval covers it."""
    print(f"{studies:,} studies without a mean effect: {TASKS} tasks × {SEEDS} seeds, spread within tasks {WITHIN}\n")
    print("| question | method | spread between tasks | rejects at 0.05 | 95% interval covers | offered |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in ROWS:
        rejects, covers = shares(row, simulated(studies, row.between), workers=os.cpu_count() or 1)
        offered = "yes" if row.offered else "no"
        cells = (row.question, row.method, f"{row.between:g}", f"{rejects:.1%}", f"{covers:.1%}", offered)
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
