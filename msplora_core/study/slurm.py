"""The launcher for a Slurm cluster: the runs are one job array, submitted with submitit."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msplora_core.errors import MissingDependencyError, ParameterError, TrainingError
from msplora_core.storage.atomic import write_atomically
from msplora_core.study.entries import Failure, clear_failure, failure_of, last_score, look, note_failure
from msplora_core.study.launcher import Event, Watch
from msplora_core.study.worker import from_line, to_line, train_one
from msplora_core.training.tasks import task_named

if TYPE_CHECKING:
    from msplora_core.training.run_config import RunConfig

_A_DAY = "1-00:00:00"
_TIMEOUTS = 20  # how often a run is queued again after its time limit
_POLL = 5.0  # seconds


class SlurmLauncher:
    """Trains runs as a Slurm job array and waits for them.

    A run that is preempted, reaches its time limit or loses its node is queued again and resumes from its last
    finished epoch. Jobs outlive this launcher: started again on the same study, it waits for those still queued.

    Args:
        folder: for logs and files of submitit; accessible from every node.
        jobs: runs at a time; by default no limit.
        options: of `sbatch`, by their long names: `partition`, `time`, `gpus`, `mem`, `cpus-per-task`, ...

    Raises:
        MissingDependencyError: if submitit is not installed.
        ParameterError: for an invalid time.
    """

    def __init__(self, folder: Path, jobs: int | None = None, options: Mapping[str, str] | None = None) -> None:
        try:
            import submitit  # noqa: F401 - only to see whether it is installed
        except ImportError as error:
            raise MissingDependencyError("submitit", purpose="the Slurm launcher", extra="slurm") from error
        self.folder = folder.resolve()
        self.jobs = jobs
        self.options = {"time": _A_DAY, **(options or {})}
        self.minutes = _minutes(self.options["time"])

    def __call__(self, configs: Sequence[RunConfig], watch: Watch) -> None:
        """Submit the runs that are not queued, and wait until all have left the queue.

        Raises:
            TrainingError: if Slurm refuses the jobs.
        """
        queued = _queue() or {}
        ids = {name: job for name, job in self._submitted().items() if job in queued}
        new = []
        for config in configs:
            if look(config).state == "running" and str(config.path) not in ids:
                watch(Event(config, "taken"))
            elif str(config.path) not in ids:
                new.append(config)
        if new:
            ids |= self._submit(new)
            write_atomically(self._ids_path, json.dumps(ids, indent=2).encode())
        _Watched({ids[str(config.path)]: config for config in configs if str(config.path) in ids}, watch).wait()

    @property
    def _ids_path(self) -> Path:
        return self.folder / "jobs.json"

    def _submitted(self) -> dict[str, str]:
        """Job ids of an earlier launcher by run directory."""
        return json.loads(self._ids_path.read_bytes()) if self._ids_path.is_file() else {}

    def _submit(self, configs: Sequence[RunConfig]) -> dict[str, str]:
        import submitit
        from submitit.core.utils import FailedJobError

        for config in configs:
            clear_failure(config)
        try:
            executor = submitit.SlurmExecutor(folder=self.folder, max_num_timeout=_TIMEOUTS)
            executor.update_parameters(
                job_name="msplora",
                time=self.minutes,
                array_parallelism=self.jobs or len(configs),
                stderr_to_stdout=True,
                # A requeued job would truncate the log of its first part.
                additional_parameters={"open_mode": "append", **self.options, "requeue": True},
            )
            jobs = executor.map_array(_Train(), [to_line(config) for config in configs])
        except (RuntimeError, OSError, FailedJobError) as error:
            raise TrainingError(f"Slurm did not take the jobs: {' '.join(str(error).split())}") from error
        return {str(config.path): job.job_id for config, job in zip(configs, jobs, strict=True)}


class _Train:
    """The function of a job. By its `checkpoint`, submitit queues it again after preemption and the time limit."""

    def __call__(self, line: str) -> dict[str, str]:
        os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("SLURM_CPUS_PER_TASK", "1"))
        return train_one(from_line(line))

    def checkpoint(self, line: str) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, line)


class _Watched:
    """Watches the jobs of runs and reports events from the queue and the run directories."""

    def __init__(self, jobs: dict[str, RunConfig], watch: Watch) -> None:
        self.jobs, self.watch = dict(jobs), watch
        self.started: set[str] = set()

    def wait(self) -> None:
        """Return when all jobs have left the queue."""
        while self.jobs:
            queue = _queue()
            for job, config in list(self.jobs.items()) if queue is not None else ():
                assert queue is not None
                if job not in self.started and queue.get(job) != "PENDING":
                    self.started.add(job)
                    self.watch(Event(config, "started"))
                if job in queue:
                    self._tell_epochs(job, config)
                else:
                    self._end(job, config)
            if self.jobs:
                time.sleep(_POLL)

    def _tell_epochs(self, job: str, config: RunConfig) -> None:
        if job in self.started:
            self.watch(Event(config, "step", step=look(config).epochs, steps=config.epochs))

    def _end(self, job: str, config: RunConfig) -> None:
        del self.jobs[job]
        state = look(config).state
        if state == "running":
            self.watch(Event(config, "taken"))
            return
        if state == "done":
            metric = task_named(config.task).metric
            self.watch(Event(config, "epoch", epoch=config.epochs, metric=metric, score=last_score(config)))
            self.watch(Event(config, "finished"))
            return
        if failure_of(config) is None:
            note_failure(config, Failure(f"its job {job} left the queue before it was finished"))
        failure = failure_of(config)
        self.watch(Event(config, "failed", error=failure.error if failure else ""))


def _queue() -> dict[str, str] | None:
    """States of the user's jobs by id, one for each element of an array; None if Slurm does not answer."""
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--user={getpass.getuser()}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise TrainingError(
            "the Slurm launcher needs squeue and sbatch, which are not on this machine's PATH"
        ) from error
    except subprocess.CalledProcessError:
        return None
    return dict(line.split(maxsplit=1) for line in answer.stdout.splitlines())


def _minutes(text: str) -> int:
    """Minutes of a time in a format of sbatch: `90`, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS`.

    Example:
        >>> _minutes("90"), _minutes("2:00:00"), _minutes("1-12")
        (90, 120, 2160)
    """
    days, dash, rest = text.rpartition("-")
    try:
        parts = [int(part) for part in rest.split(":")]
        if dash:
            hours, minutes, seconds = (*parts, 0, 0)[:3]
        else:
            hours, minutes, seconds = {1: (0, *parts, 0), 2: (0, *parts), 3: (*parts,)}[len(parts)]
        return int(days or 0) * 1440 + hours * 60 + minutes + (seconds > 0)
    except (ValueError, KeyError):
        raise ParameterError("--slurm time", expected="minutes, HH:MM:SS or D-HH:MM:SS", found=text) from None
