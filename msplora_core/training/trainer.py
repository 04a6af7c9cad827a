"""The Hugging Face Trainer with batches by length and an exact mean loss; it stops at a loss that is not finite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from msplora_core.errors import DivergenceError
from msplora_core.training.data.batches import LengthBatches
from msplora_core.training.tasks import METRICS, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transformers import EvalPrediction, TrainerControl, TrainerState, TrainingArguments


class AdapterTrainer(Trainer):
    """A Trainer that takes its batches from `LengthBatches`.

    Args:
        batches: the batches of this process.
        **kwargs: those of `transformers.Trainer`.

    Raises:
        DivergenceError: during training, if a loss is not finite.
    """

    def __init__(self, *, batches: LengthBatches, **kwargs: Any) -> None:
        super().__init__(compute_loss_func=mean_loss, **kwargs)
        self.batches = batches
        self.add_callback(_EpochOrder(batches))

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            epoch = int(self.state.epoch or 0) + 1
            raise DivergenceError(
                f"the loss became {loss.item()} at step {self.state.global_step + 1}, in epoch {epoch}: "
                "the run stops, what it recorded stays; a lower learning rate may help"
            )
        return loss


def mean_loss(
    outputs: Mapping[str, torch.Tensor], labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Return the mean loss over the batch of all processes: cross-entropy of classes, squared error of scores.

    Args:
        outputs: the model's, with `logits` (n, classes) or (n, 1).
        labels: (n,), whole numbers for classes, floats for scores.
        num_items_in_batch: examples in the whole batch; n where not given.
    """
    logits = outputs["logits"].float()
    if labels.is_floating_point():
        total = mse_loss(logits.squeeze(-1), labels, reduction="sum")
    else:
        total = cross_entropy(logits, labels, reduction="sum")
    return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)


def task_metrics(task: Task) -> Callable[[EvalPrediction], dict[str, float]]:
    """Return the Trainer's `compute_metrics` for a task: its metric, and the mean loss over all examples."""

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        outputs, labels = prediction.predictions, prediction.label_ids
        loss = mean_loss({"logits": torch.as_tensor(outputs)}, torch.as_tensor(labels))
        return {task.metric: METRICS[task.metric](outputs, labels), "loss": loss.item()}

    return compute


class _EpochOrder(TrainerCallback):
    """Set the epoch of the batches, also after resuming."""

    def __init__(self, batches: LengthBatches) -> None:
        self.batches = batches

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.batches.set_epoch(round(state.epoch or 0))
