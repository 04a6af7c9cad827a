"""One training step, and one adapted layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.target import Line, Target
from benchmarks.timing import Bench

if TYPE_CHECKING:
    import torch

_BATCH, _TOKENS = 8, 64
_DROPOUT = 0.05
_MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
_MODELS = {"MiniLM-L6 size": _MINILM, "RoBERTa-base size": {}}


def training_step(bench: Bench) -> list[Line]:
    """Forward, backward, optimiser: MSPLoRA 8/4/2 and PEFT's LoRA r=8 on the same model, batch and dropout."""
    from peft import LoraConfig

    from msplora_core.adapter import MSPLoraConfig

    shared: dict[str, Any] = {
        "target_modules": ["query", "value"],
        "lora_alpha": 16,
        "lora_dropout": _DROPOUT,
        "task_type": "SEQ_CLS",
    }
    lines = []
    for name, size in _MODELS.items():
        found = bench.medians(
            {
                "ours": _step(size, MSPLoraConfig(ranks=(8, 4, 2), **shared)),
                "peer": _step(size, LoraConfig(r=8, **shared)),
            },
            rounds=61,
            seconds=8.0,
        )
        work = f"training step, MSPLoRA 8/4/2, {name}, {_BATCH} × {_TOKENS} tokens"
        lines.append(Line(work, "PEFT's LoRA r=8", found["ours"], found["peer"], Target("at most", 1.0)))
    return lines


def joined_product(bench: Bench) -> list[Line]:
    """One adapted layer, forward and backward: all scales in one product, or a separate branch for each."""
    import torch
    from peft import get_peft_model
    from torch import nn

    from msplora_core.adapter import MSPLoraConfig

    width, layers = 768, 12
    stack = nn.ModuleList(nn.ModuleDict({"query": nn.Linear(width, width)}) for _ in range(layers))
    config = MSPLoraConfig(ranks=(8, 4, 2), target_modules=["query"], lora_dropout=_DROPOUT, init_lora_weights=False)
    model = get_peft_model(nn.ModuleDict({"layers": stack}), config).train()
    layer = model.base_model.model["layers"][0]["query"]
    x = torch.randn(_BATCH, _TOKENS, width, requires_grad=True)
    gradient = torch.randn(_BATCH, _TOKENS, width)
    calls = {
        "ours": lambda: torch.autograd.backward(layer(x), gradient),
        "branches": lambda: torch.autograd.backward(_branches(layer, x), gradient),
    }
    found = bench.medians(calls, rounds=41)
    work = f"one adapted layer, MSPLoRA 8/4/2, joined product, {width} wide, {_BATCH} × {_TOKENS} tokens"
    return [Line(work, "three branches", found["ours"], found["branches"], Target("faster", 1.3))]


def _branches(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """Return the layer's output computed literally by Eq. 4 of arXiv 2503.21838: a LoRA branch for each scale."""
    result: torch.Tensor = layer.base_layer(x)
    for scale, scaling in layer.scaling["default"].items():
        A, B = layer.components(scale)["default"]()
        result = result + layer.msplora_dropout["default"](x) @ A.T @ B.T * scaling
    return result


def _step(size: dict[str, int], config: Any) -> Callable[[], object]:
    import torch
    from peft import get_peft_model
    from transformers import RobertaConfig, RobertaForSequenceClassification

    torch.manual_seed(0)
    model = get_peft_model(RobertaForSequenceClassification(RobertaConfig(**size, num_labels=2)), config).train()
    optimiser = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-4)
    batch = {
        "input_ids": torch.randint(5, 30000, (_BATCH, _TOKENS)),
        "attention_mask": torch.ones(_BATCH, _TOKENS, dtype=torch.long),
        "labels": torch.randint(0, 2, (_BATCH,)),
    }

    def step() -> None:
        optimiser.zero_grad()
        model(**batch).loss.backward()
        optimiser.step()

    return step
