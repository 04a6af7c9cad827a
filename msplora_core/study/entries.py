"""The state of a study's runs (done, running, failed, to do), read from the run directories."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Literal

from msplora_core.errors import FileError
from msplora_core.runs import RunDirectory
from msplora_core.runs.lock import is_locked
from msplora_core.storage.atomic import write_atomically
from msplora_core.storage.json_file import read_json_object
from msplora_core.training.run_config import RunConfig
from msplora_core.training.run_settings import other_setting
from msplora_core.training.tasks import task_named

State = Literal["done", "running", "failed", "to do"]


@dataclass(frozen=True)
class Failure:
    """The reason why a run ended before it was finished.

    Args:
        error: one line.
        diverged: whether its loss or weights were not finite; trying again would not help.
    """

    error: str
    diverged: bool = False


@dataclass(frozen=True)
class Entry:
    """The state of a run.

    Args:
        config: the run.
        state: `done`, `running` (its lock is held), `failed` or `to do`.
        epochs: number of recorded epochs.
        seconds: from start to finish; None unless done.
        error: why it failed; empty otherwise.
    """

    config: RunConfig
    state: State
    epochs: int = 0
    seconds: float | None = None
    error: str = ""


def look(config: RunConfig) -> Entry:
    """Return the state of a run, from its files."""
    run = RunDirectory(config.path)
    failure = failure_of(config)
    epochs, record = 0, None
    if RunDirectory.is_run(run.path):
        try:
            record = run.read_record()
        except FileError as error:
            failure = Failure(str(error))
        epochs = max(0, len(run.snapshot_paths()) - 1)
    locked = is_locked(run.path)
    if record is not None and not locked and (other := other_setting(config, run, record)):
        return Entry(config, "failed", epochs, error=str(other))
    if record is not None and record.finished and record.hyperparameters.get("epochs") == config.epochs:
        started = datetime.fromisoformat(record.started or record.finished)
        seconds = (datetime.fromisoformat(record.finished) - started).total_seconds()
        return Entry(config, "done", epochs, seconds)
    if locked:
        return Entry(config, "running", epochs)
    if failure is not None:
        return Entry(config, "failed", epochs, error=failure.error)
    return Entry(config, "to do", epochs)


def last_score(config: RunConfig) -> float | None:
    """Return the dev metric of a run at its last epoch; None if it is undefined."""
    name = f"eval_{task_named(config.task).metric}"
    scores = [event[name] for event in RunDirectory(config.path).read_metrics() if name in event]
    return float(scores[-1]) if scores and isinstance(scores[-1], int | float) else None


def time_left(entries: Sequence[Entry], jobs: int) -> float | None:
    """Estimate the seconds until all is done from the finished runs of the same task, else from all finished runs.

    Args:
        entries: of the whole study.
        jobs: runs at a time.

    Returns:
        The estimate; None if no run is finished.
    """
    finished = [entry for entry in entries if entry.seconds is not None]
    if not finished:
        return None

    def expected(entry: Entry) -> float:
        alike = [one.seconds or 0.0 for one in finished if one.config.task == entry.config.task]
        share = 1 - min(entry.epochs / entry.config.epochs, 1)
        return share * median(alike or [one.seconds or 0.0 for one in finished])

    return sum(expected(entry) for entry in entries if entry.state != "done") / jobs


def log_path(config: RunConfig) -> Path:
    """Return the path of a run's log."""
    return Path(config.out) / "logs" / f"{config.name}.log"


def note_failure(config: RunConfig, failure: Failure) -> None:
    """Record the failure of a run."""
    write_atomically(_failure_path(config), json.dumps(asdict(failure)).encode() + b"\n")


def clear_failure(config: RunConfig) -> None:
    """Delete the recorded failure of a run."""
    _failure_path(config).unlink(missing_ok=True)


def failure_of(config: RunConfig) -> Failure | None:
    """Return the recorded failure of a run, or None."""
    try:
        return Failure(**read_json_object(_failure_path(config))) if _failure_path(config).exists() else None
    except (FileError, TypeError) as error:
        return Failure(f"{_failure_path(config)}: {error}")


def _failure_path(config: RunConfig) -> Path:
    return log_path(config).with_suffix(".failed")
