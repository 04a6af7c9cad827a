"""Trainings one after the other, with their progress, for `train`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msplora_core.training import RunConfig

_STATES = {
    "free": "",
    "unfinished": ": continues",
    "finished": ": finished already, left as it is",
    "extended": ": continues to more epochs",
}


def train_all(configs: Sequence[RunConfig], *, resume: bool) -> None:
    """Check all runs, then train them; print the run directory of each finished run on standard output.

    Args:
        configs: the runs.
        resume: resume interrupted runs, and skip finished ones.
    """
    from msplora_cli.console import messages, say, shown_warnings
    from msplora_core.placement import PlacementWarning
    from msplora_core.runs import RunDirectory
    from msplora_core.training.checking import check_inputs
    from msplora_core.training.processes import is_main_process, told_when_terminated
    from msplora_core.training.run import train_run
    from msplora_core.training.run_place import check_place
    from msplora_core.training.run_warning import RunWarning
    from msplora_core.training.shown import TrainingAlert
    from msplora_core.training.tasks import task_named

    places = [check_place(config, resume=resume) for config in configs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlacementWarning)  # it comes again when the run is trained
        data = check_inputs(configs)
    from msplora_cli.progress import TrainingProgress  # last: transformers itself warns if torch is missing

    kinds = RunWarning, TrainingAlert, PlacementWarning
    for count, (config, place) in enumerate(zip(configs, places, strict=True), 1):
        if is_main_process():
            say(f"[{count}/{len(configs)}] {config.path}{_STATES[place]}")
        progress = TrainingProgress(RunDirectory(config.path), task_named(config.task).metric, messages())
        with told_when_terminated(config.path), closing(progress), shown_warnings(*kinds):
            train_run(config, resume=resume, data=data[config.task], callbacks=[progress])
        if is_main_process():
            print(config.path, flush=True)
