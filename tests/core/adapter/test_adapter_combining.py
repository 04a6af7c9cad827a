"""Weighted sums of adapters: exact, truncated, and as PEFT makes them for LoRA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from msplora_core.adapter import MSPLoraConfig
from msplora_core.adapter.layer import MSPLoraLayer
from msplora_core.conversion import convert_to_lora
from msplora_core.errors import ParameterError
from msplora_core.pyramid import SCALES

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def output(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=tokens).logits


def updates(model: nn.Module, adapter: str, scale: str | None = None) -> dict[str, torch.Tensor]:
    """The updates of an adapter by path, of all scales or of one."""
    layers = {path: m for path, m in model.named_modules() if isinstance(m, MSPLoraLayer) and adapter in m.site}
    if scale is None:
        return {path: layer.get_delta_weight(adapter) for path, layer in layers.items()}
    pairs = {path: layer.components(scale)[adapter]() for path, layer in layers.items()}
    return {path: layers[path].scaling[adapter][scale] * B @ A for path, (A, B) in pairs.items()}


@pytest.fixture
def summands(adapted: Callable, config: Callable) -> Callable[..., PeftModel]:
    """Makes a model with two adapters that share alike."""

    def make(**second: object) -> PeftModel:
        model = adapted(lora_alpha=(8, 16, 4))
        model.add_adapter("second", config(lora_alpha=12, **second))
        return model

    return make


def test_a_concatenation_is_the_exact_sum_at_each_scale(summands: Callable, tokens: torch.Tensor) -> None:
    model = summands(ranks=(2, 6, 4), use_rslora=True)
    model.add_weighted_adapter(["default", "second"], [0.7, -1.5], "sum", combination_type="cat")
    for scale in (None, "global", "mid", "layer"):
        first, second, total = (updates(model, name, scale) for name in ("default", "second", "sum"))
        assert len(total) == 12
        for path, update in total.items():
            assert torch.allclose(update, 0.7 * first[path] - 1.5 * second[path], **CLOSE)
    assert model.peft_config["sum"].ranks == (10, 10, 6)
    queries = [layer.attention.self.query for layer in model.base_model.model.roberta.encoder.layer]
    assert [len({id(query.components(scale)["sum"]) for query in queries}) for scale in SCALES] == [1, 3, 6]
    assert model.active_adapters == ["default"]
    assert not any(p.requires_grad for name, p in model.named_parameters() if ".sum." in name)


def test_svd_is_the_best_approximation_of_each_component(summands: Callable) -> None:
    model = summands()
    model.add_weighted_adapter(["default", "second"], [0.5, 2.0], "sum")
    model.add_weighted_adapter(["default", "second"], [0.5, 2.0], "small", "svd", (3, 1, 1))
    for name, ranks in (("sum", (8, 4, 2)), ("small", (3, 1, 1))):
        assert model.peft_config[name].ranks == ranks
        for scale, rank in zip(("global", "mid", "layer"), ranks, strict=True):
            first, second, total = (updates(model, adapter, scale) for adapter in ("default", "second", name))
            for path, update in total.items():
                U, sigma, Vt = torch.linalg.svd(0.5 * first[path] + 2 * second[path])
                assert torch.allclose(update, U[:, :rank] * sigma[:rank] @ Vt[:rank], **CLOSE)


@pytest.mark.parametrize("kind", ["cat", "svd", "linear"])
def test_a_layer_scale_alone_is_combined_as_lora_is(base_model: Callable, tokens: torch.Tensor, kind: str) -> None:
    """PEFT's own LoRA with the same factors is the reference."""
    own = get_peft_model(base_model(), MSPLoraConfig(ranks=(0, 0, 4), target_modules=["query"])).eval()
    lora = get_peft_model(base_model(), LoraConfig(r=4, lora_alpha=16, target_modules=["query"])).eval()
    own.add_adapter("second", MSPLoraConfig(ranks=(0, 0, 4), lora_alpha=3, target_modules=["query"]))
    lora.add_adapter("second", LoraConfig(r=4, lora_alpha=3, target_modules=["query"]))
    for layer in range(6):
        path = f"base_model.model.roberta.encoder.layer.{layer}.attention.self.query"
        for name in ("default", "second"):
            factors = own.get_submodule(path).msplora_layer[name]
            nn.init.normal_(factors.A)
            nn.init.normal_(factors.B)
            lora.get_submodule(path).lora_A[name].weight.data = factors.A.data.clone()
            lora.get_submodule(path).lora_B[name].weight.data = factors.B.data.clone()
    for model in (own, lora):
        model.add_weighted_adapter(["default", "second"], [0.8, -0.3], "sum", combination_type=kind)
        model.set_adapter("sum")
    assert torch.allclose(output(own, tokens), output(lora, tokens), atol=1e-4)


