"""A study: tasks, seeds and methods, and their runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from msplora_core.runs.directory import TUNING
from msplora_core.training.presets import preset_settings
from msplora_core.training.run_config import RunConfig


@dataclass(frozen=True)
class Tune:
    """How the learning rate of each method is chosen.

    Args:
        learning_rate: the candidates.
        tasks: of the runs that try them.
        seeds: of these runs.
    """

    learning_rate: tuple[float, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Study:
    """The content of a study file, from `read_study`.

    Args:
        path: the file.
        out: the folder for the run directories.
        tasks: names of tasks.
        seeds: of the runs.
        methods: settings of each method, as arguments of `RunConfig`, and `preset`.
        data_dir: folder with the official GLUE layout; by default the Hugging Face hub.
        tune: how learning rates are chosen; None if the settings have them.
    """

    path: Path
    out: Path
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    methods: tuple[Mapping[str, Any], ...]
    data_dir: Path | None = None
    tune: Tune | None = None

    @property
    def record_path(self) -> Path:
        """The study's record: the scores of all candidates and the learning rates chosen."""
        return self.out / f"{self.path.stem}.json"

    def pairs(self) -> Iterator[tuple[str, int]]:
        """Return all pairs of task and seed, ordered by seed."""
        return ((task, seed) for seed, task in product(self.seeds, self.tasks))

    def tune_pairs(self) -> Iterator[tuple[str, int]]:
        """Return all pairs of task and seed of the runs that choose the learning rates."""
        return product(self.tune.tasks, self.tune.seeds) if self.tune else iter(())

    def combinations(self) -> Iterator[tuple[Mapping[str, Any], str, int]]:
        """Return all combinations of method, task and seed, in the order of training."""
        return ((method, task, seed) for task, seed in self.pairs() for method in self.methods)

    def config(self, method: Mapping[str, Any], task: str, seed: int) -> RunConfig:
        """Return the run of a method on a task with a seed, at the learning rate of the settings."""
        settings = dict(method)
        preset = preset_settings(settings.pop("preset", None), task)
        return RunConfig(
            **{**preset, **settings, "task": task, "seed": seed, "out": self.out, "data_dir": self.data_dir}
        )

    def named(self, task: str, seed: int) -> str:
        """Return a task, in its usual spelling, and a seed in words."""
        return f"{self.config(self.methods[0], task, seed).task} with seed {seed}"

    def runs(self, rates: Mapping[str, float]) -> list[RunConfig]:
        """Return the study's runs, without those whose learning rate is still to be chosen.

        Args:
            rates: chosen learning rates by method.
        """
        configs = [self.config(*one) for one in self.combinations()]
        if self.tune is None:
            return configs
        return [
            replace(config, learning_rate=rates[tuned_name(config)])
            for config in configs
            if tuned_name(config) in rates
        ]

    def tuning_runs(self) -> dict[str, dict[float, list[RunConfig]]]:
        """Return the runs that choose the learning rates, by method and candidate."""
        found: dict[str, dict[float, list[RunConfig]]] = {}
        for method in self.methods if self.tune else ():
            assert self.tune is not None
            for rate in self.tune.learning_rate:
                out = self.out / TUNING / f"lr-{rate:g}"
                configs = [
                    replace(self.config(method, *pair), out=out, learning_rate=rate, random_labels=False)
                    for pair in self.tune_pairs()
                ]
                found.setdefault(tuned_name(configs[0]), {})[rate] = configs
        return found


def tuned_name(config: RunConfig) -> str:
    """Return the method name for the choice of a learning rate; a control with random labels has that of its method."""
    return replace(config, random_labels=False).method_name
