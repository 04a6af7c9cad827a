"""Adapters of several formats as MSPLoRA adapters, which PEFT loads."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file
from torch import nn

from msplora_core.adapter import MSPLoraConfig
from msplora_core.conversion import convert_adapter
from msplora_core.conversion.sharing_fit import PyramidConversion, convert_to_pyramid
from msplora_core.errors import FileError, ParameterError, UnsupportedAdapterError
from msplora_core.formats import read_adapter
from msplora_core.linalg import pyramid_descent
from msplora_core.linalg.updates import LowRankUpdate


@pytest.fixture(autouse=True)
def _few_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random factors share nothing, and their fits take long: what is written does not depend on the last digits."""
    monkeypatch.setattr(pyramid_descent, "MOST_SWEEPS", 40)


class Attention(nn.Module):
    """Grouped-query attention: keys and values have fewer outputs than queries; one layer is wider."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.q_proj, self.v_proj = nn.Linear(12, width), nn.Linear(12, 4)


class Model(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Attention(width) for width in widths])
        self.embed, self.score, self.conv = nn.Embedding(9, 12), nn.Linear(12, 2), nn.Conv2d(2, 4, 3)


def model(widths: Sequence[int] = (12,) * 6) -> Model:
    torch.manual_seed(0)
    return Model(widths).eval()


def saved(folder: Path, base: nn.Module, **settings: object) -> Path:
    """Plain LoRA with random factors."""
    config = LoraConfig(**{"r": 2, "lora_alpha": 8, "init_lora_weights": False} | settings)
    get_peft_model(base, config).save_pretrained(folder)
    return folder


def deltas(folder: Path, base: nn.Module) -> dict[str, np.ndarray]:
    """The dense updates of an adapter that PEFT loads, without a warning about keys."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*missing adapter keys.*")
        loaded = PeftModel.from_pretrained(base, folder).base_model.model
    return {
        name: one.get_delta_weight("default").detach().numpy()
        for name, one in loaded.named_modules()
        if hasattr(one, "get_delta_weight")
    }


def check(before: Path, after: Path, base: Callable[[], nn.Module], conversion: PyramidConversion) -> None:
    """What PEFT loads explains the shares that the conversion states, and is what the reader of this package reads."""
    target, found = deltas(before, base()), deltas(after, base())
    assert set(found) == set(target)
    place = json.loads((after / "adapter_config.json").read_text())["placement"]
    for fit in conversion.fits:
        paths = [path for path in target if place[path]["module"] == fit.module]
        rest = sum(np.square(target[path] - found[path]).sum() for path in paths)
        assert 1 - rest / sum(np.square(target[path]).sum() for path in paths) == pytest.approx(fit.explained, abs=1e-5)
        assert len(paths) == fit.layers
    read = {one.path: one.load() for one in read_adapter(after).updates if str(one.key).startswith("total")}
    for path, update in read.items():
        assert isinstance(update, LowRankUpdate)
        dense = update.scaling * update.B @ update.A
        np.testing.assert_allclose(dense.reshape(found[path].shape), found[path], atol=1e-6)


def test_grouped_query_attention_embeddings_and_a_module_outside_layers(tmp_path: Path) -> None:
    before = saved(tmp_path / "lora", model(), target_modules=["q_proj", "v_proj", "score", "embed", "conv"])
    conversion = convert_to_pyramid(before, tmp_path / "out", ranks=(2, 1, 1))
    assert {(fit.module, fit.layers, fit.shape) for fit in conversion.fits} == {
        ("q_proj", 6, (12, 12)), ("v_proj", 6, (4, 12)),
        ("score", 1, (2, 12)), ("embed", 1, (12, 9)), ("conv", 1, (4, 18)),
    }  # fmt: skip
    target, found = deltas(before, model()), deltas(tmp_path / "out", model())
    assert found["embed"].shape == target["embed"].shape
    for name in ("embed", "conv", "score"):  # rank 1, the best there is
        squares = np.square(np.linalg.svd(target[name].reshape(len(target[name]), -1), compute_uv=False))
        rest = np.square(target[name] - found[name]).sum()
        assert rest == pytest.approx(squares[1:].sum(), rel=1e-4)
    written = sum(values.size for values in load_file(tmp_path / "out" / "adapter_model.safetensors").values())
    assert written == conversion.parameters
    assert conversion.parameters_before == 6 * 2 * (24 + 16) + 2 * (14 + 21 + 22)


@pytest.mark.parametrize(
    ("ranks", "groups"), [((2, 1, 1), None), ((2, 0, 1), None), ((0, 2, 1), (1, 5)), ((2, 1, 0), 2)]
)
def test_peft_loads_what_is_written(tmp_path: Path, ranks: tuple, groups: object) -> None:
    before = saved(tmp_path / "lora", model(), target_modules=["q_proj", "v_proj"])
    conversion = convert_to_pyramid(before, tmp_path / "out", ranks=ranks, groups=groups)
    check(before, tmp_path / "out", model, conversion)
    config = MSPLoraConfig.from_pretrained(tmp_path / "out")
    assert (config.ranks, config.lora_alpha, config.groups) == (ranks, ranks, groups)


def test_layers_of_unequal_shape_share_among_equals(tmp_path: Path) -> None:
    widths = (12, 8, 12, 8, 12, 12)
    before = saved(tmp_path / "lora", model(widths), target_modules=["q_proj"])
    conversion = convert_to_pyramid(before, tmp_path / "out", ranks=(2, 1, 1))
    assert {fit.module: fit.layers for fit in conversion.fits} == {"q_proj:12x12": 4, "q_proj:8x12": 2}
    with pytest.warns(UserWarning, match="only layers of the same shape share"):
        check(before, tmp_path / "out", lambda: model(widths), conversion)


