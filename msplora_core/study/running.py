"""Running a study: what is finished is left, what was cut off resumes, what fails does not stop the others."""

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
    """Train what a study means and what is not finished yet; its learning rates are chosen first.

    Every run is checked before the first trains.

    Args:
        study: what to train.
        launcher: trains the runs.
        watch: receives events of the runs.
        announce: receives the runs that are to be trained, before the tuning and before the rest.

    Returns:
        The runs that are not done. Those whose learning rate could not be chosen are among them.

    Raises:
        ParameterError: if settings do not fit a model, or a run that is there was another.
        DataFileError: if data is missing or malformed.
        RunDirectoryError: if something else is where a run belongs.
        StudyFileError: if the study's record cannot be read.
    """
    check_study(study)
    for configs in (open_tuning(study), None):
        todo = _unfinished(study.runs(chosen_rates(study)) if configs is None else configs)
        announce(todo)
        launcher(todo, watch)
    return [entry for entry in ledger(study) if entry.state != "done"]


def check_study(study: Study) -> None:
    """Check each run of a study that is not finished: its folder, its adapter on the model, its data.

    Raises:
        ParameterError: see `run_study`.
        DataFileError: the same.
        RunDirectoryError: the same.
    """
    from msplora_core.training.checking import check_inputs
    from msplora_core.training.run_place import check_place

    for config in [*open_tuning(study), *study.runs(chosen_rates(study))]:
        check_place(config, resume=True)
    check_inputs(entry.config for entry in ledger(study) if entry.state != "done")


def open_tuning(study: Study) -> list[RunConfig]:
    """The runs that choose learning rates which are not chosen yet."""
    rates = chosen_rates(study)
    return [
        config
        for method, candidates in study.tuning_runs().items()
        if method not in rates
        for configs in candidates.values()
        for config in configs
    ]


def ledger(study: Study) -> list[Entry]:
    """The state of every run of a study, and of those that choose its learning rates while they are to be chosen.

    A run whose learning rate is not chosen is to do.
    """
    rates = chosen_rates(study)
    settled = {config.path: look(config) for config in [*open_tuning(study), *study.runs(rates)]}
    waiting = {config.path: Entry(config, "to do") for one in study.combinations() if (config := study.config(*one))}
    return list((waiting | settled).values())


def _unfinished(configs: list[RunConfig]) -> list[RunConfig]:
    return [config for config in configs if look(config).state != "done"]
