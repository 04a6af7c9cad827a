"""AdaLoRA, whose budget of ranks depends on the step of the training (Zhang et al. 2303.10512)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from msplora_core.errors import ParameterError
from msplora_core.training.attaching.peft_attachment import PeftAttachment

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import TrainerControl, TrainerState, TrainingArguments

_STATE = "adalora.safetensors"
_START, _END = 0.15, 0.5
"""Shares of the steps before the first pruning and after the last, about as in the paper for GLUE."""


class AdaLoraAttachment(PeftAttachment):
    """AdaLoRA with its schedule over the whole training; `tinit` and `tfinal` are steps, as in PEFT."""

    extendable = False

    def peft_config(self, base: Any, steps: int) -> PeftConfig:
        if steps < 2:
            raise ParameterError("epochs", expected="at least 2 optimiser steps, for adalora", found=f"{steps} step")
        # PEFT prunes `tfinal` steps before the end, by importance that it does not have at the first step.
        latest = steps - 2
        options = {
            "tinit": int(_START * steps),
            "tfinal": min(int(_END * steps), latest),
            **(self.config.options or {}),
        }
        if options["tfinal"] > latest:
            raise ParameterError(
                "options: tfinal", expected=f"at most {latest:,}, 2 below the steps", found=options["tfinal"]
            )
        if options["tinit"] + options["tfinal"] >= steps:
            raise ParameterError(
                "options",
                expected=f"tinit + tfinal below the {steps:,} steps of the training",
                found=options["tinit"] + options["tfinal"],
            )
        config = super().peft_config(base, steps)
        config.tinit, config.tfinal, config.total_step = options["tinit"], options["tfinal"], steps
        if config.init_r <= config.target_r:
            raise ParameterError("options: init_r", expected=f"above the rank {config.target_r}", found=config.init_r)
        return config

    def _shared(self, base: Any) -> dict[str, Any]:
        rank = self.config.rank or 1
        return {"init_r": rank + max(rank // 2, 1), **super()._shared(base)}

    def callbacks(self) -> list[TrainerCallback]:
        return [RankSchedule()]

    def penalty(self, model: Any) -> torch.Tensor:
        """Return the orthogonality penalty: the weighted mean of ‖PᵀP − I‖ over all factors."""
        weight = model.peft_config[model.active_adapter].orth_reg_weight
        norms = []
        for name, factor in model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                product = factor @ factor.T if "lora_A" in name else factor.T @ factor
                norms.append(torch.linalg.matrix_norm(product - torch.eye(len(product), device=product.device)))
        penalty: torch.Tensor = weight * torch.stack(norms).mean()
        return penalty


class RankSchedule(TrainerCallback):
    """Prune triplets after each optimiser step by PEFT's allocation.

    Checkpoints hold all triplets with their importance and the pruned ones, so that a resumed training continues
    exactly. The final adapter holds the remaining triplets only.
    """

    pattern: dict[str, Any] | None = None

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        tuner = model.base_model
        config = tuner.peft_config[tuner.trainable_adapter_name]
        config.rank_pattern = self.pattern
        tuner.update_and_allocate(state.global_step + 1)
        self.pattern, config.rank_pattern = config.rank_pattern, None  # with it, PEFT would prune checkpoints

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            allocator = model.base_model.rankallocator
            tensors = {f"importance/{name}": value for name, value in allocator.exp_avg_ipt.items()}
            tensors |= {f"uncertainty/{name}": value for name, value in allocator.exp_avg_unc.items()}
            tensors |= {f"kept/{name}": torch.tensor(kept) for name, kept in (self.pattern or {}).items()}
            save_file(tensors, _state_path(args, state))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        if not state.global_step:
            return
        found: dict[str, dict[str, torch.Tensor]] = {"importance": {}, "uncertainty": {}, "kept": {}}
        for name, value in load_file(_state_path(args, state)).items():
            kind, _, parameter = name.partition("/")
            found[kind][parameter] = value.to(model.device)
        allocator = model.base_model.rankallocator
        allocator.exp_avg_ipt, allocator.exp_avg_unc = found["importance"], found["uncertainty"]
        allocator.ipt = dict(found["importance"])  # overwritten at every step
        self.pattern = {name: kept.tolist() for name, kept in found["kept"].items()} or None

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        model.peft_config[model.active_adapter].rank_pattern = self.pattern


def _state_path(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / _STATE
