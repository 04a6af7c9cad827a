"""Components of live models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import AdaLoraConfig, LoHaConfig, LoraConfig, get_peft_model, inject_adapter_in_model
from torch import nn

from msplora_core.adapter import read_components
from msplora_core.components import component_spectra
from msplora_core.conversion import convert_to_lora
from msplora_core.errors import ParameterError, UnsupportedAdapterError
from msplora_core.formats import read_adapter


def dense_spectrum(layer: nn.Module, rank: int) -> np.ndarray:
    update = layer.get_delta_weight("default").detach().double().numpy()
    return np.linalg.svd(update.reshape(len(update), -1), compute_uv=False)[:rank]


def test_totals_are_peft_s_own_weight_updates(adapted: Callable, layers_of: Callable) -> None:
    model = adapted(lora_alpha=(1, 2, 3), use_rslora=True)
    spectra = component_spectra(read_components(model))
    for path, layer in layers_of(model).items():
        key = f"total/{path.rpartition('.')[2]}/{path.split('layer.')[1].split('.')[0]}"
        assert np.allclose(spectra[key], dense_spectrum(layer, 14), atol=1e-5 * spectra[key][0])


def test_live_and_saved_agree(adapted: Callable, tmp_path: Path) -> None:
    model = adapted(target_modules=["query", "value", "classifier.dense", "word_embeddings"], groups=(1, 4))
    model.save_pretrained(tmp_path)
    live = component_spectra(read_components(model))
    stored = component_spectra(read_adapter(tmp_path).components())
    assert live.keys() == stored.keys()
    assert all(np.allclose(live[key], stored[key], rtol=1e-12) for key in live)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True, "lora_alpha": 3},
        {"rank_pattern": {"value": 2}, "alpha_pattern": {"layer.1.attention.self.query": 5}},
    ],
)
def test_plain_lora(base_model: Callable, settings: dict) -> None:
    config = LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False, **settings)
    model = get_peft_model(base_model(), config)
    spectra = component_spectra(read_components(model))
    assert [key for key in spectra if key.startswith("layer/query")] == [f"layer/query/{i}" for i in range(6)]
    assert len(spectra) == 12  # no total: it would be the layer's own again
    for index, layer in enumerate(model.base_model.model.roberta.encoder.layer):
        for name in ("query", "value"):
            sigma = spectra[f"layer/{name}/{index}"]
            wanted = dense_spectrum(getattr(layer.attention.self, name), len(sigma))
            assert np.allclose(sigma, wanted, atol=1e-5 * wanted[0])


def test_lora_on_what_else_peft_wraps() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.emb, self.conv, self.attn = nn.Embedding(9, 6), nn.Conv2d(3, 5, 3), nn.MultiheadAttention(6, 2)

    config = LoraConfig(r=2, target_modules=["emb", "conv", "attn"], init_lora_weights=False)
    components = {str(c.key): c.update for c in read_components(get_peft_model(Mixed(), config))}
    shapes = {key: update.shape for key, update in components.items() if key.startswith("layer")}
    assert shapes == {
        "layer/emb/0": (6, 9), "layer/conv/0": (5, 27), "layer/attn/0": (18, 6), "layer/out_proj/0": (6, 6),
    }  # fmt: skip


@pytest.mark.parametrize("wrap", ["compiled", "module", "injected"])
def test_wrapped_models(base_model: Callable, config: Callable, wrap: str) -> None:
    if wrap == "injected":
        model = inject_adapter_in_model(config(), base_model())
    else:
        model = get_peft_model(base_model(), config())
        model = torch.compile(model) if wrap == "compiled" else nn.ModuleDict({"module": model})
    keys = [str(component.key) for component in read_components(model)]
    assert len(keys) == 2 * (1 + 3 + 6 + 6)
    assert {"global/query/0", "mid/value/2", "layer/query/5", "total/value/0"} < set(keys)


@pytest.mark.parametrize(("dtype", "kept"), [(torch.bfloat16, np.float32), (torch.float16, np.float16)])
def test_half_precision(adapted: Callable, dtype: torch.dtype, kept: type) -> None:
    components = read_components(adapted().to(dtype))
    assert {c.update.A.dtype for c in components if c.key.scale != "total"} == {np.dtype(kept)}
    assert all(np.isfinite(sigma).all() for sigma in component_spectra(components).values())


def test_components_are_copies(adapted: Callable) -> None:
    model = adapted()
    before = component_spectra(components := read_components(model))
    for parameter in model.parameters():
        parameter.data.zero_()
    assert all(np.array_equal(before[key], sigma) for key, sigma in component_spectra(components).items())


def test_which_adapter(adapted: Callable, config: Callable) -> None:
    model = adapted()
    model.add_adapter("second", config(ranks=(3, 0, 0)))
    assert {c.update.rank for c in read_components(model, "second")} == {3}
    assert {c.update.rank for c in read_components(model) if c.key.scale == "total"} == {14}
    model.base_model.set_adapter(["default", "second"])
    with pytest.raises(ParameterError, match="adapter_name: expected a name, unless one adapter is active, found"):
        read_components(model)
    with pytest.raises(ParameterError, match="adapter_name: expected one of default, second, found third"):
        read_components(model, "third")


def test_models_without_such_an_adapter(base_model: Callable) -> None:
    with pytest.raises(ParameterError, match="model: expected a model with an adapter of PEFT, found RobertaFor"):
        read_components(base_model())
    for config, kind in (
        (LoHaConfig(target_modules=["query"]), "loha.layer.Linear"),
        (AdaLoraConfig(target_modules=["query"], total_step=10), "adalora.layer.SVDLinear"),
    ):
        with pytest.raises(UnsupportedAdapterError, match=f"expected LoRA or MSPLoRA, found {kind}"):
            convert_to_lora(get_peft_model(base_model(), config))


def test_a_convolution_with_groups_is_read_as_its_file_is(tmp_path: Path) -> None:
    model = nn.ModuleDict({"conv": nn.Conv2d(4, 8, 3, groups=2)})
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["conv"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path)
    (live,), (stored,) = read_components(adapted), read_adapter(tmp_path).updates
    assert live.update.shape == (8, 36)
    assert np.allclose(live.update.singular_values(), stored.load().singular_values(), rtol=1e-12)
