"""Checks of several runs before the first one trains."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msplora_core.errors import ParameterError
from msplora_core.training.attaching.attachment import attachment_of
from msplora_core.training.data.task_data import read_task
from msplora_core.training.models import empty_base, model_source, quiet_transformers
from msplora_core.training.tasks import task_named
from msplora_core.training.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from msplora_core.training.data.task_data import TaskData
    from msplora_core.training.run_config import RunConfig

_SOME_STEPS = 1_000_000  # the real number is known only after the data are encoded


def check_fit(config: RunConfig) -> Any:
    """Attach a run's method to its model without weights, to find errors before the weights are loaded.

    Returns:
        The model, on the device `meta`.

    Raises:
        ParameterError: if the model cannot be loaded or is of the wrong kind for the task, or targets, ranks, groups or
            options do not fit it.
        NotImplementedError: if the method cannot be attached without weights.
    """
    import torch

    model = empty_base(config)
    with torch.device("meta"):
        return attachment_of(config).attach(model, _SOME_STEPS)


def trained_parameters(config: RunConfig) -> tuple[int, int]:
    """Return the numbers of trained parameters of a run: of its method, and of the task's head.

    Raises:
        ParameterError, NotImplementedError: as `check_fit`.
    """
    base = empty_base(config)
    heads = {name for name, _ in base.named_children()} - {base.base_model_prefix}
    own = head = 0
    for name, weight in check_fit(config).named_parameters():
        if weight.requires_grad:
            of_head = name.removeprefix("base_model.model.").partition(".")[0] in heads
            own, head = own + weight.numel() * (not of_head), head + weight.numel() * of_head
    return own, head


def check_inputs(configs: Iterable[RunConfig]) -> dict[str, TaskData]:
    """Check that each adapter fits its model, and read the data of each task.

    Args:
        configs: runs with the same `data_dir`. Runs that differ in their seed only are checked once.

    Returns:
        The examples by task.

    Raises:
        ParameterError: if a model cannot be loaded or has no tokenizer, or targets, ranks or groups do not fit it; or
            if two different runs have the same name.
        MissingDependencyError: if a package that a method needs is not installed.
        DataFileError: if a file is missing or malformed.
    """
    configs = list(configs)
    _check_names(configs)
    with quiet_transformers():
        for config in {
            f"{config.task} {config.model} {config.hyperparameters()}": config for config in configs
        }.values():
            attachment_of(config).loading()
            with suppress(NotImplementedError):
                check_fit(config)
            load_tokenizer(model_source(config.model))
    return {name: read_task(task_named(name), config.data_dir) for name, config in {c.task: c for c in configs}.items()}


def _check_names(configs: Iterable[RunConfig]) -> None:
    """Refuse different runs of the same name, which would write to the same run directory."""
    named: dict[Path, RunConfig] = {}
    for config in configs:
        other = named.setdefault(config.path, config)
        for field in fields(config):
            values = [getattr(one, field.name) for one in (other, config)]
            if values[0] != values[1]:
                raise ParameterError(
                    field.name,
                    expected=f"one value for all runs named {config.name}",
                    found=" and ".join(map(str, values)),
                    hint="give one of them another --out" + (", or rename its file" if field.name == "task" else ""),
                )
