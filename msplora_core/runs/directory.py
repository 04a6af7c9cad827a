"""The run directory: the only bridge between training and analysis."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import RunDirectoryError
from msplora_core.runs.record import RunRecord
from msplora_core.runs.snapshot import Snapshot, read_snapshot, write_snapshot


TUNING = "tuning"
"""The folder of a study that holds the runs which chose its learning rates, in `lr-*`."""


class RunDirectory:
    """A run's folder: `run.json`, `metrics.jsonl`, `snapshots/`, `adapter/`, `checkpoints/`, `analysis/`.

    Nothing is read or written until asked for.

    Args:
        path: the folder; it need not exist before something is written.

    Example:
        >>> import tempfile
        >>> run = RunDirectory(tempfile.mkdtemp())
        >>> run.write_record(RunRecord(method="lora-r8", model="minilm", task="mrpc", seed=0))
        >>> run.write_epoch(1, step=20, spectra={"layer/query/0": np.array([2.0, 1.0])})
        >>> [(snapshot.epoch, *snapshot.spectra) for snapshot in run.snapshots()]
        [(1, 'layer/query/0')]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @property
    def record_path(self) -> Path:
        return self.path / "run.json"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def adapter_path(self) -> Path:
        return self.path / "adapter"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    @property
    def analysis_path(self) -> Path:
        return self.path / "analysis"

    def snapshot_path(self, epoch: float, step: int = 0) -> Path:
        """Where the snapshot at an epoch's end is, or within an epoch the one at a step."""
        within = "" if float(epoch).is_integer() else f".step-{step:08d}"
        return self.path / "snapshots" / f"epoch-{int(epoch):04d}{within}.safetensors"

    @staticmethod
    def is_run(path: Path) -> bool:
        """Whether a folder says that it is a run."""
        return (path / "run.json").is_file()

    def read_record(self) -> RunRecord:
        """What the run was.

        Raises:
            RunDirectoryError: if run.json is missing or malformed.
        """
        return RunRecord.read(self.record_path)

    def write_record(self, record: RunRecord) -> None:
        record.write(self.record_path)

    def write_epoch(self, epoch: int, *, step: int, spectra: Mapping[str, NDArray[np.float64]]) -> None:
        """Record the spectra at an epoch's end (epoch 0: before the first step)."""
        self.write_snapshot(Snapshot(epoch, step, spectra))

    def write_snapshot(self, snapshot: Snapshot) -> None:
        """Record a snapshot at an epoch's end, or within an epoch where its epoch is a fraction."""
        write_snapshot(self.snapshot_path(snapshot.epoch, snapshot.step), snapshot)

    def snapshot_paths(self) -> list[Path]:
        """Return the snapshot files in the order of training."""
        return sorted((self.path / "snapshots").glob("epoch-*.safetensors"), key=_epoch_and_step)

    def snapshots(self, errors: list[RunDirectoryError] | None = None) -> Iterator[Snapshot]:
        """Return the snapshots in the order of training, one in memory at a time.

        Args:
            errors: where given, receives the error of each file that cannot be read, and the rest is read;
                otherwise the first such error is raised.
        """
        for path in self.snapshot_paths():
            try:
                yield read_snapshot(path)
            except RunDirectoryError as error:
                if errors is None:
                    raise
                errors.append(error)

    def append_metrics(self, event: Mapping[str, Any]) -> None:
        """Add one event to metrics.jsonl, on the disk when this returns."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self) -> list[dict[str, Any]]:
        """The events of metrics.jsonl in order; a last line that a kill cut short is left out."""
        if not self.metrics_path.is_file():
            return []
        events = []
        lines = self.metrics_path.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            try:
                events.append(json.loads(line))
            except ValueError as error:
                if number == len(lines):
                    break
                raise RunDirectoryError(
                    self.metrics_path, key=f"line {number}", expected="a JSON object", found=line
                ) from error
        return events


def _epoch_and_step(path: Path) -> list[int]:
    """`epoch-0001` before `epoch-0001.step-00000120` before `epoch-0002`."""
    return [int(number) for number in re.findall(r"[0-9]+", path.stem)]


def holds_tuning(folder: Path) -> bool:
    """Whether a folder holds the runs that chose a study's learning rates, which are no part of the study itself."""
    return folder.name == TUNING and any(folder.glob("lr-*"))
