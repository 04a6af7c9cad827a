"""DoRA over the pyramid: what it is, and what becomes of the magnitudes in use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from msplora_core import convert_to_pyramid, read_adapter
from msplora_core.adapter import MSPLoraConfig, read_components, set_trainable_scales
from msplora_core.conversion import convert_to_lora
from msplora_core.conversion.disk import convert_adapter
from msplora_core.errors import ParameterError
from msplora_core.methods import configured_name, title

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def trained(adapted: Callable, layers_of: Callable) -> Callable[..., nn.Module]:
    """Makes the six-layer RoBERTa with magnitudes that training has changed."""

    def make(**changes: object) -> nn.Module:
        model = adapted(use_dora=True, **changes)
        change_magnitudes(layers_of(model))
        return model

    return make


def change_magnitudes(layers: dict, adapter: str = "default") -> None:
    for layer in layers.values():
        layer.msplora_magnitude[adapter].weight.data *= 0.5 + torch.rand(32)


def output(model: nn.Module, tokens: torch.Tensor, **kwargs: object) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=tokens, **kwargs).logits


def test_rows_of_the_merged_weight_have_the_magnitudes_as_norms(trained: Callable, layers_of: Callable) -> None:
    """W' = m · (W + ΔW) / ‖W + ΔW‖, with the sum of the three scales as ΔW."""
    model = trained()
    total = {c.key: c.update for c in read_components(model) if c.key.scale == "total"}
    for layer in layers_of(model).values():
        site = layer.site["default"]
        update = next(u for key, u in total.items() if (key.module, key.unit) == (site.module, site.layer))
        weight = layer.get_base_layer().weight
        direction = weight.double() + torch.from_numpy(update.scaling * update.B @ update.A).double()
        magnitude = layer.msplora_magnitude["default"].weight
        wanted = magnitude[:, None] * direction / direction.norm(dim=1, keepdim=True)
        layer.merge()
        assert torch.allclose(layer.get_base_layer().weight.double(), wanted, **CLOSE)
        assert torch.allclose(layer.get_base_layer().weight.norm(dim=1), magnitude, **CLOSE)


def test_each_layer_has_magnitudes_of_its_own(adapted: Callable, tokens: torch.Tensor) -> None:
    plain, dora = adapted(), adapted(use_dora=True)
    counts = [model.get_nb_trainable_parameters()[0] for model in (plain, dora)]
    assert counts[1] - counts[0] == 6 * 2 * 32
    dora(input_ids=tokens).logits.square().sum().backward()
    magnitudes = [p for name, p in dora.named_parameters() if "magnitude" in name]
    assert len(magnitudes) == 12
    assert all(p.grad.any() for p in magnitudes)


