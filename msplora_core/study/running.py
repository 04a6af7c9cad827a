"""Run a study: skip finished runs, resume interrupted ones, and continue after failures."""

from __future__ import annotations

from collections.abc import Callable

from msplora_core.study.definition import Study
from msplora_core.study.entries import Entry, look
from msplora_core.study.launcher import Launcher, Watch
from msplora_core.study.tuning import chosen_rates
from msplora_core.training.run_config import RunConfig


def run_study(
    study: Study, launcher: Launcher, watch: Watch, announce: Callable[[list[RunConfig]], object]
) -> list[Entry]:
    """Train the unfinished runs of a study, after choosing its learning rates.

    Every run is checked before the first trains.

    Args:
        study: the study.
        launcher: trains the runs.
        watch: receives events of the runs.
        announce: receives the runs to be trained, before the tuning and before the rest.

    Returns:
        The runs that are not done, including those whose learning rate could not be chosen.

    Raises:
        ParameterError: if settings do not fit a model, or an existing run has other settings.
        DataFileError: if data is missing or malformed.
        RunDirectoryError: if the folder of a run holds something else.
        StudyFileError: if the study's record cannot be read.
    """
    check_study(study)
    for configs in (open_tuning(study), None):
        todo = _unfinished(study.runs(chosen_rates(study)) if configs is None else configs)
        announce(todo)
        launcher(todo, watch)
    return [entry for entry in ledger(study) if entry.state != "done"]


def check_study(study: Study) -> None:
    """Check the unfinished runs of a study: folder, adapter on the model, data.

    Raises:
        ParameterError, DataFileError, RunDirectoryError: as `run_study`.
    """
    from msplora_core.training.checking import check_inputs
    from msplora_core.training.run_place import check_place

    for config in [*open_tuning(study), *study.runs(chosen_rates(study))]:
        check_place(config, resume=True)
    check_inputs(entry.config for entry in ledger(study) if entry.state != "done")


def open_tuning(study: Study) -> list[RunConfig]:
    """Return the runs that choose the learning rates not chosen yet."""
    rates = chosen_rates(study)
    return [
        config
        for method, candidates in study.tuning_runs().items()
        if method not in rates
        for configs in candidates.values()
        for config in configs
    ]


def ledger(study: Study) -> list[Entry]:
    """Return the state of every run of a study, and of the runs that still choose learning rates.

    A run without a chosen learning rate is `to do`.
    """
    rates = chosen_rates(study)
    settled = {config.path: look(config) for config in [*open_tuning(study), *study.runs(rates)]}
    waiting = {config.path: Entry(config, "to do") for one in study.combinations() if (config := study.config(*one))}
    return list((waiting | settled).values())


def _unfinished(configs: list[RunConfig]) -> list[RunConfig]:
    return [config for config in configs if look(config).state != "done"]
