"""Whether a recorded run has the settings that are wanted now."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING

from msplora_core.errors import ParameterError
from msplora_core.training.models import PACKAGED_MODEL, model_label

if TYPE_CHECKING:
    from msplora_core.runs import RunDirectory, RunRecord
    from msplora_core.training.run_config import RunConfig


def other_setting(config: RunConfig, run: RunDirectory, record: RunRecord) -> ParameterError | None:
    """Return the error on the first setting in which a run differs from its configuration, or None.

    More epochs are no difference: a run may continue.

    Args:
        config: the run as wanted.
        run: its directory.
        record: its record.
    """
    found = {"model": record.model, **record.hyperparameters}
    wanted = {"model": model_label(config.model) or PACKAGED_MODEL, **config.hyperparameters()}
    defaults = {field.name: field.default for field in fields(config)}  # for settings missing in older records
    for name, value in json.loads(json.dumps(wanted)).items():
        there = found.get(name, defaults.get(name))
        if there != value and not (name == "epochs" and isinstance(there, int) and there < config.epochs):
            return unlike(name, there, value, run)
    return None


def unlike(name: str, there: object, value: object, run: RunDirectory) -> ParameterError:
    """Return the error on a setting that differs."""
    return ParameterError(name, expected=f"{there!r}, as in the run to resume, {run.path}", found=value)
