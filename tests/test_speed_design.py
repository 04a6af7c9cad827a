"""What makes it fast, held without a clock."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import get_peft_model
from safetensors.numpy import save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from msplora_analysis import load_spectra
from msplora_core.adapter import MSPLoraConfig

OUT, IN = 40, 24


class Products(TorchDispatchMode):
    """The shapes of all matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm):
            self.shapes.append(tuple(result.shape))
        return result


def test_the_scales_of_an_adapted_layer_are_one_product_and_the_update_is_never_formed() -> None:
    layers = nn.ModuleList(nn.ModuleDict({"query": nn.Linear(IN, OUT)}) for _ in range(3))
    config = MSPLoraConfig(ranks=(4, 2, 1), groups=3, target_modules=["query"], lora_dropout=0.1)
    layer = get_peft_model(nn.ModuleDict({"layers": layers}), config).base_model.model["layers"][0]["query"]
    x = torch.randn(2, 7, IN, requires_grad=True)
    with Products() as forward:
        y = layer(x)
    assert len(forward.shapes) == 3  # the base, A, B
    with Products() as backward:
        y.sum().backward()
    assert len(backward.shapes) == 5  # for x through the base and A, for the hidden values, for A, for B
    assert not {(OUT, IN), (IN, OUT)} & {*forward.shapes, *backward.shapes}


def test_an_adapter_of_any_size_takes_little_memory(tmp_path: Path) -> None:
    """Some 32 MB at once, as float32 and as a batch, whatever there is on the disk."""
    factor = np.random.default_rng(0).standard_normal((32, 4096), dtype=np.float32)
    name = "base_model.model.layers.{}.q_proj.lora_{}.weight"
    tensors = {
        name.format(i, part): value for i in range(96) for part, value in (("A", factor), ("B", factor.T.copy()))
    }
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 32, "lora_alpha": 32}')
    del tensors
    tracemalloc.start()
    try:
        table = load_spectra(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == 96 * 32
    assert peak < 64e6 < (tmp_path / "adapter_model.safetensors").stat().st_size
