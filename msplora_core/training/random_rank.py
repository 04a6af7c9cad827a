"""DyLoRA: LoRA whose factors can be truncated at any rank, since each step trains a random rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import TrainerCallback

from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    import torch
    from transformers import TrainerControl, TrainerState, TrainingArguments


class RandomRank(TrainerCallback):
    """Train a LoRA of PEFT at a random rank b each optimiser step (DyLoRA, arXiv 2210.07558, Algorithm 1).

    In training, each adapted layer adds (α/b)·B[:, :b]·A[:b]·x, with b drawn uniformly from 1 to the rank r, the same
    in all layers. The gradients of the rows and columns above b are zero. Evaluation and the saved adapter have the
    full rank and the scaling α/r. If ranks differ between layers, b is drawn up to the highest, and a layer of lower
    rank is used in full.

    As in the authors' code, AdamW's momentum and weight decay move the rows above b slightly, too. Their variant
    `frozen`, which trains row and column b only and is off by default, is not supported.

    b depends on the seed and the step only: it is the same in all processes of a run and after a resume.

    Args:
        seed: of the random ranks.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.rank, self.highest = seed, 0, 0
        self._hooks: list[Any] = []

    def rank_at(self, step: int) -> int:
        """Return b at a step, counted from 0."""
        return int(np.random.default_rng([self.seed, step]).integers(1, self.highest, endpoint=True))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        from peft.tuners.lora import Linear

        down = [A for layer in model.modules() if isinstance(layer, Linear) for A in layer.lora_A.values()]
        if not down:
            raise ParameterError("model", expected="linear modules with LoRA of PEFT", found=type(model).__name__)
        self.highest = max(A.out_features for A in down)
        self._hooks = [A.register_forward_hook(self._cut) for A in down]

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.rank = self.rank_at(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def _cut(self, A: torch.nn.Module, _: Any, hidden: torch.Tensor) -> torch.Tensor | None:
        """Keep the first b of the r numbers between A and B, times r/b."""
        highest = hidden.shape[-1]
        rank = min(self.rank, highest)
        if not A.training or rank == highest:
            return None
        scaled = hidden.new_zeros(highest)
        scaled[:rank] = highest / rank
        return hidden * scaled
