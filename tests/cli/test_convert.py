"""`msplora-analyze convert`, on an adapter written without torch."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from msplora_cli import app
from msplora_cli.convert_pyramid import verdict
from msplora_core.conversion.sharing_fit import SharingFit


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A LoRA of rank 3 on four layers."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "adapter"
    folder.mkdir()
    tensors = {}
    for layer in range(4):
        name = f"base_model.model.layers.{layer}.q_proj"
        tensors[f"{name}.lora_A.weight"] = rng.standard_normal((3, 8)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = rng.standard_normal((6, 3)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "base"}))
    return folder


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["msplora-analyze", "convert", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return ended.value.code or 0


def test_whole(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert call(monkeypatch, adapter, "--to", "lora", "-o", tmp_path / "out") == 0
    printed = capsys.readouterr()
    assert printed.out == "4 modules of rank 3, with the same updates.\n"
    assert printed.err.startswith("Wrote ")
    before, after = (load_file(path / "adapter_model.safetensors") for path in (adapter, tmp_path / "out"))
    name = "base_model.model.layers.2.q_proj.lora_{}.weight"
    update = 2 * before[name.format("B")] @ before[name.format("A")]
    assert np.allclose(after[name.format("B")] @ after[name.format("A")], update, atol=1e-5)


def test_into_the_current_folder_which_stays_the_same(adapter: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    before = place.stat().st_ino
    assert call(monkeypatch, adapter, "-o", ".") == 0
    assert {path.name for path in place.iterdir()} == {"adapter_model.safetensors", "adapter_config.json"}
    assert place.stat().st_ino == before
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "here"}


def test_cut_down_prints_the_error_per_layer(adapter: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    assert call(monkeypatch, adapter, "-o", tmp_path / "out", "--rank", 2) == 0
    lines = capsys.readouterr().out
    assert all(f"layers.{layer}.q_proj" in lines for layer in range(4))
    assert "kept" in lines


def test_json(adapter: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    assert call(monkeypatch, adapter, "-o", tmp_path / "out", "--energy", 0.9, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["module"] for row in rows] == [f"layers.{layer}.q_proj" for layer in range(4)]
    assert all(row["rank_before"] == 3 and row["rank"] <= 3 and 0 <= row["error"] ** 2 <= 0.1 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 1, "error: nowhere: expected"),
        (["ADAPTER", "--energy", "2"], 1, "error: energy: expected a share above 0 and at most 1, found 2.0"),
        (
            ["ADAPTER", "--rank", "2", "--energy", "0.5"],
            1,
            "error: rank, energy, mean_rank, parameters, plan: expected at most one",
        ),
        (
            ["ADAPTER", "--mean-rank", "4"],
            1,
            "error: mean_rank: expected from 1, rank 1 for each module, to 3, the ranks",
        ),
        (["ADAPTER", "--parameters", "few"], 2, "--parameters"),
        (
            ["ADAPTER", "--plan", "nowhere"],
            1,
            "error: plan: expected the output of msplora-analyze plan --out, found nowhere",
        ),
        (["ADAPTER", "--dry-run"], 2, "--out"),
        (["ADAPTER", "--rank", "0"], 2, "--rank"),
        (["ADAPTER", "--to", "loha"], 2, "--to"),
    ],
)
def test_bad_input_is_one_line(
    adapter: Path, tmp_path: Path, monkeypatch, capsys, arguments: list, code: int, message: str
) -> None:
    arguments = [adapter if argument == "ADAPTER" else argument for argument in arguments]
    assert call(monkeypatch, *arguments, "-o", tmp_path / "out") == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert code == 2 or error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_pyramid_beside_its_null(adapter: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    assert call(monkeypatch, adapter, "--to", "msplora", "-o", tmp_path / "out", "--ranks", "2,1,1", "--groups", 2) == 0
    printed = capsys.readouterr()
    assert "q_proj" in printed.out
    assert "evaluate the result on its task" in printed.out
    assert printed.err.startswith("Wrote ")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["ranks"], config["groups"]) == ("MSPLORA", [2, 1, 1], 2)
    assert call(monkeypatch, adapter, "--to", "msplora", "-o", tmp_path / "json", "--json") == 0
    (fit,) = json.loads(capsys.readouterr().out)["modules"]
    assert fit["null"] <= 1
    assert (fit["module"], fit["layers"], fit["zero"]) == ("q_proj", 4, [])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--to", "msplora", "--rank", "2"], 2, "--plan and --dry-run belong to --to lora"),
        (["--ranks", "8,4,2"], 2, "--ranks and --groups belong to --to msplora"),
        (["--to", "msplora", "--ranks", "8,4"], 1, "error: --ranks: expected three ranks: global, mid, layer"),
        (["--to", "msplora", "--groups", "9"], 1, "error: groups: expected 1 to 4, the number of layers with q_proj"),
    ],
)
def test_bad_input_of_a_pyramid(adapter, tmp_path: Path, monkeypatch, capsys, arguments, code, message) -> None:
    assert call(monkeypatch, adapter, "-o", tmp_path / "out", *arguments) == code
    error = capsys.readouterr().err
    assert message in " ".join(error.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def updates_of(folder: Path) -> dict[str, np.ndarray]:
    """B·A of each layer, scaling included, of an adapter whose ranks may differ."""
    tensors = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    scaling = config["lora_alpha"] / config["r"]
    names = {name.rpartition(".lora_")[0] for name in tensors}
    return {name: scaling * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"] for name in names}


def test_a_budget_for_all_is_no_worse_than_any_other_split(adapter: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    assert call(monkeypatch, adapter, "-o", tmp_path / "out", "--mean-rank", 2) == 0
    capsys.readouterr()
    before, after = updates_of(adapter), updates_of(tmp_path / "out")
    lost = sum(np.linalg.norm(before[name] - after[name]) ** 2 for name in before)
    sigma = {name: np.linalg.svd(update, compute_uv=False)[:3] for name, update in before.items()}
    splits = [split for split in product(range(1, 4), repeat=4) if sum(split) == 8]
    least = min(
        sum((values[rank:] ** 2).sum() for values, rank in zip(sigma.values(), split, strict=True)) for split in splits
    )
    assert lost == pytest.approx(least, rel=1e-5)


def test_a_dry_run_tells_the_error_in_all_and_writes_nothing(
    adapter: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    assert call(monkeypatch, adapter, "-o", tmp_path / "out", "--parameters", 112) == 0
    capsys.readouterr()
    assert call(monkeypatch, adapter, "--dry-run", "--parameters", 112, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    before, after = updates_of(adapter), updates_of(tmp_path / "out")
    lost = sum(np.linalg.norm(before[name] - after[name]) ** 2 for name in before)
    whole = sum(np.linalg.norm(update) ** 2 for update in before.values())
    assert found["error"] == pytest.approx(np.sqrt(lost / whole), rel=1e-5)
    assert found["mean_rank"] == 2
    assert found["bytes"] == 112 * 4
    assert found["bytes_before"] == (adapter / "adapter_model.safetensors").stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "out"]
    assert call(monkeypatch, adapter, "--dry-run") == 0
    printed = capsys.readouterr()
    assert "error of all modules together 0.00e+00" in printed.out
    assert "Nothing written (--dry-run)" in printed.err


def test_a_plan_gives_each_module_its_rank(adapter: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    plan = {"r": 1, "lora_alpha": 2, "target_modules": ["q_proj"], "rank_pattern": {r"layers\.2\.q_proj": 3}}
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan/peft.json").write_text(json.dumps(plan))
    assert call(monkeypatch, adapter, "-o", tmp_path / "out", "--plan", tmp_path / "plan", "--json") == 0
    assert [row["rank"] for row in json.loads(capsys.readouterr().out)] == [1, 1, 3, 1]


def test_modules_that_a_plan_leaves_out_are_not_written(adapter: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    plan = {"r": 2, "lora_alpha": 4, "target_modules": ["layers.1.q_proj", "layers.3.q_proj"]}
    (tmp_path / "peft.json").write_text(json.dumps(plan))
    assert call(monkeypatch, adapter, "-o", tmp_path / "out", "--plan", tmp_path, "--json") == 0
    printed = capsys.readouterr()
    assert [(row["rank"], row["error"] == 1) for row in json.loads(printed.out)] == [
        (0, True), (2, False), (0, True), (2, False)
    ]  # fmt: skip
    assert "note: layers.0.q_proj, layers.2.q_proj: left out, as in the plan." in printed.err
    config = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert (config["r"], config["target_modules"]) == (2, ["layers.1.q_proj", "layers.3.q_proj"])
    tensors = load_file(tmp_path / "out/adapter_model.safetensors")
    assert {name.split(".")[3] for name in tensors} == {"1", "3"}
    before = load_file(adapter / "adapter_model.safetensors")
    lost = kept = 0.0
    for layer in range(4):
        A, B = (before[f"base_model.model.layers.{layer}.q_proj.lora_{side}.weight"] for side in "AB")
        sigma = np.linalg.svd(B @ A, compute_uv=False)
        lost, kept = lost + (sigma[2 if layer % 2 else 0 :] ** 2).sum(), kept + (sigma**2).sum()
    assert call(monkeypatch, adapter, "--dry-run", "--plan", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["error"] == pytest.approx(np.sqrt(lost / kept), rel=1e-5)


@pytest.mark.parametrize(
    "more", [{"target_modules": ["q_proj", "k_proj"]}, {"rank_pattern": {r"layers\.9\.q_proj": 1}}]
)
def test_a_plan_of_another_adapter_is_refused(adapter: Path, tmp_path: Path, monkeypatch, capsys, more: dict) -> None:
    plan = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], **more}
    (tmp_path / "peft.json").write_text(json.dumps(plan))
    assert call(monkeypatch, adapter, "--dry-run", "--plan", tmp_path) == 1
    error = capsys.readouterr().err
    assert "target_modules: expected modules of the adapter, found " in error
    assert error.count("\n") == 1


def test_a_pipeline_is_converted_with_a_plan_for_each_model(tmp_path: Path, monkeypatch, capsys) -> None:
    tensors = {}
    for model, layer in (("unet", "mid_block_attentions_0"), ("te", "text_model_encoder_layers_0")):
        for name in ("q_proj", "v_proj"):
            tensors[f"lora_{model}_{layer}_{name}.lora_down.weight"] = np.eye(4, 8, dtype="f4")
            tensors[f"lora_{model}_{layer}_{name}.lora_up.weight"] = np.eye(8, 4, dtype="f4")
    save_file(tensors, tmp_path / "style.safetensors")
    for model, pattern in (("unet", {"mid_block.attentions.0.v_proj": 1}), ("text_encoder", {})):
        (tmp_path / "plan" / model).mkdir(parents=True)
        plan = {"r": 3, "lora_alpha": 3, "target_modules": ["q_proj", "v_proj"], "rank_pattern": pattern}
        (tmp_path / "plan" / model / "peft.json").write_text(json.dumps(plan))
    arguments = [tmp_path / "style.safetensors", "--dry-run", "--json", "--plan"]
    assert call(monkeypatch, *arguments, tmp_path / "plan") == 0
    ranks = {row["module"]: row["rank"] for row in json.loads(capsys.readouterr().out)["modules"]}
    assert ranks == {
        "text_encoder.text_model.encoder.layers.0.q_proj": 3, "text_encoder.text_model.encoder.layers.0.v_proj": 3,
        "unet.mid_block.attentions.0.q_proj": 3, "unet.mid_block.attentions.0.v_proj": 1,
    }  # fmt: skip
    assert call(monkeypatch, *arguments, tmp_path / "plan/unet") == 1
    assert "plan: expected a folder with one of " in capsys.readouterr().err


def test_a_gain_within_the_spread_of_the_null_is_no_sharing_and_rounding_is_no_gain() -> None:
    found = SharingFit("query", 2, (64, 64), 0.953, 0.948, 0.406, 0.953 + 1e-16, 9, True, null_spread=0.004)
    assert verdict(found) == (
        "query: nothing is shared: the pyramid explains 0.953, and 0.948 where directions are random."
    )
    assert verdict(replace(found, null_spread=0.001)).startswith("query: sharing explains 10% of what")
