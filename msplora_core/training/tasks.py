"""The tasks: their data, labels and metrics."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Task:
    """One task: a class or a number to predict from sentences or pairs, or instructions with answers.

    Args:
        name: as in `glue` on the Hugging Face hub: `stsb`.
        folder: as in the official download: `STS-B`; or a file of instructions.
        text_columns: of the TSV file: one for sentences, two for pairs.
        label_column: of the TSV file.
        metric: `accuracy`, `matthews` or `pearson`; `token_accuracy` for instructions.
        classes: labels as in the file, in the order of their numbers; empty for a score.
        columns: the file's columns, if it has no header line.
        hub_columns: text columns on the hub, if they differ.
        score_range: lowest and highest score.
        generated: whether the data are generated from a grammar.
        instructions: whether it is a file of instructions, for a causal language model.
    """

    name: str
    folder: str
    text_columns: tuple[str, ...]
    label_column: str
    metric: str
    classes: tuple[str, ...] = ("0", "1")
    columns: tuple[str, ...] = ()
    hub_columns: tuple[str, ...] = ()
    score_range: tuple[float, float] | None = None
    generated: bool = False
    instructions: bool = False

    @property
    def outputs(self) -> int:
        """Number of model outputs: one per class, or one score."""
        return len(self.classes) or 1

    def label(self, text: str) -> int | float:
        """Return the number of a label.

        Raises:
            ValueError: if the text is not a label of the task; its message says what was expected.
        """
        if self.classes:
            if text not in self.classes:
                raise ValueError(f"a label of {self.folder} ({', '.join(self.classes)})")
            return self.classes.index(text)
        low, high = self.score_range or (-math.inf, math.inf)
        try:
            score = float(text)
        except ValueError:
            score = math.nan
        if not low <= score <= high:
            raise ValueError(f"a score of {self.folder} between {low:g} and {high:g}")
        return score


_ENTAILMENT = ("entailment", "not_entailment")

TASKS = {
    task.name: task
    for task in (
        Task("cola", "CoLA", ("sentence",), "label", "matthews", columns=("source", "label", "mark", "sentence")),
        Task("mrpc", "MRPC", ("#1 String", "#2 String"), "Quality", "accuracy", hub_columns=("sentence1", "sentence2")),
        Task("stsb", "STS-B", ("sentence1", "sentence2"), "score", "pearson", classes=(), score_range=(0.0, 5.0)),
        Task("rte", "RTE", ("sentence1", "sentence2"), "label", "accuracy", classes=_ENTAILMENT),
        Task("sst2", "SST-2", ("sentence",), "label", "accuracy"),
        Task("qnli", "QNLI", ("question", "sentence"), "label", "accuracy", classes=_ENTAILMENT),
        Task("acceptability", "acceptability", ("sentence",), "label", "matthews", generated=True),
        Task("paraphrase", "paraphrase", ("sentence1", "sentence2"), "label", "accuracy", generated=True),
        Task("similarity", "similarity", ("sentence1", "sentence2"), "score", "pearson", classes=(), generated=True),
    )
}
"""The six GLUE tasks and the three generated ones, by name."""


def task_named(name: str) -> Task:
    """Return a task by its name, in any spelling, or the task of a `.json` or `.jsonl` file of instructions.

    Raises:
        ParameterError: if there is none.

    Example:
        >>> task_named("STS-B").name, task_named("mrpc").metric
        ('stsb', 'accuracy')
        >>> task_named("data/gsm8k-train.json").name
        'gsm8k-train'
    """
    if name.lower().endswith((".json", ".jsonl")):
        return Task(PurePath(name).stem, name, (), "", "token_accuracy", instructions=True)
    key = re.sub(r"[-_ ]", "", name).lower()
    if key not in TASKS:
        raise ParameterError("task", expected=f"one of {', '.join(TASKS)}, or a .json or .jsonl file", found=name)
    return TASKS[key]


def accuracy(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the share of examples whose highest output is that of the true class, 0 to 1."""
    return float((outputs.argmax(axis=-1) == labels).mean())


def matthews(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the Matthews correlation of predicted and true classes, -1 to 1; 0 if only one class is predicted."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, outputs.argmax(axis=-1)))


def pearson(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the Pearson correlation of predicted and true scores, -1 to 1; NaN if all predictions are equal."""
    import numpy as np

    scores = outputs.reshape(len(labels)).astype(np.float64)
    if np.ptp(scores) == 0 or np.ptp(labels) == 0:
        return math.nan
    return float(np.corrcoef(scores, labels)[0, 1])


METRICS: dict[str, Callable[[NDArray[Any], NDArray[Any]], float]] = {
    "accuracy": accuracy,
    "matthews": matthews,
    "pearson": pearson,
}
"""outputs (n, classes) or (n, 1) and labels (n,) -> one number."""


def constant_score(metric: str, labels: Sequence[float]) -> float:
    """Return the best score of a constant answer, which a model without skill may have.

    Args:
        metric: a name in `METRICS`, or `token_accuracy`.
        labels: the true classes or scores, at least one.

    Returns:
        The share of the most frequent class or token for an accuracy; 0 for a correlation.

    Example:
        >>> constant_score("accuracy", [1, 0, 1, 1]), constant_score("matthews", [1, 0, 1, 1])
        (0.75, 0.0)
    """
    return max(Counter(labels).values()) / len(labels) if metric in ("accuracy", "token_accuracy") else 0.0
