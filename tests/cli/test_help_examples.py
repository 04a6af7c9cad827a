"""Every command's help ends with two examples, and they run as they stand."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from safetensors.numpy import save_file

from msplora_cli.app import app, main

STUDY = """
out = "trained"
tasks = ["mrpc"]
seeds = [0]

[[methods]]
method = "lora"
rank = [2]
"""


def documented() -> Iterator[tuple[str, str]]:
    """Each command with what its help says."""

    def walk(command: object, name: str) -> Iterator[tuple[str, str]]:
        children = getattr(command, "commands", None)
        if children is None:
            yield name, command.callback.__doc__  # type: ignore[attr-defined]
            return
        for child, found in children.items():
            yield from walk(found, f"{name} {child}")

    yield from walk(typer.main.get_command(app), "msplora-analyze")


def examples(text: str) -> list[str]:
    return re.findall(r"^ *Example: (.+)$", text, flags=re.MULTILINE)


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
    """A folder with all that the examples name; what trains, evaluates, submits and opens a browser only takes note."""
    for seed, name in enumerate(("runs/mrpc-lora", "runs/mrpc-msplora", "demo/mrpc-lora")):
        adapter(tmp_path / name, seed)
    for file in (tmp_path / "runs" / "mrpc-lora").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "study.toml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", lambda url: True)
    monkeypatch.setattr(
        "msplora_core.training.evaluation.evaluate_run", lambda run, tasks, **options: dict.fromkeys(tasks, 0.5)
    )
    monkeypatch.setattr("msplora_cli.study.train_study", lambda study, launcher, watch=None: study.runs({}))
    return tmp_path


def test_every_help_ends_with_two_examples() -> None:
    for name, text in documented():
        found = examples(text)
        assert len(found) == 2, name
        assert text.rstrip().endswith(found[-1]), name
        assert all(one.startswith(name) for one in found), name


EXAMPLES = [one for _, text in documented() for one in examples(text)]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_runs(example: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if example.startswith("msplora-analyze train"):
        trained = []
        monkeypatch.setattr("msplora_core.training.run.train_run", lambda config, **options: trained.append(config))
        monkeypatch.setattr("msplora_core.training.checking.check_inputs", lambda configs: defaultdict(dict))
    command = re.split(r" [|>] ", example)[0]  # what another program does with the output is not ours
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 0 or "--strict" in example  # which ends with 1 if it finds anything
    if example.startswith("msplora-analyze train"):
        assert len(trained) in (2, 4)
