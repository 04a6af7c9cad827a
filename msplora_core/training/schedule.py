"""Train scale by scale: in each phase some scales train and the others are frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class ScaleSchedule(TrainerCallback):
    """Divide the epochs evenly into phases; in each, the named scales of MSPLoRA train and the others are frozen.

    Works in any `transformers.Trainer`; all scales must be trainable when training begins.

    Args:
        phases: the scales that train in each phase, in order: `[["global"], ["mid"], ["layer"]]`.
    """

    def __init__(self, phases: Sequence[Sequence[str]]) -> None:
        self.phases = phases

    def phase(self, epoch: int, epochs: int) -> Sequence[str]:
        """Return the scales that train in an epoch, counted from 0.

        Example:
            >>> schedule = ScaleSchedule([["global"], ["mid", "layer"]])
            >>> [schedule.phase(epoch, 3) for epoch in range(3)]
            [['global'], ['global'], ['mid', 'layer']]
        """
        return self.phases[epoch * len(self.phases) // epochs]

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        from msplora_core.adapter import set_trainable_scales

        set_trainable_scales(model, self.phase(round(state.epoch or 0), state.num_train_epochs))
