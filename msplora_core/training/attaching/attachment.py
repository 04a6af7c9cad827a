"""What every method does in a training: it is attached to a model, and its weight updates are read."""

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
    """A method in one training. `attach` comes first; the others are asked afterwards.

    Args:
        config: the run.
    """

    extendable = True
    """Whether a finished run can go on to more epochs: not where its course depends on their number."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    def loading(self) -> dict[str, Any]:
        """Return more arguments of `from_pretrained` for the base model."""
        return {}

    def attach(self, base: Any, steps: int) -> Any:
        """Return the model that trains.

        Args:
            base: the base model with its head; it may be without weights, on the device `meta`.
            steps: optimiser steps of the whole training.

        Raises:
            ParameterError: if settings or options do not fit the model.
            NotImplementedError: if that cannot be told without weights.
        """
        raise NotImplementedError

    def updates(self, model: Any) -> LiveUpdates:
        """Return what reads the weight updates of the model that trains."""
        raise NotImplementedError

    def configuration(self, model: Any) -> dict[str, Any]:
        """Return the method's own configuration, for run.json."""
        raise NotImplementedError

    def callbacks(self) -> list[TrainerCallback]:
        """Return callbacks that the training needs."""
        return []

    def penalty(self, model: Any) -> torch.Tensor | None:
        """Return what is added to the loss of each optimiser step; None for nothing."""
        return None

    def save(self, model: Any, folder: Path) -> None:
        """Save what was trained."""
        model.save_pretrained(folder)


def attachment_of(config: RunConfig) -> Attachment:
    """Return the attachment of a run's method."""
    attachment: Attachment = resolve_name(config.method_entry.attachment)(config)
    return attachment
