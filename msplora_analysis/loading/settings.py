"""The settings of trainings, as their records hold them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from msplora_analysis.loading.sources import run_directories
from msplora_core.errors import FileError
from msplora_core.storage.json_file import plain_text

Settings = Mapping[str, Mapping[str, Any]]
"""Of each run, by their names in `RunConfig`."""


def load_settings(path: str | os.PathLike[str]) -> Settings:
    """Read the settings of the runs of a study from run.json.

    Args:
        path: a run directory, or a folder of such. Adapters without run directory have none, nor damaged runs.

    Returns:
        By run the hyper-parameters that are a text, a number, a truth value or a list of texts; and `task` as
        `msplora-analyze train` names it: the file of instructions, or the task. Older records lack the file's name; it
        is taken to end in .json.
    """
    found = dict[str, Mapping[str, Any]]()
    for name, run in run_directories(path):
        try:
            record = run.read_record()
        except FileError:  # `load_spectra` warns of it
            continue
        task = record.data_file or (f"{record.task}.json" if record.data else record.task)
        known = {key: _printable(value) for key, value in record.hyperparameters.items()}
        found[name] = {key: value for key, value in known.items() if value is not None} | {"task": task}
    return found


def _printable(value: Any) -> Any:
    """A value of an untrusted record as it can be printed; None for what a command does not take."""
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, list):
        return [plain_text(one) for one in value] if all(isinstance(one, str) for one in value) else None
    return value if isinstance(value, int | float) else None
