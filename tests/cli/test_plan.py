"""`msplora-analyze plan`, on adapters written without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from msplora_analysis import analyse, write_analysis
from msplora_cli import app
from tests.analysis.conftest import write_run


@pytest.fixture
def adapter(tmp_path: Path):
    """Writes a LoRA of rank 4 on three layers, whose last layers need more ranks."""

    def write(name: str = "adapter", seed: int = 0) -> Path:
        random = np.random.default_rng(seed)
        folder = tmp_path / name
        folder.mkdir()
        tensors = {}
        for layer in range(3):
            for module in ("q_proj", "v_proj"):
                key = f"base_model.model.model.layers.{layer}.self_attn.{module}"
                weights = np.array([1, 0.1 * layer, 0.01 * layer, 0.001])
                tensors[f"{key}.lora_A.weight"] = random.standard_normal((4, 16)).astype(np.float32)
                tensors[f"{key}.lora_B.weight"] = (random.standard_normal((8, 4)) * weights).astype(np.float32)
        save_file(tensors, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["v_proj", "q_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder

    return write


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["msplora-analyze", "plan", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return int(ended.value.code or 0)


def test_it_says_ranks_losses_and_what_is_not_known(adapter, monkeypatch, capsys) -> None:
    assert call(monkeypatch, adapter(), "--mean-rank", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("A mean rank of 2 instead of 4 (288 of 576 parameters) keeps ")
    assert "Rule: the parameters of rank 2 everywhere; at least rank 1." in lines
    assert any(line.split()[:2] == ["q_proj", "4"] for line in lines)
    assert any(line.split()[:3] == ["uniform", "2", "288"] for line in lines)
    assert "Stability: unknown from one run at one epoch; add runs with other seeds." in lines
    assert max(map(len, lines)) <= 120


def test_it_says_how_the_page_of_the_study_gets_the_plan(adapter, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    run = adapter()
    write_analysis(analyse(tmp_path, draws=0))
    assert call(monkeypatch, run.name, "--mean-rank", 2) == 0
    assert "analysis/report.html shows a plan in its folder: -o analysis/plan\n" in capsys.readouterr().err
    assert '<section id="plan">' not in (tmp_path / "analysis" / "report.html").read_text()
    assert call(monkeypatch, run.name, "--mean-rank", 2, "-o", "analysis/plan") == 0
    assert "shows a plan" not in capsys.readouterr().err
    assert '<section id="plan">' in (tmp_path / "analysis" / "report.html").read_text()


def test_several_runs_tell_how_stable_it_is(adapter, monkeypatch, capsys) -> None:
    paths = [adapter(f"seed-{seed}", seed) for seed in range(3)]
    assert call(monkeypatch, *paths, "--mean-rank", 2) == 0
    assert "Stability: the ranks planned from single tasks have a rank correlation of" in capsys.readouterr().out


def test_files_for_trainers(adapter, tmp_path: Path, monkeypatch, capsys) -> None:
    assert call(monkeypatch, adapter(), "--parameters", "0.2k", "-o", tmp_path / "plan") == 0
    assert "9 files in" in capsys.readouterr().err
    fields = json.loads((tmp_path / "plan/peft.json").read_text())
    assert fields["target_modules"] == ["q_proj", "v_proj"]
    assert set(fields) == {"r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern"}


def test_json_and_a_shuffled_control(adapter, monkeypatch, capsys) -> None:
    path = adapter()
    assert call(monkeypatch, path, "--keep", 0.5, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert call(monkeypatch, path, "--keep", 0.5, "--json", "--shuffle", 1) == 0
    control = json.loads(capsys.readouterr().out)
    ranks, shuffled = ([row["rank"] for row in one["modules"]] for one in (plan, control))
    assert sorted(ranks) == sorted(shuffled)
    assert control["planned"]["loss"] >= plan["planned"]["loss"]
    assert control["notes"][0] == "A control: the planned ranks, permuted at random among modules, seed 1."


def test_a_run_without_adapter_and_shapes_is_planned_but_not_written_for_trainers(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    write_run(tmp_path / "run")
    assert call(monkeypatch, tmp_path / "run", "--mean-rank", 4, "-o", tmp_path / "plan") == 1
    printed = capsys.readouterr()
    assert "Note: The shapes of some modules are unknown: all ranks count equally" in printed.out
    assert "Wrote plan.csv, plan.json and the picture alone" in printed.err
    assert printed.err.splitlines()[-1].startswith("error: ")
    assert sorted(path.name for path in (tmp_path / "plan").iterdir()) == [
        f"plan.{end}" for end in ("csv", "json", "pdf", "png")
    ]
    assert call(monkeypatch, tmp_path / "run", "--mean-rank", 4) == 0
    expected = f"No files for trainers: {tmp_path}/run: expected a run with adapter/ or checkpoints/, found neither"
    assert capsys.readouterr().err.splitlines()[-1] == expected


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 1, "error: nowhere: expected"),
        (["ADAPTER", "--mean-rank", "9"], 1, "error: mean_rank: expected from 1, rank 1 for each module, to 4"),
        (["ADAPTER", "--mean-rank", "2", "--keep", "0.5"], 1, "energy: expected at most one of these"),
        (["ADAPTER", "--parameters", "many"], 2, "--parameters"),
        (["ADAPTER", "--least", "-1"], 2, "--least"),
        (["ADAPTER", "--shuffle", "-1"], 2, "--shuffle"),
        ([], 2, "PATH"),
    ],
)
def test_bad_input_is_one_line(adapter, monkeypatch, capsys, arguments: list, code: int, message: str) -> None:
    path = adapter()
    assert call(monkeypatch, *(path if argument == "ADAPTER" else argument for argument in arguments)) == code
    error = capsys.readouterr().err
    assert message in error
    assert code == 2 or error.count("\n") == 1


def test_what_is_left_out_or_guessed_is_one_line_each(adapter, tmp_path: Path, monkeypatch, capsys) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        adapter(f"{folder}/mrpc-seed1")
    run = write_run(tmp_path / "two" / "run")
    for damaged in run.path.glob("snapshots/*"):
        damaged.write_bytes(b"")
    assert call(monkeypatch, tmp_path / "one", tmp_path / "two", "--mean-rank", 2) == 0
    printed = capsys.readouterr()
    left_out = [line for line in printed.err.splitlines() if line.startswith("warning: left out: ")]
    assert left_out
    assert "SkippedWarning" not in printed.err
    assert printed.out.count("Note: The base model is unknown") == 1  # of both


def test_it_loads_no_torch(adapter, tmp_path: Path) -> None:
    script = (
        "import sys; from msplora_cli import app; sys.argv = ['x', 'plan', sys.argv[1], '-o', sys.argv[2]]\n"
        "try: app.main()\nexcept SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, adapter(), tmp_path / "plan"], check=True, capture_output=True)


def test_a_full_fine_tune_is_planned_with_its_base(tmp_path: Path, monkeypatch, capsys) -> None:
    random = np.random.default_rng(0)
    weights = {f"model.layers.{layer}.q_proj.weight": random.standard_normal((6, 8)) for layer in range(2)}
    update = random.standard_normal((6, 2)) @ random.standard_normal((2, 8))
    save_file(weights, tmp_path / "base.safetensors")
    save_file({name: weight + update for name, weight in weights.items()}, tmp_path / "tuned.safetensors")
    arguments = [tmp_path / "tuned.safetensors", "--base", tmp_path / "base.safetensors", "--energy", 0.999]
    assert call(monkeypatch, *arguments, "-o", tmp_path / "plan") == 0
    assert "Note: The probe is of full: numbers of parameters are those of LoRA" in capsys.readouterr().out
    fields = json.loads((tmp_path / "plan/peft.json").read_text())
    assert (fields["r"], fields["rank_pattern"]) == (2, {})
    assert fields["target_modules"] == ["model.layers.0.q_proj", "model.layers.1.q_proj"]


def test_an_unknown_alpha_is_said_beside_the_files_that_hold_one(tmp_path: Path, monkeypatch, capsys) -> None:
    random = np.random.default_rng(0)
    tensors = {
        f"encoder.layer.{layer}.query.lora_{side}": random.standard_normal(shape).astype(np.float32)
        for layer in range(2) for side, shape in (("A", (4, 8)), ("B", (8, 4)))
    }  # fmt: skip
    save_file(tensors, tmp_path / "loralib.safetensors")
    arguments = [tmp_path / "loralib.safetensors", "--mean-rank", 2, "-o", tmp_path / "plan"]
    assert call(monkeypatch, *arguments) == 0
    assert "note: Alpha is not in the file: B·A is unscaled." in capsys.readouterr().err
    assert call(monkeypatch, *arguments, "--alpha", 8) == 0
    assert "B·A is unscaled" not in capsys.readouterr().err


def test_files_are_written_even_if_nobody_reads_the_output(adapter, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "msplora_cli", "plan", str(adapter()), "-o", str(tmp_path / "plan")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.close()
    assert (tmp_path / "plan/peft.json").is_file()
