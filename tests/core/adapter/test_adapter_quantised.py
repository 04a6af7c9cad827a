"""Quantised base models, where bitsandbytes runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn

from msplora_core.adapter import MSPLoraConfig
from msplora_core.adapter.quantised import quantization_backend

bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Quantised(nn.Module):
    """Three linear modules of 64 × 64, quantised."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        kind = bnb.nn.Linear8bitLt if bits == 8 else bnb.nn.Linear4bit
        settings = {"has_fp16_weights": False} if bits == 8 else {"compute_dtype": torch.float32}
        self.blocks = nn.ModuleList(nn.ModuleDict({"lin": kind(64, 64, **settings)}) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block["lin"](x)
        return x


@pytest.fixture(params=[4, 8])
def base(request: pytest.FixtureRequest):
    def make() -> nn.Module:
        torch.manual_seed(0)
        return Quantised(request.param).to(DEVICE)

    return make


@pytest.mark.parametrize("use_dora", [False, True])
def test_trains_saves_loads_and_merges(base, tmp_path: Path, use_dora: bool) -> None:
    config = MSPLoraConfig(target_modules=["lin"], init_lora_weights=False, lora_alpha=1, use_dora=use_dora)
    model = get_peft_model(base(), config)
    assert quantization_backend(model.base_model.model.blocks[0]["lin"].get_base_layer()) is not None
    x = torch.randn(4, 64, device=DEVICE)
    model(x).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.save_pretrained(tmp_path)
    with torch.no_grad():  # bitsandbytes takes other kernels, and rounds otherwise, where gradients are kept
        before = model.eval()(x)
        assert torch.allclose(PeftModel.from_pretrained(base(), tmp_path)(x), before, atol=1e-4)
        plain = base().eval()(x)
        # On processors a forward pass repacks the weights for good, after which they cannot be merged into.
        merged = PeftModel.from_pretrained(base(), tmp_path).merge_and_unload()(x)
    assert (merged - before).norm() < 0.5 * (plain - before).norm()
