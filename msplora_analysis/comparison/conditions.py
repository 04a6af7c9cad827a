"""The conditions of trainings: what a comparison needs to be equal, and the command that trains at the same ones."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING

from msplora_analysis.comparison.difference import Comparison
from msplora_analysis.loading.settings import Settings
from msplora_core.option_words import option_words
from msplora_core.wording import listed

if TYPE_CHECKING:
    from pandas import DataFrame

_EQUAL = ("epochs", "batch_size", "warmup", "weight_decay", "dropout", "init", "max_length", "max_train_examples",
          "loss_on_prompt", "bf16")  # fmt: skip
"""Settings that two methods are compared at. A learning rate is best for one method."""
_REPEATED = ("alpha", "rslora", "target_modules", "learning_rate", *_EQUAL, "max_eval_examples", "random_labels",
             "micro_batch", "gradient_checkpointing")  # fmt: skip
"""Settings that LoRA has as well, for the command that trains a baseline."""


def unequal_settings(comparisons: Iterable[Comparison], settings: Settings, of_baseline: Settings) -> list[str]:
    """Return notes on pairs of runs whose known settings differ, other than method, ranks, α and learning rate."""
    notes = []
    for one in comparisons:
        found: dict[str, list[str]] = {}
        for run, other in one.pairs[["run", "run_baseline"]].astype(str).itertuples(index=False):
            ours, theirs = settings.get(run, {}), of_baseline.get(other, {})
            differing = [
                f"{name.replace('_', ' ')} {ours[name]} against {theirs[name]}"
                for name in _EQUAL
                if name in ours and name in theirs and ours[name] != theirs[name]
            ]
            if differing:
                found.setdefault(", ".join(differing), []).append(f"{run} and {other}")
        notes += [f"{one.method} against {one.baseline}: {words} ({listed(pairs)})" for words, pairs in found.items()]
    return list(dict.fromkeys(notes))


def lora_command(model: str, runs: DataFrame, settings: Settings, rank: int | None = None) -> str:
    """Return the command that trains LoRA on the model, tasks and seeds of some runs, with their settings.

    Settings in which the runs differ, as between tasks, are named after the command.

    Args:
        model: the base model.
        runs: with columns run, task and seed.
        settings: of runs, as far as known.
        rank: of LoRA; by default the command's.
    """
    known = [settings[run] for run in map(str, runs["run"].unique()) if settings.get(run, {}).keys() - {"task"}]
    tasks = {str(task): str(task) for task in runs["task"].unique() if task}
    for run, task in runs[["run", "task"]].astype(str).itertuples(index=False):
        if task in tasks:
            tasks[task] = str(settings.get(run, {}).get("task") or task)
    words = ["msplora-analyze", "train", *option_words("method", "lora"), *(option_words("rank", rank) if rank else [])]
    words += option_words("model", model)
    words += [word for task in tasks.values() for word in option_words("task", task)]
    words += [word for seed in runs["seed"].dropna().unique() for word in option_words("seed", seed)]
    own = []
    for name in _REPEATED:
        values = [one[name] for one in known if name in one]
        if any(value != values[0] for value in values):
            own.append(name.replace("_", " "))
        elif values and values[0] is not False and isinstance(values[0], list) == (name == "target_modules"):
            words += option_words(name, values[0])
    also = ", ".join([*(["their --data-dir"] if known else []), *([f"each run's own {listed(own, 9)}"] if own else [])])
    return f"{shlex.join(words)} --out RUNS{f', with {also}' if also else ''}"
