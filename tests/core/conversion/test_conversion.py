"""Out to plain LoRA: what is taken over, what is cut off, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file
from torch import nn

from msplora_core.adapter import read_components
from msplora_core.components import component_spectra
from msplora_core.conversion import convert_to_lora
from msplora_core.conversion.disk import convert_adapter
from msplora_core.errors import FileError, ParameterError, UnsupportedAdapterError
from msplora_core.runs import RunDirectory, RunRecord

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def output(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=tokens).logits


@pytest.fixture
def saved(adapted: Callable, tmp_path: Path) -> Callable[..., tuple[nn.Module, Path]]:
    def make(**changes: object) -> tuple[nn.Module, Path]:
        model = adapted(**changes)
        model.peft_config["default"].base_model_name_or_path = "somebody/roberta"
        model.save_pretrained(tmp_path / "adapter")
        return model, tmp_path / "adapter"

    return make


@pytest.fixture
def lora(base_model: Callable, tmp_path: Path) -> Callable[..., tuple[nn.Module, Path]]:
    def make(**settings: object) -> tuple[nn.Module, Path]:
        config = LoraConfig(**{"target_modules": ["query"], "init_lora_weights": False, "r": 6} | settings)
        model = get_peft_model(base_model(), config).eval()
        model.save_pretrained(tmp_path / "plain")
        return model, tmp_path / "plain"

    return make


def content(folder: Path) -> dict:
    return json.loads((folder / "adapter_config.json").read_text())


def test_the_written_configuration(saved: Callable, tmp_path: Path) -> None:
    _, adapter = saved(task_type="SEQ_CLS", exclude_modules=[f"encoder.layer.0.attention.self.{m}" for m in ("query",)])
    convert_adapter(adapter, tmp_path / "out")
    config = content(tmp_path / "out")
    assert config["peft_type"] == "LORA"
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (14, 14, {})
    assert sorted(config["target_modules"]) == ["query", "value"]
    assert config["base_model_name_or_path"] == "somebody/roberta"
    assert (config["task_type"], config["modules_to_save"]) == ("SEQ_CLS", ["classifier", "score"])
    assert not any("msplora" in str(value).lower() for value in config.values())
    assert not {"placement", "ranks", "groups"} & set(config)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip


def test_factors_are_float32_with_the_scaling_folded_in(saved: Callable, tmp_path: Path) -> None:
    model, adapter = saved(lora_alpha=(3, 5, 7))
    modules = convert_adapter(adapter, tmp_path / "out").modules
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {values.dtype for values in tensors.values()} == {np.dtype(np.float32)}
    assert len(modules) == 12
    for module in modules:
        update = model.base_model.model.get_submodule(module.path).get_delta_weight("default").detach().numpy()
        assert np.allclose(module.B @ module.A, update, atol=1e-6)
        assert (module.rank, module.rank_before, module.error) == (14, 14, 0.0)


def test_ranks_that_differ_stand_in_patterns(saved: Callable, base_model: Callable, tokens, tmp_path: Path) -> None:
    targets = ["query", "value", "classifier.dense"]
    model, adapter = saved(target_modules=targets, rank_pattern={"value": (4, 2, 1)})
    convert_adapter(adapter, tmp_path / "out")
    config = content(tmp_path / "out")
    ranks = {**config["rank_pattern"], "else": config["r"]}
    assert sorted(set(ranks.values())) == [2, 7, 14]
    assert config["alpha_pattern"] == config["rank_pattern"]
    assert ranks[r"^classifier\.dense"] == 2
    loaded = PeftModel.from_pretrained(base_model(), tmp_path / "out")
    assert torch.allclose(output(loaded, tokens), output(model, tokens), **CLOSE)


def test_a_trained_head_and_biases_are_taken_over(
    saved: Callable, base_model: Callable, tokens: torch.Tensor, tmp_path: Path
) -> None:
    model, adapter = saved(modules_to_save=["classifier"], bias="all")
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name or (name.endswith("bias") and parameter.requires_grad):
            parameter.data += 0.3
    model.save_pretrained(adapter)
    convert_adapter(adapter, tmp_path / "out")
    loaded = PeftModel.from_pretrained(base_model(), tmp_path / "out")
    assert torch.allclose(output(loaded, tokens), output(model, tokens), **CLOSE)
    converted = convert_to_lora(model)
    assert torch.allclose(output(converted, tokens), output(model, tokens), **CLOSE)
    with converted.disable_adapter(), model.disable_adapter():
        assert torch.allclose(output(converted, tokens), output(model, tokens), **CLOSE)


def test_a_run_directory(saved: Callable, tmp_path: Path) -> None:
    _, adapter = saved()
    run = RunDirectory(tmp_path / "run")
    run.write_record(RunRecord(method="msplora-8-4-2", model="m"))
    adapter.rename(run.adapter_path)
    assert len(convert_adapter(tmp_path / "run", tmp_path / "out").modules) == 12


def test_a_torch_file_in_half_precision(saved: Callable, base_model: Callable, tokens, tmp_path: Path) -> None:
    model, _ = saved()
    model.to(torch.bfloat16).save_pretrained(tmp_path / "half", safe_serialization=False)
    convert_adapter(tmp_path / "half", tmp_path / "out")
    loaded = PeftModel.from_pretrained(base_model(), tmp_path / "out")
    assert torch.allclose(output(loaded, tokens), output(model.float(), tokens), atol=0.05)


# Cutting down


@pytest.mark.parametrize("limit", [{"rank": 5}, {"energy": 0.9}])
def test_what_is_kept_are_the_leading_singular_values(saved: Callable, tmp_path: Path, limit: dict) -> None:
    model, adapter = saved()
    modules = convert_adapter(adapter, tmp_path / "out", **limit).modules
    for module in modules:
        update = model.base_model.model.get_submodule(module.path).get_delta_weight("default").detach().double().numpy()
        left, sigma, right = np.linalg.svd(update)
        best = (left[:, : module.rank] * sigma[: module.rank]) @ right[: module.rank]
        assert np.allclose(module.B @ module.A, best, atol=1e-5 * sigma[0])
        assert np.isclose(module.error, np.linalg.norm(sigma[module.rank :]) / np.linalg.norm(sigma), atol=1e-6)
        if "energy" in limit:
            share = np.cumsum(sigma**2) / np.sum(sigma**2)
            assert share[module.rank - 1] >= 0.9 > share[module.rank - 2]
        else:
            assert module.rank == 5


def test_live_and_on_the_disk_agree(
    saved: Callable, base_model: Callable, tokens: torch.Tensor, tmp_path: Path
) -> None:
    model, adapter = saved()
    convert_adapter(adapter, tmp_path / "out", energy=0.8)
    loaded = PeftModel.from_pretrained(base_model(), tmp_path / "out")
    converted = convert_to_lora(model, energy=0.8)
    assert torch.allclose(output(loaded, tokens), output(converted, tokens), **CLOSE)
    assert converted.peft_config["default"].rank_pattern == loaded.peft_config["default"].rank_pattern


def test_plain_lora_is_cut_down_too(lora: Callable, base_model: Callable, tmp_path: Path) -> None:
    model, adapter = lora(use_rslora=True, lora_alpha=3, rank_pattern={"layer.1.attention.self.query": 3})
    before = component_spectra(read_components(model))
    modules = convert_adapter(adapter, tmp_path / "out", rank=4).modules
    assert sorted(module.rank for module in modules) == [3, 4, 4, 4, 4, 4]
    after = component_spectra(read_components(PeftModel.from_pretrained(base_model(), tmp_path / "out")))
    for key, sigma in after.items():
        assert np.allclose(sigma, before[key][: len(sigma)], rtol=1e-5, atol=1e-6)
    live = component_spectra(read_components(convert_to_lora(model, rank=4)))
    assert all(np.allclose(sigma, live[key], atol=1e-5) for key, sigma in after.items())


def test_a_convolution_of_lora_keeps_its_kernel(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 1))
    base = {name: value.clone() for name, value in model.state_dict().items()}
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["0", "2"], init_lora_weights=False)).eval()
    image = torch.randn(1, 3, 6, 6)
    wanted = adapted(image)
    adapted.save_pretrained(tmp_path / "plain")
    convert_adapter(tmp_path / "plain", tmp_path / "out")
    fresh = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 1))
    fresh.load_state_dict(base)
    assert torch.allclose(PeftModel.from_pretrained(fresh, tmp_path / "out")(image), wanted, **CLOSE)
    assert torch.allclose(convert_to_lora(adapted)(image), wanted, **CLOSE)


# A live model


def test_the_model_stays_as_it_was_and_its_weights_are_shared(adapted: Callable, tokens: torch.Tensor) -> None:
    model = adapted(modules_to_save=["classifier"])
    before = {name: (p.clone(), p.requires_grad) for name, p in model.named_parameters()}
    converted = convert_to_lora(model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name][0])
        assert parameter.requires_grad == before[name][1], name
    path = "base_model.model.roberta.encoder.layer.2.attention.self.query.base_layer.weight"
    assert converted.get_parameter(path) is model.get_parameter(path)
    assert isinstance(converted.peft_config["default"], LoraConfig)
    assert "msplora" not in repr(converted)
    assert "msplora" not in " ".join(converted.state_dict())


def test_one_of_several_adapters(adapted: Callable, config: Callable, tokens: torch.Tensor, tmp_path: Path) -> None:
    model = adapted()
    model.add_adapter("second", config(ranks=(2, 1, 1), target_modules=["key"]))
    converted = convert_to_lora(model, "second")
    model.set_adapter("second")
    assert torch.allclose(output(converted, tokens), output(model, tokens), **CLOSE)
    assert list(converted.peft_config) == ["second"]
    converted.save_pretrained(tmp_path)
    assert (tmp_path / "second" / "adapter_model.safetensors").is_file()


def test_the_converted_model_trains(adapted: Callable, tokens: torch.Tensor) -> None:
    converted = convert_to_lora(adapted(), rank=3).train()
    converted(input_ids=tokens, labels=torch.tensor([0, 1, 0, 1])).loss.backward()
    trained = [p for p in converted.parameters() if p.requires_grad]
    assert len(trained) == 24
    assert all(p.grad is not None for p in trained)


def test_models_that_cannot_be_converted(adapted: Callable, base_model: Callable) -> None:
    with pytest.raises(ParameterError, match="model: expected a PeftModel, found RobertaFor"):
        convert_to_lora(base_model())
    with pytest.raises(ParameterError, match="adapter_name: expected one of default, found other"):
        convert_to_lora(adapted(), "other")
    model = adapted()
    model.merge_adapter()
    with pytest.raises(ParameterError, match=r"model: expected an unmerged adapter, found .*query merged; unmerge it"):
        convert_to_lora(model)
    with pytest.raises(ParameterError, match="rank, energy: expected one of the two"):
        convert_to_lora(adapted(), rank=2, energy=0.5)


# Elsewhere


def test_peft_alone_loads_it(saved: Callable, base_model: Callable, tokens: torch.Tensor, tmp_path: Path) -> None:
    """In a process where this package cannot be imported."""
    model, adapter = saved()
    convert_adapter(adapter, tmp_path / "out")
    base_model().save_pretrained(tmp_path / "base")
    torch.save((tokens, output(model, tokens)), tmp_path / "expected.pt")
    code = """
