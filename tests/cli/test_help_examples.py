"""Every command's help ends with two examples, and they run as they stand."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import typer
from safetensors.numpy import save_file
from typer.testing import CliRunner

from msplora_cli.app import app, main

STUDY = """
out = "trained"
tasks = ["acceptability"]
seeds = [0]

[settings]
epochs = 1
max_train_examples = 8
max_eval_examples = 8

[[methods]]
method = "lora"
rank = [2]
"""


def commands() -> Iterator[str]:
    """Every command, and the groups of commands."""

    def walk(command: object, name: str) -> Iterator[str]:
        yield name
        for child, found in getattr(command, "commands", {}).items():
            yield from walk(found, f"{name} {child}")

    yield from walk(typer.main.get_command(app), "msplora-analyze")


def examples(name: str) -> list[str]:
    """The examples with which the help ends, as a terminal shows it."""
    shown = CliRunner().invoke(app, [*name.split()[1:], "--help"], env={"COLUMNS": "300", "TERMINAL_WIDTH": "300"})
    *_, first, last = (line.strip() for line in shown.output.splitlines() if line.strip())
    return [line.removeprefix("Example: ") for line in (first, last) if line.startswith("Example: ")]


EXAMPLES = {name: examples(name) for name in commands()}


def adapter(folder: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(4):
        for module in ("query", "value"):
            path = f"base_model.model.encoder.layer.{layer}.attention.self.{module}"
            tensors[f"{path}.lora_A.weight"] = random.standard_normal((8, 16), dtype=np.float32)
            tensors[f"{path}.lora_B.weight"] = random.standard_normal((16, 8), dtype=np.float32)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["query", "value"],
              "base_model_name_or_path": "minilm"}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that the examples name; what evaluates, submits and opens a browser only takes note."""
    for seed, name in enumerate(("runs/mrpc-lora", "runs/mrpc-msplora", "demo/mrpc-lora")):
        adapter(tmp_path / name, seed)
    for file in (tmp_path / "runs" / "mrpc-lora").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "glue" / "MRPC").mkdir(parents=True)
    pairs = "".join(f"{number % 2}\t1\t2\tIt rains .\tIt snows .\n" for number in range(8))
    for file in ("train.tsv", "dev.tsv"):
        (tmp_path / "glue" / "MRPC" / file).write_text(f"Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n{pairs}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", lambda url: True)
    monkeypatch.setattr(
        "msplora_core.training.evaluation.evaluate_run", lambda run, tasks, **options: dict.fromkeys(tasks, 0.5)
    )
    return tmp_path


def run(example: str, *more: str) -> int:
    command = re.split(r" [|>] ", example)[0]  # what another program does with the output is not ours
    with patch.object(sys, "argv", [*shlex.split(command), *more]):
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_help_ends_with_two_examples(name: str) -> None:
    assert len(EXAMPLES[name]) == 2
    assert all(one.startswith(name) for one in EXAMPLES[name])


TRAINING = [*EXAMPLES["msplora-analyze train"], *EXAMPLES["msplora-analyze study run"],
            *EXAMPLES["msplora-analyze demo"]]  # fmt: skip


@pytest.mark.parametrize("example", sorted({one for found in EXAMPLES.values() for one in found} - {*TRAINING}))
def test_the_example_runs(example: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if example.startswith("msplora-analyze study run"):  # that of the group's help
        monkeypatch.setattr("msplora_cli.study.train_study", lambda study, launcher, watch=None: study.runs({}))
    assert run(example) == 0 or "--strict" in example  # which ends with 1 if it finds anything


def test_training_runs_for_an_epoch(place: Path) -> None:
    example = TRAINING[0]
    assert run(example, "--epochs", "1") == 0
    assert {path.parent.name for path in place.glob("runs/*/run.json")} == {
        "mrpc-lora-r8-seed0", "mrpc-msplora-8-4-2-seed0"
    }  # fmt: skip


def test_a_study_trains(place: Path) -> None:
    assert run(TRAINING[2]) == 0
    assert (place / "trained" / "acceptability-lora-r2-seed0" / "snapshots" / "epoch-0001.safetensors").is_file()


@pytest.mark.parametrize("example", [TRAINING[1], *TRAINING[3:]])
def test_what_trains_for_minutes_or_elsewhere_is_read(
    example: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    monkeypatch.setattr("msplora_core.training.run.train_run", lambda config, **options: trained.append(config))
    monkeypatch.setattr("msplora_core.training.checking.check_inputs", lambda configs: defaultdict(dict))
    monkeypatch.setattr(
        "msplora_cli.study.train_study", lambda study, launcher, watch=None: trained.extend(study.runs({}))
    )
    assert run(example) == 0
    assert len(trained) in (1, 4, 9)
