"""The interface of a method in a training: attach it to a model, read its weight updates, save it."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import TrainerCallback

    from msplora_core.adapter.live_updates import LiveUpdates
    from msplora_core.training.run_config import RunConfig


class Attachment:
    """A method in one training. `attach` is called first.

    Args:
        config: the run.
    """

    extendable = True
    """Whether a finished run can be extended to more epochs; not if its schedule depends on their number."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    def loading(self) -> dict[str, Any]:
        """Return further arguments of `from_pretrained` for the base model.

        Raises:
            MissingDependencyError: if a package that the method needs is not installed.
        """
        return {}

    def attach(self, base: Any, steps: int) -> Any:
        """Return the model to train.

        Args:
            base: the base model with its head; may be without weights, on the device `meta`.
            steps: optimiser steps of the whole training.

        Raises:
            ParameterError: if settings or options do not fit the model.
            NotImplementedError: if that cannot be checked without weights.
        """
        raise NotImplementedError

    def updates(self, model: Any) -> LiveUpdates:
        """Return an object that reads the weight updates of the model."""
        raise NotImplementedError

    def configuration(self, model: Any) -> dict[str, Any]:
        """Return the method's own configuration, for run.json."""
        raise NotImplementedError

    def callbacks(self) -> list[TrainerCallback]:
        """Return callbacks that the training needs."""
        return []

    def penalty(self, model: Any) -> torch.Tensor | None:
        """Return a penalty to add to the loss of each optimiser step, or None."""
        return None

    def save(self, model: Any, folder: Path) -> None:
        """Save the trained weights."""
        model.save_pretrained(folder)


def attachment_of(config: RunConfig) -> Attachment:
    """Return the attachment of a run's method."""
    attachment: Attachment = resolve_name(config.method_entry.attachment)(config)
    return attachment