import sys
for name in ("msplora_core", "msplora_analysis", "msplora_cli"):
    sys.modules[name] = None  # importing it fails
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification
base = AutoModelForSequenceClassification.from_pretrained("base")
tokens, expected = torch.load("expected.pt")
model = PeftModel.from_pretrained(base, "out").eval()
assert torch.allclose(model(input_ids=tokens).logits, expected, atol=1e-5), "outputs differ"
assert type(model.base_model).__name__ == "LoraModel"
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Unexpected keyword" not in done.stderr  # the mark of a conversion is no field of the configuration


def test_converting_needs_no_torch(saved: Callable, tmp_path: Path) -> None:
    _, adapter = saved()
    code = (
        "import sys; sys.modules['torch'] = None; from msplora_core.conversion.disk import convert_adapter; "
        f"convert_adapter({str(adapter)!r}, {str(tmp_path / 'out')!r}, rank=3)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_bias": True}, "adapter_config.json: expected low-rank updates only, found biases of the adapter"),
        ({"init_lora_weights": "pissa"}, "found the initialisation pissa, which changed the base model"),
    ],
)
def test_more_than_a_low_rank_product_is_refused(lora: Callable, tmp_path: Path, settings: dict, message: str) -> None:
    model, adapter = lora(**settings)
    with pytest.raises(UnsupportedAdapterError, match=message):
        convert_adapter(adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    if "init_lora_weights" not in settings:  # live, the changed base model is at hand
        with pytest.raises(UnsupportedAdapterError, match=message.partition(": ")[2] or message):
            convert_to_lora(model)


def test_a_folder_in_use_is_refused(saved: Callable, tmp_path: Path) -> None:
    _, adapter = saved()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match="full: expected a new or empty folder, found one with files in it"):
        convert_adapter(adapter, tmp_path / "full")
    with pytest.raises(FileError, match="file: expected a folder to write into, found a file"):
        convert_adapter(adapter, tmp_path / "file")
    with pytest.raises(FileError, match="expected a folder to write into"):
        convert_adapter(adapter, tmp_path / "file" / "below")
    (tmp_path / "empty").mkdir()
    convert_adapter(adapter, tmp_path / "empty")


def test_a_damaged_adapter_leaves_nothing_behind(saved: Callable, tmp_path: Path) -> None:
    _, adapter = saved()
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileError):
        convert_adapter(adapter, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_not_a_number_is_refused(saved: Callable, tmp_path: Path) -> None:
    model, adapter = saved()
    next(p for n, p in model.named_parameters() if "msplora_layer" in n).data[0, 0] = float("nan")
    model.save_pretrained(adapter)
    with pytest.raises(FileError, match=r"msplora_layer\.A: expected finite numbers, found NaN or infinity"):
        convert_adapter(adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()
