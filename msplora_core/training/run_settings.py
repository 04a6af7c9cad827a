"""Whether a recorded run has the settings that are wanted now."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

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
    for name, there, value in differences({"model": record.model, **record.hyperparameters}, config):
        if not (name == "epochs" and isinstance(there, int) and there < config.epochs):
            return unlike(name, there, value, run)
    return None


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Return the settings that determine a run on its task with its seed, as JSON holds them."""
    settings = {"model": model_label(config.model) or PACKAGED_MODEL, **config.hyperparameters()}
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def differences(found: Mapping[str, Any], config: RunConfig) -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings that differ, each with its name, the recorded value and that of the configuration.

    Args:
        found: recorded settings; one that is missing, as in older records, has its default.
        config: the run as wanted.
    """
    defaults = {field.name: field.default for field in fields(config)}
    for name, value in settings_of(config).items():
        there = found.get(name, defaults.get(name))
        if there != value:
            yield name, there, value


def unlike(name: str, there: object, value: object, run: RunDirectory) -> ParameterError:
    """Return the error on a setting that differs."""
    return ParameterError(name, expected=f"{there!r}, as in the run to resume, {run.path}", found=value)
