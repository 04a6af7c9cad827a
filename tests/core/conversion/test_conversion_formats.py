"""Other formats than PEFT's, and folders of checkpoints, to plain LoRA."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import save_file
from torch import nn

from msplora_core.conversion import convert_adapter
from msplora_core.errors import FileError, UnsupportedAdapterError
from msplora_core.formats import read_adapter

RANDOM = np.random.default_rng(0)


class Block(nn.Module):
    """A block of a U-Net with the names of diffusers."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.conv1 = nn.Linear(8, 6), nn.Conv2d(4, 6, 3, padding=1)
        self.to_out = nn.ModuleList([nn.Linear(6, 8), nn.Dropout(0.0)])


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList([Block() for _ in range(12)])


class TextModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.text_model = nn.ModuleDict({"encoder": nn.ModuleDict({"layers": nn.ModuleList([TextLayer()])})})


class TextLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn = nn.ModuleDict({"q_proj": nn.Linear(5, 5)})


def random(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def factors(rank: int = 2) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Factors (down, up) for a U-Net by path: linear and convolutional."""
    made = {}
    for layer in range(12):
        made[f"down_blocks.{layer}.to_q"] = random(rank, 8), random(6, rank)
        made[f"down_blocks.{layer}.conv1"] = random(rank, 4, 3, 3), random(6, rank, 1, 1)
        made[f"down_blocks.{layer}.to_out.0"] = random(rank, 6), random(8, rank)
    return made


def write_kohya(path: Path, made: dict, text: dict | None = None, alpha: float = 1.0) -> Path:
    tensors = {}
    for owner, modules in (("unet", made), ("te", text or {})):
        for name, (down, up) in modules.items():
            flat = f"lora_{owner}_{name.replace('.', '_')}"
            tensors |= {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up}
            tensors[f"{flat}.alpha"] = np.array(alpha, "f4")
    save_file(tensors, path, metadata={"ss_sd_model_name": "sd15"})
    return path


def dense(down: np.ndarray, up: np.ndarray, scaling: float) -> np.ndarray:
    return scaling * np.einsum("or,r...->o...", up.reshape(len(up), -1), down)


def check(model: nn.Module, folder: Path, made: dict, scaling: float) -> None:
    """PEFT loads the folder, and each module's update is the one of the factors."""
    loaded = PeftModel.from_pretrained(model, folder)
    for path, (down, up) in made.items():
        delta = loaded.base_model.model.get_submodule(path).get_delta_weight("default").detach().numpy()
        np.testing.assert_allclose(delta, dense(down, up, scaling), atol=1e-5)
    adapted = [name for name, one in loaded.base_model.model.named_modules() if hasattr(one, "lora_A")]
    assert sorted(adapted) == sorted(made)


def test_kohya(tmp_path: Path) -> None:
    made = factors()
    conversion = convert_adapter(write_kohya(tmp_path / "kohya.safetensors", made), tmp_path / "out")
    check(UNet(), tmp_path / "out", made, 0.5)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "sd15"
    layers = [module.path for module in conversion.modules if module.path.endswith("to_q")]
    assert layers == [f"unet.down_blocks.{layer}.to_q" for layer in range(12)]
    assert config["target_modules"][:2] == ["down_blocks.0.conv1", "down_blocks.0.to_out.0"]
    assert conversion.notes == ("Load unet with PeftModel.from_pretrained(pipe.unet, ...).",)


def test_a_pipeline_of_two_models_becomes_two_folders(tmp_path: Path) -> None:
    made, text = factors(), {"text_model.encoder.layers.0.self_attn.q_proj": (random(2, 5), random(5, 2))}
    conversion = convert_adapter(write_kohya(tmp_path / "kohya.safetensors", made, text), tmp_path / "out")
    assert len(conversion.modules) == 37
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["text_encoder", "unet"]
    check(UNet(), tmp_path / "out" / "unet", made, 0.5)
    check(TextModel(), tmp_path / "out" / "text_encoder", text, 0.5)


def test_diffusers_with_a_given_alpha(tmp_path: Path) -> None:
    made = factors()
    tensors = {
        f"unet.{name}.lora.{side}.weight": factor
        for name, pair in made.items()
        for side, factor in zip(("down", "up"), pair, strict=True)
    }
    save_file(tensors, tmp_path / "pytorch_lora_weights.safetensors")
    conversion = convert_adapter(tmp_path / "pytorch_lora_weights.safetensors", tmp_path / "out", alpha=6)
    check(UNet(), tmp_path / "out", made, 3.0)
    assert conversion.notes[0] == "Alpha is not in the file; scaled by the given 6/rank."


def test_truncated_convolutions(tmp_path: Path) -> None:
    made = factors(4)
    modules = convert_adapter(write_kohya(tmp_path / "k.safetensors", made), tmp_path / "out", rank=2).modules
    assert {module.rank for module in modules} == {2}
    loaded = PeftModel.from_pretrained(UNet(), tmp_path / "out")
    delta = loaded.base_model.model.down_blocks[3].conv1.get_delta_weight("default").detach().numpy().reshape(6, -1)
    U, sigma, Vt = np.linalg.svd(dense(*made["down_blocks.3.conv1"], 0.25).reshape(6, -1), full_matrices=False)
    np.testing.assert_allclose(delta, U[:, :2] * sigma[:2] @ Vt[:2], atol=1e-5)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense, self.out = nn.Linear(4, 3), nn.Linear(3, 2)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"query": nn.Linear(4, 4), "norm": nn.LayerNorm(4)})
        self.classifier = Head()


