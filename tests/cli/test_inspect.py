"""`msplora-analyze inspect`."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from msplora_cli.app import app
from msplora_cli.console import data
from msplora_core.runs import RunDirectory, RunRecord


def write_adapter(folder, **config):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for layer in range(3):
        path = f"base_model.model.layers.{layer}.q_proj"
        tensors[f"{path}.lora_A.weight"] = np.ones((2, 6), "f2")
        tensors[f"{path}.lora_B.weight"] = np.ones((5, 2), "f2")
    tensors["base_model.model.classifier.weight"] = np.ones((2, 5), "f2")
    save_file(tensors, folder / "adapter_model.safetensors")
    content = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "base_model_name_or_path": "some/base", **config}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder


def inspect(*arguments):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)], env={"COLUMNS": "120"})


def test_says_what_was_recognised(tmp_path):
    result = inspect(write_adapter(tmp_path / "lora", use_dora=True))
    assert result.exit_code == 0
    assert f"{tmp_path / 'lora'}: dora-r2 in the format of PEFT, of some/base" in result.stdout
    assert "3 components, 66 parameters, " in result.stdout
    assert "kB on disk, mean rank 2" in result.stdout or "bytes on disk, mean rank 2" in result.stdout
    assert "all: scale layer, rank 2, scaling 1.5, dtype float16" in result.stdout
    assert cells(result, "q_proj") == ["q_proj", "0-2", "5 × 6"]
    assert "note: DoRA: spectra of the low-rank part only" in result.stdout
    assert "note: classifier.weight: trained beside the adapter, not a low-rank update." in result.stdout


def cells(result, name):
    row = next(line for line in result.stdout.splitlines() if line.startswith("│") and name in line)
    return [cell.strip() for cell in row.strip("│").split("│")]


def test_a_column_is_shown_where_rows_differ(tmp_path):
    tensors = {}
    for name, rank in (("q", 2), ("v", 4)):
        tensors[f"base_model.model.layers.0.{name}.lora_A.weight"] = np.ones((rank, 6))
        tensors[f"base_model.model.layers.0.{name}.lora_B.weight"] = np.ones((6, rank))
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "rank_pattern": {"v": 4}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    result = inspect(tmp_path)
    assert "mean rank 3" in result.stdout
    assert "all: scale layer, dtype float64" in result.stdout
    assert cells(result, "│ v ") == ["v", "0", "6 × 6", "4", "0.5"]


def test_the_modules_of_a_unet_are_told_apart_at_80_columns(tmp_path):
    tensors, names = {}, []
    for block in ("down_blocks_0", "down_blocks_1", "down_blocks_2", "up_blocks_1", "mid_block"):
        for rank, module in ((2, "attn1_to_k"), (2, "attn1_to_out_0"), (4, "ff_net_0_proj")):
            name = f"lora_unet_{block}_attentions_0_transformer_blocks_0_{module}"
            names.append(name)
            tensors[f"{name}.lora_down.weight"] = np.ones((rank, 1280), "f4")
            tensors[f"{name}.lora_up.weight"] = np.ones((10240, rank), "f4")
            tensors[f"{name}.alpha"] = np.array(rank - 1.0, "f4")
    save_file(tensors, tmp_path / "unet.safetensors")
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "unet.safetensors")], env={"COLUMNS": "80"})
    rows = [line for line in result.stdout.splitlines() if line.startswith("│ unet")]
    assert len({row.split("│")[1] for row in rows}) == len(names) == len(rows)
    assert all(len(line) <= 80 for line in result.stdout.splitlines() if line.startswith("│"))


def test_control_characters_do_not_reach_the_terminal(tmp_path):
    write_adapter(tmp_path / "\x1b[31mred", base_model_name_or_path="a\x1b]0;title\x07b")
    (write_adapter(tmp_path / "\x1b[2Jbad") / "adapter_config.json").write_text("{")
    result = inspect(tmp_path)
    assert "?[31mred: lora-r2" in result.stdout  # the only one that can be read
    assert "?[2Jbad" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr


def test_json_for_programs(tmp_path):
    result = inspect(write_adapter(tmp_path / "lora"), "--json")
    (adapter,) = json.loads(result.stdout)
    assert (adapter["format"], adapter["method"], adapter["model"]) == ("PEFT", "lora-r2", "some/base")
    assert (adapter["parameters"], adapter["mean_rank"]) == (66, 2.0)
    assert adapter["bytes"] == (tmp_path / "lora" / "adapter_model.safetensors").stat().st_size
    assert adapter["modules"] == [
        {"scale": "layer", "module": "q_proj", "units": [0, 1, 2], "shapes": [[5, 6]], "ranks": [2],
         "scalings": [1.5], "dtypes": ["float16"]}
    ]  # fmt: skip


def test_a_bad_adapter_among_good_ones_is_reported_and_the_rest_shown(tmp_path):
    write_adapter(tmp_path / "a")
    (write_adapter(tmp_path / "b") / "adapter_config.json").write_text("{")
    write_adapter(tmp_path / "c", peft_type="IA3")
    write_adapter(tmp_path / "d")
    result = inspect(tmp_path)
    assert result.exit_code == 1
    assert [line.split()[:2] for line in result.stdout.splitlines()[2:4]] == [["a", "lora-r2"], ["d", "lora-r2"]]
    broken, aside = result.stderr.splitlines()
    assert broken.startswith(f"error: {tmp_path}/b/adapter_config.json: expected JSON in UTF-8")
    assert aside.startswith(f"left out: {tmp_path}/c: the method IA3 multiplies the base model's weights")
    shutil.rmtree(tmp_path / "b")
    assert inspect(tmp_path).exit_code == 0
    assert inspect(tmp_path / "c").exit_code == 1


def test_checkpoints_are_counted_and_the_last_is_shown(tmp_path):
    for step in (10, 20, 30):
        write_adapter(tmp_path / f"checkpoint-{step}")
    result = inspect(tmp_path)
    assert "checkpoint-30: lora-r2" in result.stdout
    assert "the last of 3 checkpoints: steps 10, 20, 30" in result.stdout


def test_the_end_of_a_training_is_shown_and_converted(tmp_path):
    for epoch in (1, 2):
        folder = write_adapter(tmp_path / "run" / f"checkpoint-{epoch}0")
        state = {"epoch": float(epoch), "global_step": 10 * epoch, "max_steps": 100}
        (folder / "trainer_state.json").write_text(json.dumps(state))
    assert "the last of 2 checkpoints: epochs 1-2, not finished (10 epochs planned)" in inspect(tmp_path).stdout
    assert "a checkpoint: epochs 2, not finished (10 epochs planned)" in inspect(folder).stdout
    last = load_file(folder / "adapter_model.safetensors")
    run = write_adapter(tmp_path / "run")
    save_file({name: 2 * value for name, value in last.items()}, run / "adapter_model.safetensors")
    said = "The end of the training is the adapter beside its checkpoints, other than the last of them."
    result = inspect(run)
    assert f"{run}: lora-r2" in result.stdout
    assert "the end: epochs 1-2\n" in result.stdout
    assert f"note: {said}" in result.stdout
    written = CliRunner().invoke(app, ["convert", str(run), "-o", str(tmp_path / "out")])
    assert f"note: {said}" in written.stderr
    assert "Converted:" not in written.stderr
    B = load_file(tmp_path / "out" / "adapter_model.safetensors")["base_model.model.layers.0.q_proj.lora_B.weight"]
    assert B.max() == 3  # 2 · α/r


def test_a_run_directory_shows_its_adapter_or_else_its_checkpoints(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.write_record(RunRecord("lora-r2", "some/base"))
    run.write_epoch(0, step=0, spectra={"layer/q_proj/0": np.ones(2)})
    write_adapter(run.checkpoints_path / "checkpoint-10")
    result = inspect(run.path)
    assert result.exit_code == 0
    assert "checkpoint-10: lora-r2" in result.stdout
    write_adapter(run.adapter_path)
    result = inspect(tmp_path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("lora-r2 in the format of PEFT") == 1
    assert f"{run.adapter_path}: lora-r2" in result.stdout


def test_the_method_is_that_of_the_run(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.write_record(RunRecord("dylora-r2", "some/base"))
    write_adapter(run.adapter_path)
    assert f"{run.adapter_path}: dylora-r2 in the format of PEFT" in inspect(run.path).stdout
    (adapter,) = json.loads(inspect(run.adapter_path, "--json").stdout)
    assert adapter["method"] == "dylora-r2"
    assert [(row["rank"], row["components"]) for row in adapter["cut_at"]] == [(1, 3), (2, 3)]
    assert [row["m_eff_1"] is None for row in adapter["cut_at"]] == [True, False]
    assert "Cut at rank b, as DyLoRA trains it" in inspect(run.path).stdout
    run.record_path.write_text("{")
    assert f"{run.adapter_path}: lora-r2 in the format of PEFT" in inspect(run.path).stdout


def test_another_adapter_beside_a_record_has_its_own_method(tmp_path):
    RunDirectory(tmp_path / "run").write_record(RunRecord("msplora-8-4-2", "some/base"))
    other = write_adapter(tmp_path / "run" / "other")
    assert f"{other}: lora-r2 in the format of PEFT" in inspect(other).stdout


def test_alpha_for_files_that_do_not_hold_it(tmp_path):
    save_file({"w_a_0": np.ones((2, 3)), "w_b_0": np.ones((3, 2))}, tmp_path / "sam.safetensors")
    (adapter,) = json.loads(inspect(tmp_path / "sam.safetensors", "--alpha", 16, "--json").stdout)
    assert adapter["modules"][0]["scalings"] == [8.0]


@pytest.mark.parametrize("arguments", [["missing"], ["missing", "--json"]])
def test_an_error_is_one_line_and_no_traceback(tmp_path, arguments):
    command = [sys.executable, "-m", "msplora_cli", "inspect", *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "error: missing: expected an adapter's folder or file, found no such file or folder; "
        "an adapter on the hub is named hf://owner/name"
    ]


def test_help_has_an_example():
    assert "Example: msplora-analyze inspect" in inspect("--help").stdout


def test_findings_come_last_and_strict_stops_a_pipeline(tmp_path):
    folder = write_adapter(tmp_path / "lora")
    path = folder / "adapter_model.safetensors"
    tensors = {name: np.zeros_like(value) if "lora_B" in name else value for name, value in load_file(path).items()}
    save_file(tensors, path)
    finding = "broken: never trained: all modules: every update is zero; train it, or save it after training"
    result = inspect(folder)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, finding)
    assert inspect(folder, "--strict").exit_code == 3
    (adapter,) = json.loads(inspect(folder, "--json", "--strict").stdout)
    assert [(one["severity"], one["kind"], one["module"], one["value"]) for one in adapter["findings"]] == [
        ("broken", "never trained", "all modules", 0.0)
    ]


def test_a_folder_of_adapters_has_a_row_for_each(tmp_path):
    for name in ("a-rather-long-name-of-a-run-seed0", "a-rather-long-name-of-a-run-seed1"):
        run = RunDirectory(tmp_path / name)
        run.write_record(RunRecord("lora-r2", "some/base"))
        write_adapter(run.adapter_path)
        run.append_metrics({"loss": 0.5})
    run.append_metrics({"loss": 1e8})
    data.cache_clear()  # the console keeps the width that it was made with
    result = CliRunner().invoke(app, ["inspect", str(tmp_path), "--strict"], env={"COLUMNS": "80"})
    data.cache_clear()
    assert result.exit_code == 3
    rows = result.stdout.splitlines()
    assert rows[0].startswith("2 adapters")
    assert all(len(row.rstrip()) <= 80 for row in rows[:4])
    assert rows[2].split() != rows[3].split()
    assert "a-rather-long-name-of-a-run-seed1: broken: the loss blew up: metrics.jsonl: the last loss is 1e+08" in (
        result.stdout)  # fmt: skip
    assert "seed0: broken" not in result.stdout


def test_spectra_are_bars_on_a_terminal_only(tmp_path):
    from msplora_cli.description import table
    from msplora_core import read_adapter

    adapter = read_adapter(write_adapter(tmp_path / "lora"))
    spectra = {f"layer/q_proj/{layer}": np.array([4.0, 1.0]) for layer in range(3)}
    _, drawn = table(adapter.modules(), 80, spectra)
    assert next(iter(drawn.columns[-1].cells)) == "█▂"
    assert "█" not in inspect(tmp_path / "lora").stdout


@pytest.mark.parametrize(("size", "words"), [(999_700, "999.7 kB on disk"), (2 * 10**12, "2.0 TB on disk")])
def test_sizes_are_in_units_that_people_read(size, words):
    from types import SimpleNamespace

    from msplora_cli.description import totals

    assert words in totals(SimpleNamespace(keys=[], parameters=1, mean_rank=2.0, size=size))
