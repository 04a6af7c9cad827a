"""The settings of trainings, as their records hold them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from msplora_analysis.loading.sources import run_directories
from msplora_core.errors import FileError

Settings = Mapping[str, Mapping[str, Any]]
"""Of each run, by their names in `RunConfig`."""


def load_settings(path: str | os.PathLike[str]) -> Settings:
    """Read the settings of the runs of a study from run.json.

    Args:
        path: a run directory, or a folder of such. Adapters without run directory have none, nor damaged runs.

    Returns:
        By run the hyper-parameters, and `task` as `msplora-analyze train` names it: the file of instructions, or the
        task. Older records lack the file's name; it is taken to end in .json.
    """
    found = dict[str, Mapping[str, Any]]()
    for name, run in run_directories(path):
        try:
            record = run.read_record()
        except FileError:  # `load_spectra` warns of it
            continue
        task = record.data_file or (f"{record.task}.json" if record.data else record.task)
        found[name] = {**record.hyperparameters, "task": task}
    return found