def test_loralib_with_its_trained_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = Classifier()
    state = {f"classifier.{name}": value for name, value in trained.classifier.state_dict().items()}
    state |= {f"encoder.norm.{name}": value + 1 for name, value in trained.encoder["norm"].state_dict().items()}
    down, up = random(2, 4), random(4, 2)
    factors = {"encoder.query.lora_A": torch.tensor(down), "encoder.query.lora_B": torch.tensor(up)}
    torch.save(state | factors | {"encoder.query.bias": torch.ones(4)}, tmp_path / "lora.bin")
    conversion = convert_adapter(tmp_path / "lora.bin", tmp_path / "out", alpha=16)
    assert conversion.notes[-1] == "encoder.query.bias: not converted."
    model = Classifier()
    check(model, tmp_path / "out", {"encoder.query": (down, up)}, 8.0)
    loaded = PeftModel.from_pretrained(Classifier(), tmp_path / "out").base_model.model
    assert torch.equal(loaded.classifier.modules_to_save["default"].dense.weight, state["classifier.dense.weight"])
    assert torch.equal(loaded.encoder["norm"].modules_to_save["default"].bias, state["encoder.norm.bias"])


def write_peft(folder: Path, size: float) -> Path:
    folder.mkdir(parents=True)
    name = "base_model.model.layers.0.q.lora_{}.weight"
    tensors = {name.format("A"): np.full((1, 4), size, "f4"), name.format("B"): np.ones((4, 1), "f4")}
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_the_last_checkpoint_of_a_folder(tmp_path: Path) -> None:
    for step in (90, 100, 20):
        write_peft(tmp_path / "run" / f"checkpoint-{step}", step)
    conversion = convert_adapter(tmp_path / "run", tmp_path / "out")
    assert "Converted: checkpoint-100, the last of 3 checkpoints." in conversion.notes
    (update,) = read_adapter(tmp_path / "out").updates
    assert update.load().A.max() == 100


def test_several_adapters_are_refused(tmp_path: Path) -> None:
    for name in "abc":
        write_peft(tmp_path / "study" / name, 1.0)
    with pytest.raises(FileError, match="study: expected one adapter, found 3; name one of them"):
        convert_adapter(tmp_path / "study", tmp_path / "out")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"w_a_0": random(2, 3), "w_b_0": random(3, 2)}, "names of a model's modules, found numbers: w.0"),
        (
            {"lora_unet_x.lora_down.weight": random(2, 3), "lora_unet_x.lora_up.weight": random(3, 2),
             "lora_unet_x.dora_scale": random(3, 1)},
            "expected low-rank updates only, found DoRA's magnitudes",
        ),
        (
            {"lora_unet_x.lokr_w1": random(2, 2), "lora_unet_x.lokr_w2": random(3, 2)},
            "unet.x: expected low-rank factors, found those of lokr",
        ),
        (
            {"lora_unet_x.lora_down.weight": np.full((1, 2), 1e60), "lora_unet_x.lora_up.weight": np.ones((2, 1))},
            "unet.x: expected factors in the range of float32, found larger ones",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_plain_lora(tmp_path: Path, tensors: dict, message: str) -> None:
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(UnsupportedAdapterError, match=message):
        convert_adapter(tmp_path / "x.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()