def test_two_adapters_merge_as_they_act(
    trained: Callable, config: Callable, layers_of: Callable, base_model: Callable, tokens: torch.Tensor
) -> None:
    model = trained()
    model.add_adapter("other", config(use_dora=True, ranks=(4, 0, 2)))
    change_magnitudes(layers_of(model), "other")
    model.add_adapter("plain", config(ranks=(2, 2, 2)))
    model.base_model.set_adapter(["default", "plain", "other"])
    wanted = output(model, tokens)
    model.merge_adapter()
    assert torch.allclose(output(model, tokens), wanted, **CLOSE)
    with model.disable_adapter():
        assert torch.allclose(output(model, tokens), output(base_model(), tokens), **CLOSE)
    model.unmerge_adapter()
    assert torch.allclose(output(model, tokens), wanted, **CLOSE)
    assert torch.allclose(output(model.merge_and_unload(safe_merge=True), tokens), wanted, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_bases(base_model: Callable, config: Callable, tokens: torch.Tensor, dtype: torch.dtype) -> None:
    model = get_peft_model(base_model(dtype), config(use_dora=True)).eval()
    assert {p.dtype for name, p in model.named_parameters() if "magnitude" in name} == {torch.float32}
    wanted = output(model, tokens)
    assert wanted.dtype == dtype
    model.merge_adapter()
    assert torch.allclose(output(model, tokens).float(), wanted.float(), atol=0.1)
    model.unmerge_adapter()
    assert torch.allclose(output(model, tokens).float(), wanted.float(), atol=0.1)


def test_a_row_of_zeros_stays_finite() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    model[0].weight.data[1] = 0
    dora = get_peft_model(model, MSPLoraConfig(ranks=(0, 0, 2), target_modules=["0"], use_dora=True))
    x = torch.randn(5, 4)
    for _ in range(3):
        dora.zero_grad()
        dora(x).square().sum().backward()
        with torch.no_grad():
            for parameter in dora.parameters():
                parameter -= 0.01 * parameter.grad if parameter.grad is not None else 0
    wanted = dora(x)
    assert torch.isfinite(wanted).all()
    assert torch.allclose(dora.merge_and_unload()(x), wanted, **CLOSE)


def test_gradient_checkpointing_and_autocast(trained: Callable, tokens: torch.Tensor) -> None:
    model = trained().train()
    model(input_ids=tokens).logits.square().sum().backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.gradient_checkpointing_enable()
    model(input_ids=tokens).logits.square().sum().backward()
    assert all(torch.allclose(p.grad, wanted[name], **CLOSE) for name, p in model.named_parameters() if name in wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(model(input_ids=tokens).logits).all()


def test_magnitudes_train_with_the_layer_scale(trained: Callable) -> None:
    model = trained()
    for scales, trains in ((["global"], False), (["layer"], True)):
        set_trainable_scales(model, scales)
        assert {p.requires_grad for name, p in model.named_parameters() if "magnitude" in name} == {trains}


def test_spectra_are_those_of_the_low_rank_part(trained: Callable, adapted: Callable, tmp_path: Path) -> None:
    model = trained()
    model.save_pretrained(tmp_path)
    stored = read_adapter(tmp_path)
    assert stored.method == "mspdora-8-4-2" == configured_name(model.peft_config["default"].to_dict())
    assert title(stored.method) == "MSPDoRA 8/4/2"
    assert stored.notes[0].startswith("DoRA: spectra of the low-rank part only")
    live = {c.key: c.update.singular_values() for c in read_components(model)}
    for key, update in zip(stored.keys, stored.updates, strict=True):
        assert update.load().singular_values() == pytest.approx(live[key], rel=1e-5)


def test_conversion_to_plain_lora_keeps_the_magnitudes(
    trained: Callable, base_model: Callable, tokens: torch.Tensor, tmp_path: Path
) -> None:
    model = trained(target_modules=["query", "value", "word_embeddings"])
    wanted = output(model, tokens)
    converted = convert_to_lora(model)
    assert converted.peft_config["default"].use_dora
    assert torch.allclose(output(converted, tokens), wanted, **CLOSE)
    model.save_pretrained(tmp_path / "msplora")
    convert_adapter(tmp_path / "msplora", tmp_path / "lora")
    assert torch.allclose(output(PeftModel.from_pretrained(base_model(), tmp_path / "lora"), tokens), wanted, **CLOSE)


def test_dora_of_lora_is_cut_down_and_becomes_a_pyramid(
    base_model: Callable, tokens: torch.Tensor, tmp_path: Path
) -> None:
    """A pyramid of rank 4 at the layer scale alone holds LoRA of rank 4 without a loss."""
    config = LoraConfig(r=4, target_modules=["query", "value"], use_dora=True, init_lora_weights=False)
    model = get_peft_model(base_model(), config).eval()
    for name, parameter in model.named_parameters():
        if "magnitude" in name:
            parameter.data *= 0.5 + torch.rand_like(parameter)
    wanted = output(model, tokens)
    model.save_pretrained(tmp_path / "lora")
    convert_to_pyramid(tmp_path / "lora", tmp_path / "pyramid", ranks=(0, 0, 4))
    convert_adapter(tmp_path / "lora", tmp_path / "cut", rank=4)
    for folder in ("pyramid", "cut"):
        loaded = PeftModel.from_pretrained(base_model(), tmp_path / folder)
        assert torch.allclose(output(loaded, tokens), wanted, **CLOSE), folder


def test_what_dora_does_not_go_with(trained: Callable) -> None:
    model = trained()
    with pytest.raises(ParameterError, match="adapters: expected adapters without use_dora, whose norms have no sum"):
        model.add_weighted_adapter(["default"], [1.0], "sum")
