"""The run directory: the only connection between training and analysis."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import FileError, RunDirectoryError
from msplora_core.runs.record import RunRecord
from msplora_core.runs.snapshot import LAST_EPOCH, LAST_STEP, Snapshot, read_snapshot, write_snapshot
from msplora_core.storage.atomic import append_line, write_atomically
from msplora_core.storage.folder import inside
from msplora_core.storage.json_file import LONGEST_NAME, TornLineError, is_printable_name, read_json_lines
from msplora_core.storage.strict_json import plain
from msplora_core.wording import natural_order

TUNING = "tuning"
"""Subfolder of a study with the runs that chose its learning rates, in `lr-*`."""


class RunDirectory:
    """A run's folder: `run.json`, `metrics.jsonl`, `snapshots/`, `adapter/`, `checkpoints/`, `analysis/`.

    Args:
        path: the folder; created when something is written.

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

    def snapshot_path(self, epoch: float, step: int = 0) -> Path:
        """Return the path of the snapshot at an epoch's end, or of the one at a step within an epoch."""
        within = "" if float(epoch).is_integer() else f".step-{step:08d}"
        return self.path / "snapshots" / f"epoch-{int(epoch):04d}{within}.safetensors"

    @staticmethod
    def is_run(path: Path) -> bool:
        """Whether a folder is a run directory: it has a run.json, even one that cannot be read."""
        return os.path.lexists(path / "run.json")

    def read_record(self) -> RunRecord:
        """Return the record of the run.

        Raises:
            FileError: if run.json is missing, malformed, or leads out of the run directory.
        """
        return RunRecord.read(inside(self.path, self.record_path.name))

    def write_record(self, record: RunRecord) -> None:
        record.write(self.record_path)

    def write_epoch(self, epoch: int, *, step: int, spectra: Mapping[str, NDArray[np.float64]]) -> None:
        """Record the spectra at an epoch's end (epoch 0: before the first step)."""
        self.write_snapshot(Snapshot(epoch, step, spectra))

    def write_snapshot(self, snapshot: Snapshot) -> None:
        """Record a snapshot at an epoch's end, or within an epoch where its epoch is a fraction."""
        write_snapshot(self.snapshot_path(snapshot.epoch, snapshot.step), snapshot)

    def snapshot_paths(self) -> list[Path]:
        """Return the snapshot files in the order of training, by their names.

        Raises:
            FileError: if the folder leads out of the run directory, or holds more than `MOST_SNAPSHOTS`.
        """
        folder = inside(self.path, "snapshots")
        paths = [path for path in folder.glob("epoch-*.safetensors") if _SNAPSHOT.fullmatch(path.name)]
        if len(paths) > MOST_SNAPSHOTS:
            raise RunDirectoryError(folder, expected=f"at most {MOST_SNAPSHOTS} snapshots", found=len(paths))
        return sorted(paths, key=lambda path: natural_order(path.name))

    def snapshots(self, errors: list[FileError] | None = None) -> Iterator[Snapshot]:
        """Return the snapshots in the order of training, one in memory at a time.

        Args:
            errors: if given, receives the error of each file that cannot be read, and the others are read;
                otherwise the first such error is raised.
        """
        for path in self.snapshot_paths():
            try:
                if path.is_symlink():
                    inside(self.path, f"{path.parent.name}/{path.name}")
                yield read_snapshot(path)
            except FileError as error:
                if errors is None:
                    raise
                errors.append(error)

    def append_metrics(self, event: Mapping[str, Any]) -> None:
        """Append one event to metrics.jsonl and flush it to the disk; numbers that are not finite become null."""
        append_line(self.metrics_path, json.dumps(plain(event), allow_nan=False))

    def record_scores(self, epoch: float, step: int, scores: Mapping[str, float]) -> None:
        """Add scores of an epoch to metrics.jsonl, replacing scores of the same names and epoch."""
        names = {f"eval_{name}": value for name, value in scores.items()}
        events = [
            {key: value for key, value in event.items() if event.get("epoch") != epoch or key not in names}
            for event in self.read_metrics()
        ]
        events = [event for event in events if event.keys() - {"step", "epoch"}]
        events.append({"step": step, "epoch": epoch, **names})
        lines = [json.dumps(plain(event), allow_nan=False) + "\n" for event in events]
        write_atomically(self.metrics_path, "".join(lines).encode())

    def read_metrics(self, errors: list[FileError] | None = None) -> list[dict[str, Any]]:
        """Return the events of metrics.jsonl in order; none if there is no such file.

        Args:
            errors: if given, receives the error of each invalid line, and of a last line that was cut short;
                the other lines are returned. Otherwise the first error is raised, and a last line that was cut
                short is left out.

        Raises:
            FileError: if the file is too large, not a regular file, or leads out of the run directory.
        """
        if not self.metrics_path.exists() and not self.metrics_path.is_symlink():
            return []
        path, found, events = inside(self.path, self.metrics_path.name), list[FileError](), []
        for place, event in read_json_lines(path, found):
            try:
                _check_event(path, place, event)
                events.append(event)
            except FileError as error:
                found.append(error)
        if errors is not None:
            errors += found
        elif damaged := [error for error in found if not isinstance(error, TornLineError)]:
            raise damaged[0]
        return events


MOST_SNAPSHOTS = 100_000
_SNAPSHOT = re.compile(r"epoch-[0-9]{4,}(\.step-[0-9]{8,})?\.safetensors")


def holds_tuning(folder: Path) -> bool:
    """Whether a folder holds the runs that chose a study's learning rates, which are not part of the study itself."""
    return folder.name == TUNING and any(folder.glob("lr-*"))


def _check_event(path: Path, place: str, event: Mapping[str, Any]) -> None:
    """Refuse an event with unprintable names, or an invalid epoch or step."""
    for name in event:
        if not is_printable_name(name):
            expected = f"printable names of at most {LONGEST_NAME} characters"
            raise FileError(path, key=place, expected=expected, found=repr(name)[:80])
    for name, expected, last in (("epoch", "a number", LAST_EPOCH), ("step", "a whole number", LAST_STEP)):
        value = event.get(name, 0)
        kinds = (int, float) if name == "epoch" else (int,)
        if type(value) not in kinds or not 0 <= value <= last:
            raise FileError(path, key=f"{place}: {name}", expected=f"{expected} from 0 to {last}", found=value)
