"""The Hugging Face Trainer with batches by length and an exact mean loss; it stops if the loss is not finite."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from msplora_core.errors import DivergenceError
from msplora_core.training.data.batches import IGNORED, LengthBatches
from msplora_core.training.tasks import METRICS, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transformers import EvalPrediction, TrainerControl, TrainerState, TrainingArguments

_MOST_NATS = 700.0  # exp(700) is finite


class AdapterTrainer(Trainer):
    """A Trainer that takes its batches from `LengthBatches`.

    Args:
        batches: the batches of this process.
        penalty: returns a penalty for the loss of an optimiser step from the model, or None.
        **kwargs: as for `transformers.Trainer`.

    Raises:
        DivergenceError: during training, if a loss is not finite.
    """

    def __init__(
        self, *, batches: LengthBatches, penalty: Callable[[Any], torch.Tensor | None] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(compute_loss_func=mean_loss, **kwargs)
        self.batches, self.penalty = batches, penalty
        self.add_callback(_EpochOrder(batches))

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator)

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, *args, **kwargs)
        penalty = self.penalty(self.accelerator.unwrap_model(model)) if self.penalty and model.training else None
        return loss if penalty is None else loss + penalty / self.args.gradient_accumulation_steps

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            epoch = int(self.state.epoch or 0) + 1
            raise DivergenceError(
                f"the loss became {loss.item()} at step {self.state.global_step + 1}, in epoch {epoch}: "
                "the run stops, and its records are kept; try a lower learning rate"
            )
        return loss


def mean_loss(
    outputs: Mapping[str, torch.Tensor], labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Return the mean loss over the batch of all processes: cross-entropy, or the squared error of scores.

    Args:
        outputs: of the model, with `logits` (n, classes), (n, 1), or (n, length, tokens).
        labels: (n,), whole numbers for classes, floats for scores; (n, length) for tokens, each predicted from earlier
            ones unless it is `IGNORED`.
        num_items_in_batch: examples, or tokens to predict, in the whole batch; by default those given.
    """
    logits = outputs["logits"]
    if labels.ndim == 2:
        logits, labels = _predictions(logits, labels)
    logits = logits.float()
    if labels.is_floating_point():
        total = mse_loss(logits.squeeze(-1), labels, reduction="sum")
    else:
        total = cross_entropy(logits, labels, reduction="sum")
    return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)


def _predictions(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits (n, tokens) of the tokens to predict, and these tokens (n,)."""
    following = labels[:, 1:]
    known = following != IGNORED
    return logits[:, :-1][known], following[known]


def token_totals(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return for each example the summed loss of its tokens and the numbers of correct predictions and of tokens.

    Args:
        logits: (n, length, tokens).
        labels: (n, length).

    Returns:
        (n, 3).
    """
    predicted, following = logits[:, :-1].float(), labels[:, 1:]
    loss = cross_entropy(predicted.transpose(1, 2), following, ignore_index=IGNORED, reduction="none").sum(1)
    right, tokens = (predicted.argmax(-1) == following).sum(1), (following != IGNORED).sum(1)
    return torch.stack([loss, right, tokens], 1)


def token_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Return the share of correctly predicted tokens, the mean loss of a token in nats, and its exponential.

    Args:
        prediction: its predictions are the totals from `token_totals`.
    """
    loss, right, tokens = prediction.predictions.sum(axis=0, dtype="float64")
    mean = float(loss / tokens)
    return {"token_accuracy": float(right / tokens), "loss": mean, "perplexity": math.exp(min(mean, _MOST_NATS))}


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
