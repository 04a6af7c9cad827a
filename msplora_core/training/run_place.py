"""The state of a run's directory: free, or with the same run, unfinished or to be extended."""

from __future__ import annotations

from msplora_core.errors import RunDirectoryError
from msplora_core.runs import RunDirectory
from msplora_core.runs.lock import NAME as LOCK
from msplora_core.training.attaching.attachment import attachment_of
from msplora_core.training.data.task_data import data_digest
from msplora_core.training.resuming import last_checkpoint
from msplora_core.training.run_config import RunConfig
from msplora_core.training.run_settings import other_setting, unlike
from msplora_core.training.tasks import task_named


def check_place(config: RunConfig, *, resume: bool) -> str:
    """Return whether a run's directory is `free`, or holds the same run: `unfinished`, `finished`, or `extended`.

    A run is `extended` if `config` has more epochs than it was trained for.

    Raises:
        RunDirectoryError: if the folder holds something else, a run while `resume` is not set, or a finished run
            without a checkpoint to resume from.
        ParameterError: if the run to resume had other settings.
    """
    run = RunDirectory(config.path)
    if not RunDirectory.is_run(run.path):
        if run.path.exists() and (not run.path.is_dir() or any(path.name != LOCK for path in run.path.iterdir())):
            raise RunDirectoryError(run.path, expected="a run, or no such folder yet", found="something else")
        return "free"
    if not resume:
        raise RunDirectoryError(
            run.path,
            expected="no such folder yet",
            found="a run",
            hint="continue it with --resume, or use another --out",
        )
    record = run.read_record()
    data = data_digest(task_named(config.task), config.data_dir)
    if data and record.data not in ("", data):
        raise RunDirectoryError(
            run.path,
            expected=f"a run on {config.task}",
            found="one on a file of the same name with other contents",
            hint="rename the file, or use another --out",
        )
    if other := other_setting(config, run, record):
        raise other
    epochs = record.hyperparameters.get("epochs")
    extended = isinstance(epochs, int) and config.epochs > epochs
    if extended and not is_extendable(config):
        raise unlike("epochs", epochs, config.epochs, run)
    if record.finished and extended and last_checkpoint(run) is None:
        raise RunDirectoryError(
            run.checkpoints_path, expected="the checkpoint to continue from", found="none that is complete"
        )
    return "extended" if extended else "finished" if record.finished else "unfinished"


def is_extendable(config: RunConfig) -> bool:
    """Return whether a finished run can continue: not if its course depends on the number of epochs."""
    return config.schedule is None and attachment_of(config).extendable