def test_layers_that_are_missing(tmp_path: Path) -> None:
    """Also where the file has fewer layers than its configuration says."""
    before = saved(tmp_path / "lora", model(), target_modules=r"layers\.[0235]\.q_proj")
    conversion = convert_to_pyramid(before, tmp_path / "out", ranks=(2, 1, 1), groups=2)
    check(before, tmp_path / "out", model, conversion)
    tensors = load_file(before / "adapter_model.safetensors")
    save_file({name: one for name, one in tensors.items() if ".2." not in name}, before / "adapter_model.safetensors")
    assert convert_to_pyramid(before, tmp_path / "fewer", ranks=(2, 1, 1), groups=3).fits[0].layers == 3
    assert set(deltas(tmp_path / "fewer", model())) == {f"layers.{layer}.q_proj" for layer in (0, 3, 5)}


def test_a_pyramid_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = MSPLoraConfig(ranks=(4, 2, 1), target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(model(), config).save_pretrained(tmp_path / "first")
    convert_adapter(tmp_path / "first", tmp_path / "plain")
    conversion = convert_to_pyramid(tmp_path / "plain", tmp_path / "again", ranks=(4, 2, 1))
    (fit,) = conversion.fits
    assert fit.explained > 0.999
    assert fit.null < fit.explained - 0.05
    assert fit.layer_rank < fit.own_ranks < fit.explained
    check(tmp_path / "plain", tmp_path / "again", model, conversion)
    keys = [set(load_file(tmp_path / name / "adapter_model.safetensors")) for name in ("first", "again")]
    assert keys[0] == keys[1]
    convert_adapter(tmp_path / "again", tmp_path / "back")
    for name, update in deltas(tmp_path / "back", model()).items():
        np.testing.assert_allclose(update, deltas(tmp_path / "again", model())[name], atol=1e-5)


def test_a_trained_head_is_taken_over(tmp_path: Path) -> None:
    before = saved(tmp_path / "lora", model(), target_modules=["q_proj"], modules_to_save=["score"])
    convert_to_pyramid(before, tmp_path / "out", ranks=(1, 1, 1))
    loaded = PeftModel.from_pretrained(model(), tmp_path / "out").base_model.model
    expected = load_file(before / "adapter_model.safetensors")["base_model.model.score.weight"]
    np.testing.assert_array_equal(loaded.score.modules_to_save["default"].weight.detach().numpy(), expected)


def test_kohya(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tensors = {}
    for layer in range(12):
        name = f"lora_te_text_model_encoder_layers_{layer}_self_attn_q_proj"
        tensors[f"{name}.lora_down.weight"] = random.standard_normal((2, 5)).astype(np.float32)
        tensors[f"{name}.lora_up.weight"] = random.standard_normal((5, 2)).astype(np.float32)
        tensors[f"{name}.alpha"] = np.array(1.0, np.float32)
    save_file(tensors, tmp_path / "kohya.safetensors")
    conversion = convert_to_pyramid(tmp_path / "kohya.safetensors", tmp_path / "out", ranks=(2, 1, 1))
    assert conversion.notes == ("Load text_encoder with PeftModel.from_pretrained(pipe.text_encoder, ...).",)
    place = json.loads((tmp_path / "out" / "adapter_config.json").read_text())["placement"]
    assert place["text_model.encoder.layers.5.self_attn.q_proj"]["group"] == 1


def test_zero_updates_are_named(tmp_path: Path) -> None:
    before = saved(tmp_path / "lora", model(), target_modules=["q_proj", "v_proj"])
    tensors = load_file(before / "adapter_model.safetensors")
    zero = {name for name in tensors if "v_proj.lora_B" in name or "layers.3.q_proj.lora_B" in name}
    save_file({name: one * (name not in zero) for name, one in tensors.items()}, before / "adapter_model.safetensors")
    fits = {fit.module: fit for fit in convert_to_pyramid(before, tmp_path / "out", ranks=(2, 1, 1)).fits}
    assert fits["q_proj"].zero == ("layers.3.q_proj",)
    assert np.isnan([fits["v_proj"].explained, fits["v_proj"].null, fits["v_proj"].layer_rank]).all()
    assert not any(update.any() for name, update in deltas(tmp_path / "out", model()).items() if "v_proj" in name)


@pytest.mark.parametrize(
    ("settings", "given", "error", "message"),
    [
        ({}, {"groups": 9}, ParameterError, "groups: expected 1 to 6, the number of layers with q_proj, found 9"),
        ({}, {"groups": (4, 4)}, ParameterError, "groups: expected boundaries that ascend within 1 to 5"),
        ({}, {"ranks": (0, 0, 0)}, ParameterError, "ranks: expected three whole numbers"),
        (
            {"target_modules": ["score"]},
            {"ranks": (2, 1, 0)},
            ParameterError,
            "layer scale for score, which is outside",
        ),
        ({"lora_bias": True}, {}, UnsupportedAdapterError, "expected low-rank updates only, found biases of the ad"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, settings: dict, given: dict, error: type[Exception], message: str
) -> None:
    before = saved(tmp_path / "lora", model(), **{"target_modules": ["q_proj"]} | settings)
    with pytest.raises(error, match=message):
        convert_to_pyramid(before, tmp_path / "out", **{"ranks": (2, 1, 1)} | given)
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_refused_before_the_fit(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(FileError, match="expected a new or empty folder"):
        convert_to_pyramid(tmp_path / "nowhere", tmp_path / "out")
