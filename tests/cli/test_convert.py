"""`msplora-analyze convert`, on an adapter written without torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from msplora_cli import app


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
        (["ADAPTER", "--rank", "2", "--energy", "0.5"], 1, "error: rank, energy: expected one of the two"),
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
        (["--to", "msplora", "--rank", "2"], 2, "--rank and --energy belong to --to lora"),
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