def test_modules_of_one_adapter_alone_are_taken_over(adapted: Callable, config: Callable) -> None:
    model = adapted()
    model.add_adapter("third", config(ranks=(2, 2, 2), target_modules=["key"]))
    model.add_weighted_adapter(["default", "third"], [1.0, 2.0], "sum", combination_type="cat")
    first, third, total = (updates(model, name) for name in ("default", "third", "sum"))
    assert total.keys() == first.keys() | third.keys()
    for path, update in total.items():
        assert torch.allclose(update, first[path] if path in first else 2 * third[path], **CLOSE)


def test_a_sum_is_saved_loaded_and_converted(
    summands: Callable, base_model: Callable, tokens: torch.Tensor, tmp_path: Path
) -> None:
    model = summands()
    model.add_weighted_adapter(["default", "second"], [0.5, 0.5], "sum", combination_type="cat")
    model.set_adapter("sum")
    wanted = output(model, tokens)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base_model(), tmp_path / "sum").eval()
    assert torch.allclose(output(loaded, tokens), wanted, **CLOSE)
    assert torch.allclose(output(convert_to_lora(model), tokens), wanted, **CLOSE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapters": ["default", "nobody"]}, r"adapters: expected some of default, second, found \['nobody'\]"),
        ({"adapters": []}, "adapters: expected some of default, second, found none"),
        ({"weights": [1.0]}, r"weights: expected 2 finite numbers, one per adapter, found \[1.0\]"),
        ({"weights": [1.0, float("nan")]}, "weights: expected 2 finite numbers"),
        ({"adapter_name": "second"}, "adapter_name: expected a new name, found second"),
        ({"combination_type": "ties"}, "combination_type: expected svd, cat, linear, found ties; convert the adapters"),
        ({"combination_type": "linear"}, "adapters: expected equal ranks for combination_type=linear"),
        ({"combination_type": "cat", "svd_rank": (1, 1, 1)}, "svd_rank: expected none for combination_type=cat"),
        ({"svd_rank": 4}, "svd_rank: expected three whole numbers"),
        ({"density": 0.5}, "density: expected no such option for svd"),
        ({}, "adapters: expected the same groups and layers at the mid scale of key, found others for .*convert"),
    ],
)
def test_sums_that_do_not_fit_are_refused_and_change_nothing(summands: Callable, changes: dict, message: str) -> None:
    model = summands(ranks=(2, 6, 0), groups=2, target_modules=["value", "key"])
    before = set(model.state_dict())
    request = {"adapters": ["default", "second"], "weights": [1.0, 1.0], "adapter_name": "sum"} | changes
    with pytest.raises(ParameterError, match=message):
        model.add_weighted_adapter(**request)
    assert set(model.state_dict()) == before
    assert set(model.peft_config) == {"default", "second"}


def test_a_sum_of_trained_heads_is_refused(base_model: Callable, config: Callable) -> None:
    model = get_peft_model(base_model(), config(task_type="SEQ_CLS"))
    with pytest.raises(ParameterError, match="adapters: expected adapters without modules_to_save"):
        model.add_weighted_adapter(["default"], [2.0], "sum")
