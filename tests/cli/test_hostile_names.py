"""Names from files are printed as they are, never as markup of the terminal."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file

from msplora_cli.app import main
from msplora_cli.console import data, messages
from msplora_cli.study_progress import StudyProgress
from msplora_core.runs import RunDirectory, RunRecord
from msplora_core.study.launcher import Event
from msplora_core.training import RunConfig

HOSTILE = ("[/b]", "[red]x[/red]", "[link=https://x.example]y[/link]", "[bold")


def write_run(path: Path, method: str, model: str, task: str) -> None:
    run = RunDirectory(path)
    run.write_record(RunRecord(method=method, model=model, task=task, seed=0, layers=3))
    for epoch in (0, 1):
        spectra = {f"layer/query/{unit}": epoch * np.exp(-0.3 * (unit + 1) * np.arange(4)) for unit in range(3)}
        run.write_epoch(epoch, step=epoch, spectra=spectra)
    (path / "metrics.jsonl").write_text(json.dumps({"step": 1, "epoch": 1, f"eval_{task}": 0.5}) + "\n")


def write_adapter(path: Path, module: str, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    weights = {
        f"base_model.model.layers.{layer}.{module}.lora_{factor}.weight": random.standard_normal(shape)
        for layer in range(3)
        for factor, shape in (("A", (4, 16)), ("B", (16, 4)))
    }
    path.mkdir(parents=True)
    save_file(weights, path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": module}
    (path / "adapter_config.json").write_text(json.dumps(config))


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setenv("COLUMNS", "300")
    data.cache_clear()
    monkeypatch.setattr(sys, "argv", ["msplora-analyze", *arguments])
    with suppress(SystemExit):
        main()
    captured = capsys.readouterr()
    assert "error" not in captured.err
    return captured.out


@pytest.mark.parametrize("name", HOSTILE)
def test_in_records_and_metrics(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in (name, "minilm"):
        write_run(tmp_path / "runs" / f"lora-{model == name}", "lora-r4", model, name)
        write_run(tmp_path / "runs" / f"other-{model == name}", "msplora-0-0-4", model, name)
    few = ("--no-figures", "--no-report", "--draws", "0", "--out", str(tmp_path / "out"))
    out = printed(capsys, monkeypatch, "svd", str(tmp_path / "runs"), *few)
    assert f"on {name}" in out  # the title of a table
    assert f"{name} {name}" in out  # the header of the scores


@pytest.mark.parametrize("name", ["a[", "q[red]x", "q[bold]y", "q[link=https:x]y"])
def test_in_modules_of_adapters(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_adapter(Path("[b]", "one"), name)
    write_adapter(Path("[b]", "two"), name, seed=1)
    one, two = "[b]/one", "[b]/two"
    commands = [
        ["inspect", one],
        ["inspect", "[b]"],
        ["plan", one],
        ["svd", one, "--no-figures", "--no-report", "--draws", "0"],
        ["overlap", one, "--no-figures"],
        ["overlap", one, "--with", two, "--no-figures"],
        ["convert", one, "-o", "lower", "--rank", "2"],
        ["convert", one, "-o", "pyramid", "--to", "msplora", "--ranks", "2,2,2"],
    ]
    for command in commands:
        out = printed(capsys, monkeypatch, *command)
        if command != ["inspect", "[b]"] and command[0] != "svd":
            assert name in out, command
    assert "one" in printed(capsys, monkeypatch, "inspect", "[b]")


def test_in_progress_bars() -> None:
    assert messages().render_str("[/b]").plain == "[/b]"  # the console of all progress
    text, config = StringIO(), RunConfig(task="mrpc")
    with StudyProgress(Console(file=text, force_terminal=True, width=200, markup=False)) as progress:
        progress.watch(Event(config, "started"))
        progress.bars.update(progress.runs[config.path], score="[/b] 0.5", refresh=True)
    assert "[/b] 0.5" in text.getvalue()
