"""An adapter held against its base on disk: names, shapes, shards, the cache, and the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from msplora_analysis.directions.intrusion import find_intruders
from msplora_analysis.loading import basis_cache
from msplora_cli import app
from msplora_core.errors import AdapterFileError, ParameterError, UnsupportedAdapterError

LAYERS = 3
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "msplora" / "bases"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """Rank 2 on the queries of three layers; that of layer 1 is far larger than its weight, that of layer 2 zero."""
    random, folder = np.random.default_rng(0), tmp_path / "adapter"
    folder.mkdir()
    tensors = {}
    for layer, size in enumerate((0.01, 50.0, 0.0)):
        name = f"base_model.model.bert.layers.{layer}.query.lora_{{}}.weight"
        tensors[name.format("A")] = random.standard_normal((2, 48)).astype(np.float32)
        tensors[name.format("B")] = (size * random.standard_normal((64, 2))).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["query"]}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "somebody/bert"}))
    return folder


def weights(prefix: str = "bert.") -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {f"{prefix}layers.{n}.query.weight": random.standard_normal((64, 48)).astype("f4") for n in range(LAYERS)}


def base(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_the_large_update_is_found_and_the_zero_one_named(adapter: Path, tmp_path: Path, cache: Path) -> None:
    found = find_intruders(adapter, base(tmp_path / "base", weights()), k=4)
    modules = found.modules.set_index("layer")
    assert modules["intruders"].tolist()[::2] == [0, 0]
    rows = found.directions[found.directions["layer"] == 1]
    W = weights()["bert.layers.1.query.weight"]
    from msplora_core.formats import read_adapter

    update = read_adapter(adapter).updates[1].load()
    U, sigma, _ = np.linalg.svd(W + update.scaling * update.B @ update.A, full_matrices=False)
    cosine = abs(U[:, :4].T @ np.linalg.svd(W, full_matrices=False)[0]).max(axis=1)
    np.testing.assert_allclose(rows["sigma"], sigma[:4], rtol=1e-5)
    np.testing.assert_allclose(rows["cosine"], cosine, atol=1e-5)
    assert modules["intruders"][1] == (cosine < 0.5).sum() == 2
    assert "Zero updates, which do not change the weight: 1 (bert.layers.2.query)." in found.notes
    assert (found.kept, found.cache) == (0, cache)
    assert find_intruders(adapter, tmp_path / "base", k=4).kept == LAYERS
    assert len(list(cache.iterdir())) == LAYERS


@pytest.mark.parametrize("prefix", ["", "model.bert."])
def test_a_base_with_or_without_the_first_name(adapter: Path, tmp_path: Path, prefix: str) -> None:
    before = find_intruders(adapter, base(tmp_path / "base", weights())).directions
    other = find_intruders(adapter, base(tmp_path / "other", weights(prefix))).directions
    pd.testing.assert_frame_equal(before, other)


def test_shards_torch_files_and_transposed_weights(adapter: Path, tmp_path: Path) -> None:
    expected = find_intruders(adapter, base(tmp_path / "base", weights())).directions
    shards = tmp_path / "shards"
    shards.mkdir()
    places = {}
    for number, (name, values) in enumerate(weights().items()):
        places[name] = f"model-{number}.safetensors"
        save_file({name: values}, shards / places[name])
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    pd.testing.assert_frame_equal(find_intruders(adapter, shards).directions, expected)
    turned = base(tmp_path / "turned", {name: np.ascontiguousarray(one.T) for name, one in weights().items()})
    pd.testing.assert_frame_equal(find_intruders(adapter, turned).directions, expected)
    torch = pytest.importorskip("torch")
    (tmp_path / "old").mkdir()
    torch.save({name: torch.tensor(one) for name, one in weights().items()}, tmp_path / "old" / "pytorch_model.bin")
    pd.testing.assert_frame_equal(find_intruders(adapter, tmp_path / "old").directions, expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dora_is_the_weight_that_peft_merges(tmp_path: Path) -> None:
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(40, 50), torch.nn.Linear(50, 40))
    folder = base(tmp_path / "base", {name: one.numpy().copy() for name, one in model.state_dict().items()})
    config = peft.LoraConfig(r=2, target_modules=["0", "1"], use_dora=True, init_lora_weights=False)
    adapted = peft.get_peft_model(model, config)
    for name, values in adapted.named_parameters():
        if "magnitude" in name:
            values.data *= torch.linspace(0.2, 3.0, len(values))
    adapted.save_pretrained(tmp_path / "dora")
    merged = adapted.merge_and_unload().state_dict()
    found = find_intruders(tmp_path / "dora", folder, k=4)
    assert found.notes == ["DoRA: intruders of the whole weight, whose rows are rescaled to the magnitudes."]
    for place, rows in found.directions.groupby("place"):
        sigma = np.linalg.svd(merged[f"{place}.weight"].numpy(), compute_uv=False)
        np.testing.assert_allclose(rows["sigma"], sigma[:4], rtol=1e-5)
    tensors = {name: one for name, one in load_file(tmp_path / "dora" / WEIGHTS).items() if "magnitude" not in name}
    save_file(tensors, tmp_path / "dora" / WEIGHTS)
    with pytest.raises(UnsupportedAdapterError, match="expected DoRA's magnitudes under PEFT's names, found none of 0"):
        find_intruders(tmp_path / "dora", folder)


def test_what_is_not_the_base_is_named(adapter: Path, tmp_path: Path) -> None:
    tensors = weights()
    short = base(tmp_path / "short", {name: one for name, one in tensors.items() if ".2." not in name})
    with pytest.raises(
        AdapterFileError,
        match=r"bert.layers.2.query.weight: expected a weight that the adapter changes, .*somebody/bert",
    ):
        find_intruders(adapter, short)
    wide = base(tmp_path / "wide", {name: np.ones((64, 49), "f4") for name in tensors})
    with pytest.raises(Exception, match=r"layers.0.query.weight: expected shape \[64, 48\].*found \[64, 49\]"):
        find_intruders(adapter, wide)
    with pytest.raises(AdapterFileError, match="expected a model"):
        find_intruders(adapter, tmp_path / "nowhere")
    for given, message in (({"k": 0}, "k: expected"), ({"epsilon": 2}, "epsilon: expected above 0")):
        with pytest.raises(ParameterError, match=message):
            find_intruders(adapter, tmp_path / "short", **given)
    with pytest.raises(ParameterError, match="base: expected a folder or file on this disk"):
        find_intruders(adapter, "hf://somebody/bert")


def test_damaged_and_unwritable_caches_cost_time_only(adapter: Path, tmp_path: Path, cache: Path) -> None:
    folder = base(tmp_path / "base", weights())
    expected = find_intruders(adapter, folder).directions
    for file in cache.iterdir():
        file.write_bytes(b"damaged")
    again = find_intruders(adapter, folder)
    assert again.kept == 0
    pd.testing.assert_frame_equal(again.directions, expected)
    for file in cache.iterdir():
        file.unlink()
    cache.rmdir()
    cache.write_text("no folder")
    pd.testing.assert_frame_equal(find_intruders(adapter, folder).directions, expected)


def test_the_cache_is_bounded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basis_cache, "LARGEST", 3000)
    for seed in range(6):
        basis_cache.kept_basis(np.random.default_rng(seed).standard_normal((12, 14)))
    assert 0 < sum(file.stat().st_size for file in cache.iterdir()) <= 3000
    assert basis_cache.kept_basis(np.random.default_rng(5).standard_normal((12, 14)))[1]


def test_several_adapters_are_held_against_one_base(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    folder, study = base(tmp_path / "base", weights()), tmp_path / "study"
    alone = find_intruders(adapter, folder)
    for seed in range(2):
        shutil.copytree(adapter, study / f"seed{seed}")
    found = find_intruders(study, folder)
    assert found.modules["run"].unique().tolist() == ["seed0", "seed1"]
    assert found.kept == 2 * LAYERS  # one base: its directions are computed once
    for run in ("seed0", "seed1"):
        rows = found.modules[found.modules["run"] == run].drop(columns="run").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, alone.modules.drop(columns="run"))
    name = "base_model.model.bert.layers.9.query.lora_{}.weight"
    other = {name.format("A"): np.ones((2, 48), "f4"), name.format("B"): np.ones((64, 2), "f4")}
    save_file(other, study / "seed1" / "adapter_model.safetensors")
    assert call(monkeypatch, study, "--base", folder, "--no-figures") == 1
    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines() if line.startswith("seed")]
    assert [row[:5] for row in rows] == [["seed0", "query", "2", "of", "30"]]
    assert "warning: left out: " in printed.err
    assert "expected a weight that the adapter changes" in printed.err


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["msplora-analyze", "overlap", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return int(ended.value.code or 0)


def test_the_command(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    folder = base(tmp_path / "base", weights())
    assert call(monkeypatch, adapter, "--base", folder) == 0
    printed = capsys.readouterr()
    assert "Intruder dimensions" in printed.out
    assert "leading directions are intruders, random" in printed.out
    written = sorted(file.name for file in (adapter / "analysis" / "overlap").iterdir())
    assert written == ["intruder-modules.csv", "intruders.csv", "intruders.json", "intruders.pdf", "intruders.png"]
    assert call(monkeypatch, adapter, "--base", folder, "--json", "--no-figures", "--out", tmp_path / "out") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["k"], found["epsilon"], len(found["modules"])) == (10, 0.5, LAYERS)
    assert call(monkeypatch, adapter, "--base", tmp_path / "nowhere") == 1
    assert capsys.readouterr().err.startswith("error: ")
