"""`msplora-analyze study`: from a study file to its runs, in processes of their own."""

from __future__ import annotations

import json
import re
import shlex
import sys
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

import pytest

from msplora_cli.app import main
from msplora_cli.scale_ranks import entropy_ranks
from msplora_cli.train_command import train_command
from msplora_core.runs import RunDirectory
from msplora_core.runs.lock import run_lock
from msplora_core.training import RunConfig
from msplora_core.training.models import packaged_model


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers, with MiniLM's tokenizer."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=30522, **size)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(packaged_model()).save_pretrained(folder)
    return folder


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A command in this process: arguments -> (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["msplora-analyze", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


def write_study(folder: Path, model: Path, *, groups: int = 2, epochs: int = 1) -> Path:
    path = folder / "study.toml"
    path.write_text(
        f"""\
tasks = ["acceptability"]
seeds = [0]
[settings]
model = "{model}"
epochs = {epochs}
batch_size = 8
max_train_examples = 16
max_eval_examples = 8
[[methods]]
method = "lora"
rank = 2
[[methods]]
ranks = [2, 2, 1]
groups = {groups}
[tune]
learning_rate = [1e-3, 1e30]
tasks = ["acceptability"]
seeds = [100]
"""
    )
    return path


def test_from_the_file_to_the_runs(command, tiny_model: Path, tmp_path: Path) -> None:
    path = write_study(tmp_path, tiny_model, epochs=3)
    code, out, err = command("study", "commands", path)
    assert (code, len(out.splitlines())) == (0, 4)
    assert all("tuning/lr-" in line for line in out.splitlines())
    assert "These runs choose the learning rates." in err

    code, out, err = command("study", "run", path, "--jobs", 2)
    assert (code, out) == (0, ""), err
    assert f"[2/2] {tmp_path}/runs/acceptability-" in err
    assert "learning rate of lora-r2: 0.001" in err
    record = json.loads((tmp_path / "runs" / "study.json").read_text())
    [first, second] = record["tuning"]["lora-r2"]["candidates"]
    assert list(second["scores"].values()) == [None]  # diverged
    assert isinstance(next(iter(first["scores"].values())), float)
    names = ["acceptability-lora-r2-seed0", "acceptability-msplora-2-2-1-seed0"]
    for name in names:
        run = RunDirectory(tmp_path / "runs" / name)
        assert run.read_record().finished
        assert run.read_record().hyperparameters["learning_rate"] == 1e-3
        for snapshot in list(run.snapshots())[1:]:
            said = rf"{re.escape(str(run.path))}  epoch {snapshot.epoch}/3  loss 0\.\d{{4}}  matthews \S+"
            said += entropy_ranks(snapshot)
            assert re.search(said, err), (said, err)

    code, out, err = command("study", "status", path)
    assert code == 0
    assert out.splitlines() == [*(f"done    {tmp_path}/runs/{name}" for name in names),
                                "2 done, 0 running, 0 failed, 0 to do"]  # fmt: skip
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.safetensors")}
    assert command("study", "run", path)[0] == 0
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.safetensors")}
    assert command("study", "commands", path) == (0, "", "")
    path.write_text(path.read_text().replace("batch_size = ", "batch_size = 1"))
    for name in ("status", "commands", "run"):
        code, out, err = command("study", name, path)
        assert (code, out) == (1, "")
        assert "study.json: tuning.lora-r2: expected a learning rate chosen with batch_size 1" in err
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 3}, "groups: expected 1 to 2, the number of layers with query, found 3"),
        ({"epochs": 0}, "{path}: line 5: epochs (method 1 of 2): expected at least 1, found 0"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_trained(
    command, tiny_model: Path, tmp_path: Path, arguments: dict[str, int], message: str
) -> None:
    path = write_study(tmp_path, tiny_model, **arguments)
    code, out, err = command("study", "run", path)
    assert (code, out, err) == (1, "", f"error: {message.format(path=path)}\n")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("tuning", [False, True])
def test_two_launchers_of_one_study(command, tiny_model: Path, tmp_path: Path, tuning: bool) -> None:
    path = write_study(tmp_path, tiny_model)
    if not tuning:
        path.write_text(path.read_text().partition("[tune]")[0])
    runs = tmp_path / "runs"
    names = ["acceptability-lora-r2-seed0", "acceptability-msplora-2-2-1-seed0"]
    tuned = [f"tuning/lr-{rate}/{name[:-1]}100" for name in names for rate in ("0.001", "1e+30")]
    with ExitStack() as others:
        for name in tuned if tuning else names:
            others.enter_context(run_lock(runs / name))
        code, out, err = command("study", "run", path)
    assert (code, out) == (0, ""), err
    said = err.splitlines()
    if tuning:
        assert {line for line in said if line.startswith("to do")} == {
            f"to do: {runs / name}: not trained; run the study again when the other process is done" for name in names
        }
    else:
        assert said == [f"[{n}/2] {runs / name}  trained by another process" for n, name in enumerate(names, 1)] + [
            f"trained by another process: {runs / name}" for name in names
        ]
    assert "failed" not in err


def test_a_task_without_data(command, tiny_model: Path, tmp_path: Path) -> None:
    path = write_study(tmp_path, tiny_model)
    path.write_text('data_dir = "glue"\n' + path.read_text().replace('tasks = ["acc', 'tasks = ["rte", "acc', 1))
    code, _, err = command("study", "run", path)
    assert code == 1
    assert err.startswith(f"error: {tmp_path}/glue/RTE/train.tsv: expected a data file of RTE, found no such file; ")
    assert not (tmp_path / "runs").exists()


def test_an_end_by_a_signal_says_what_becomes_of_the_study(
    command, monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path
) -> None:
    import msplora_core.study as study

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run_study", interrupted)
    code, out, err = command("study", "run", write_study(tmp_path, tiny_model))
    assert (code, out) == (130, "")
    assert err.splitlines()[0] == "ended by a signal: its records are kept, the same command resumes it"


OTHER = {
    "task": "rte", "method": "msplora", "ranks": (4, 2, 1), "groups": (2, 4), "alpha": (16, 8.5, 4), "rslora": True,
    "rank_pattern": {"value": (2, 1, 1)}, "init": "gaussian", "dropout": 0.1, "target_modules": ("query", "value"),
    "data_dir": "glue data", "out": "runs", "seed": 7, "epochs": 4, "batch_size": 8, "learning_rate": 2e-5,
    "warmup": 0.1, "weight_decay": 0.0, "max_length": 64, "max_train_examples": 100, "bf16": True,
    "random_labels": True, "max_eval_examples": 50, "interference": True,
    "micro_batch": 4, "gradient_checkpointing": True, "options": {"fan_in_fan_out": False, "bias": "all"},
    "spectra_every": 2, "spectra_steps": 10,
    "schedule": (("global",), ("mid", "layer")), "model": "bert-tiny",
}  # fmt: skip


INSTRUCTIONS = {
    "task": "my alpaca.jsonl", "data_dir": "data", "model": "smollm2", "method": "lora", "rank": 64, "epochs": 3,
    "loss_on_prompt": True, "bf16": True, "micro_batch": 4, "gradient_checkpointing": True, "max_length": 256,
    "warmup": 100.0, "batch_size": 128, "target_modules": ("q_proj", "v_proj"),
}  # fmt: skip


@pytest.mark.parametrize(
    "values", [OTHER, INSTRUCTIONS, {"task": "cola", "method": "lora", "rank": 3, "rank_pattern": {"key": 2}}]
)
def test_the_command_means_the_run(command, monkeypatch: pytest.MonkeyPatch, values: dict[str, object]) -> None:
    """Every field of a run reaches the command line and comes back from it."""
    import msplora_core.training.checking as checking
    import msplora_core.training.run as run

    unset = (
        {"rank", "plan", "loss_on_prompt", "config"} if values is OTHER else {field.name for field in fields(RunConfig)}
    )
    assert {field.name for field in fields(RunConfig)} - values.keys() <= unset
    configs: list[RunConfig] = []
    monkeypatch.setattr(checking, "check_inputs", lambda configs: {config.task: None for config in configs})
    monkeypatch.setattr(run, "train_run", lambda config, **_: configs.append(config))
    config = RunConfig(**values)  # type: ignore[arg-type]
    words = shlex.split(shlex.join(train_command(config)))
    assert words[-1] == "--resume"
    code, _, err = command(*words[1:])
    assert code == 0, err
    [found] = configs
    assert {name: str(value) if name in ("out", "data_dir") else value for name, value in vars(found).items()} == vars(
        config
    ) | {"out": str(config.out), "data_dir": str(config.data_dir)}
