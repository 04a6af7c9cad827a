"""Convolutions with groups, and what is particular to convolutions otherwise."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import ResNetConfig, ResNetModel

from msplora_core.adapter import MSPLoraConfig, read_components
from msplora_core.adapter.factors import Factors
from msplora_core.components import component_spectra
from msplora_core.conversion import convert_adapter, convert_to_lora
from msplora_core.errors import ParameterError, UnsupportedAdapterError
from msplora_core.formats import read_adapter

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


class Grouped(nn.Module):
    """Four layers of convolutions with two groups."""

    def __init__(self, groups: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"conv": nn.Conv2d(4, 8, 3, padding=1, groups=groups), "back": nn.Conv2d(8, 4, 1)})
            for _ in range(4)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = torch.relu(block["back"](block["conv"](x)))
        return x


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def grouped_base() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Grouped().eval()


def grouped(**changes: object) -> PeftModel:
    settings = {"ranks": (8, 4, 2), "target_modules": ["conv"], "init_lora_weights": False} | changes
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "conv: adapters of convolutions with groups cannot be merged")
        return get_peft_model(grouped_base(), MSPLoraConfig(**settings)).eval()


def test_groups_add_up_over_the_scales(images: torch.Tensor) -> None:
    layer = grouped(lora_alpha=(3, 5, 7)).base_model.model.blocks[2]["conv"]
    wanted = layer.base_layer(images)
    for scale, alpha, rank in zip(("global", "mid", "layer"), (3, 5, 7), (8, 4, 2), strict=True):
        A, B = layer.components(scale)["default"]()
        hidden = nn.functional.conv2d(images, A, padding=1)
        wanted = wanted + nn.functional.conv2d(hidden, B, groups=2) * (alpha / rank)
    assert torch.allclose(layer(images), wanted, **CLOSE)


def test_groups_at_the_layer_scale_alone_are_lora(images: torch.Tensor) -> None:
    own = grouped(ranks=(0, 0, 4), lora_alpha=12)
    lora = get_peft_model(grouped_base(), LoraConfig(r=4, lora_alpha=12, target_modules=["conv"])).eval()
    for path, module in lora.named_modules():
        if hasattr(module, "lora_A"):
            factors = own.get_submodule(path).msplora_layer["default"]
            module.lora_A["default"].weight.data = factors.A.data.clone()
            module.lora_B["default"].weight.data = factors.B.data.clone()
    assert torch.allclose(own(images), lora(images), **CLOSE)
    assert own.get_nb_trainable_parameters()[0] == lora.get_nb_trainable_parameters()[0]


def test_components_with_groups_are_those_of_the_file_and_of_the_response(images: torch.Tensor, tmp_path: Path) -> None:
    model = grouped()
    components = {str(c.key): c.update for c in read_components(model)}
    model.save_pretrained(tmp_path)
    adapter = read_adapter(tmp_path)
    stored = {str(key): update for key, update in zip(adapter.keys, adapter.updates, strict=True)}
    assert components.keys() == stored.keys()
    for key, update in components.items():
        assert np.allclose(update.singular_values(), stored[key].load().singular_values(), rtol=1e-12)
    total = components["total/conv/1"]
    kernel = torch.from_numpy(total.scaling * total.B @ total.A).float().reshape(8, 4, 3, 3)
    layer = model.base_model.model.blocks[1]["conv"]
    response = nn.functional.conv2d(images, kernel, padding=1)
    assert torch.allclose(layer(images) - layer.base_layer(images), response, **CLOSE)


def test_groups_are_saved_and_loaded(images: torch.Tensor, tmp_path: Path) -> None:
    model = grouped()
    model.save_pretrained(tmp_path)
    assert torch.equal(PeftModel.from_pretrained(grouped_base(), tmp_path)(images), model(images))


def test_dora_of_groups_rescales_each_output_channel(images: torch.Tensor, tmp_path: Path) -> None:
    model = grouped(use_dora=True)
    layer = model.base_model.model.blocks[1]["conv"]
    plain = grouped_base().blocks[1]["conv"]
    magnitudes = layer.msplora_magnitude["default"].weight
    assert torch.allclose(layer(images), plain(images) + layer.update(images, *layer.joined("default")), **CLOSE)
    with torch.no_grad():
        magnitudes.copy_(torch.rand_like(magnitudes))
    without_bias = nn.functional.conv2d(images, plain.weight, padding=1, groups=2)
    adapted = without_bias + layer.update(images, *layer.joined("default"))
    # The norm of an output channel's response to all inputs in one place, of every input channel.
    places = torch.eye(36).reshape(36, 4, 3, 3)
    response = nn.functional.conv2d(places, plain.weight, groups=2)
    A, B = layer.joined("default")
    response = response + nn.functional.conv2d(nn.functional.conv2d(places, A), B, groups=2)
    rescaling = magnitudes / response.norm(dim=0, keepdim=True)
    assert torch.allclose(layer(images), rescaling * adapted + plain.bias.reshape(-1, 1, 1), **CLOSE)
    model(images).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)
    model.save_pretrained(tmp_path / "dora")
    loaded = PeftModel.from_pretrained(grouped_base(), tmp_path / "dora")
    assert torch.equal(loaded(images), model(images))
    message = "conv: expected no DoRA of a convolution with groups, which LoRA scales otherwise"
    with pytest.raises(UnsupportedAdapterError, match=message):
        convert_to_lora(model)
    with pytest.raises(UnsupportedAdapterError, match=message):
        convert_adapter(tmp_path / "dora", tmp_path / "lora")


def test_groups_are_converted_whole_only(images: torch.Tensor, tmp_path: Path) -> None:
    model = grouped()
    wanted = model(images)
    converted = convert_to_lora(model)
    assert converted.peft_config["default"].r == 14
    assert torch.allclose(converted(images), wanted, **CLOSE)
    model.save_pretrained(tmp_path / "msplora")
    convert_adapter(tmp_path / "msplora", tmp_path / "lora")
    assert torch.allclose(PeftModel.from_pretrained(grouped_base(), tmp_path / "lora")(images), wanted, **CLOSE)
    convert_adapter(tmp_path / "lora", tmp_path / "again")
    assert torch.allclose(PeftModel.from_pretrained(grouped_base(), tmp_path / "again")(images), wanted, **CLOSE)
    message = "conv: expected no rank or energy, found a convolution with groups"
    with pytest.raises(UnsupportedAdapterError, match=message):
        convert_to_lora(model, rank=4)
    with pytest.raises(UnsupportedAdapterError, match=message):
        convert_adapter(tmp_path / "msplora", tmp_path / "small", energy=0.9)


def test_an_untrained_adapter_with_groups_is_converted(images: torch.Tensor) -> None:
    model = grouped(init_lora_weights=True)
    assert torch.allclose(convert_to_lora(model)(images), model(images), **CLOSE)


def test_groups_cannot_be_merged_as_in_lora() -> None:
    with pytest.warns(UserWarning, match="conv: adapters of convolutions with groups cannot be merged"):
        model = get_peft_model(grouped_base(), MSPLoraConfig(target_modules=["conv"]))
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(NotImplementedError, match="Merging is not supported for convolutions with groups"):
            merge()


@pytest.mark.parametrize("kind", ["cat", "svd"])
def test_weighted_sums_of_convolutions_with_groups(images: torch.Tensor, kind: str) -> None:
    model = grouped()
    base = grouped_base().blocks[0]["conv"](images)
    layer = model.base_model.model.blocks[0]["conv"]
    first = layer(images) - base
    model.add_adapter("second", MSPLoraConfig(ranks=(2, 4, 6), target_modules=["conv"], init_lora_weights=False))
    model.set_adapter("second")
    second = layer(images) - base
    model.add_weighted_adapter(["default", "second"], [0.5, -2.0], "sum", kind, (10, 8, 8) if kind == "svd" else None)
    model.set_adapter("sum")
    assert torch.allclose(layer(images) - base, 0.5 * first - 2 * second, **CLOSE)


@pytest.mark.parametrize("groups", [1, 2])
def test_orthogonal_initialisation_of_convolutions(images: torch.Tensor, groups: int) -> None:
    base = Grouped(groups).eval()
    wanted = base(images)
    config = MSPLoraConfig(ranks=(8, 4, 4), target_modules=["conv"], init_lora_weights="orthogonal")
    model = get_peft_model(base, config)
    assert torch.allclose(model(images), wanted, **CLOSE)
    assert all(factors.B.abs().max() > 0 for factors in model.modules() if isinstance(factors, Factors))


def test_ranks_that_the_groups_do_not_divide_are_refused() -> None:
    message = r"ranks: expected multiples of 2, the groups of blocks.0.conv, found \(8, 4, 1\)"
    with pytest.raises(ParameterError, match=message):
        grouped(ranks=(8, 4, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_convolutions(images: torch.Tensor, dtype: torch.dtype) -> None:
    base = nn.ModuleDict({"conv": nn.Conv2d(4, 8, 3)}).to(dtype)
    config = MSPLoraConfig(ranks=(0, 0, 4), target_modules=["conv"], init_lora_weights=False)
    layer = get_peft_model(base, config).base_model.model["conv"]
    assert layer.msplora_layer["default"].A.dtype == torch.float32
    wanted = layer(images.to(dtype))
    assert wanted.dtype == dtype
    layer.merge()
    assert torch.allclose(layer(images.to(dtype)), wanted, atol=0.05)


def test_one_image_without_a_batch(images: torch.Tensor) -> None:
    layer = grouped().base_model.model.blocks[0]["conv"]
    assert torch.allclose(layer(images[0]), layer(images)[0], **CLOSE)


def test_layers_tell_their_channels_as_those_of_lora_do() -> None:
    layer = grouped().base_model.model.blocks[0]["conv"]
    assert (layer.in_features, layer.out_features) == (4, 8)


def test_a_residual_network_is_trained_converted_and_merged() -> None:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[3, 3], layer_type="basic")
    torch.manual_seed(0)
    base = ResNetModel(config).eval()
    pixels = torch.randn(2, 3, 32, 32)
    settings = {"target_modules": ["convolution"], "init_lora_weights": False, "lora_alpha": 0.1}
    with pytest.warns(UserWarning, match="convolution: shapes differ between layers"):
        model = get_peft_model(base, MSPLoraConfig(**settings)).eval()
    wanted = model(pixels).last_hidden_state
    assert all(np.isfinite(sigma).all() for sigma in component_spectra(read_components(model)).values())
    assert torch.allclose(convert_to_lora(model)(pixels).last_hidden_state, wanted, atol=1e-3)
    model(pixels).last_hidden_state.sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "msplora_" in name)
    merged = model.merge_and_unload()
    assert torch.allclose(merged(pixels).last_hidden_state, wanted, atol=1e-3)
