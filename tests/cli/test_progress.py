"""What a training shows of its progress."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from transformers import TrainerControl, TrainerState, TrainingArguments

import msplora_cli.progress
from msplora_cli.progress import TrainingProgress
from msplora_cli.scale_ranks import entropy_ranks
from msplora_core.runs import RunDirectory, Snapshot


def shown(tmp_path: Path, *, terminal: bool = False, main: bool = True, epochs: tuple[int, ...] = (0, 1, 2)) -> str:
    """Two epochs of four steps, of which the second ends with an evaluation, and some record spectra."""
    run = RunDirectory(tmp_path / "[mrpc]")
    for epoch in epochs:
        spectra = {"global/q/0": np.ones(4) * epoch, "layer/q/0": np.array([1.0, 0.0]) * epoch}
        run.write_epoch(epoch, step=4 * epoch, spectra=spectra)
    text = io.StringIO()
    progress = TrainingProgress(run, "accuracy", Console(file=text, force_terminal=terminal, width=300, markup=False))
    arguments, control = TrainingArguments(output_dir=str(tmp_path / "theirs")), TrainerControl()
    state = TrainerState(max_steps=8, num_train_epochs=2, is_world_process_zero=main)
    progress.on_train_begin(arguments, state, control)
    for step in range(8):
        if step % 4 == 0:
            progress.on_epoch_begin(arguments, state, control)
        state.global_step, state.epoch = step + 1, (step + 1) / 4
        progress.on_step_end(arguments, state, control)
    logs = {"loss": 0.5, "eval_loss": 0.25, "eval_accuracy": 0.75, "learning_rate": 1e-4}
    progress.on_log(arguments, state, control, logs=logs)
    progress.on_evaluate(arguments, state, control)
    progress.on_train_end(arguments, state, control)
    return text.getvalue()


def test_a_line_an_epoch_with_metrics_and_spectra(tmp_path: Path) -> None:
    (line,) = shown(tmp_path).splitlines()
    assert line.startswith(
        "[mrpc]  epoch 2/2  loss 0.5000  dev loss 0.2500  accuracy 0.7500  lr 1.0e-04"
        "  entropy rank global 4.00, layer 1.00  "
    )


def test_an_epoch_without_spectra(tmp_path: Path) -> None:
    (line,) = shown(tmp_path, epochs=(0,)).splitlines()
    assert line.startswith("[mrpc]  epoch 2/2  loss 0.5000  dev loss 0.2500  accuracy 0.7500  lr 1.0e-04  ")
    assert "entropy rank" not in line


def test_zero_components_have_no_entropy_rank() -> None:
    zero = {"global/q/0": np.zeros(4), "layer/q/0": np.zeros(2)}
    assert entropy_ranks(Snapshot(0, 0, zero)) == ""
    assert entropy_ranks(Snapshot(1, 4, {**zero, "layer/q/1": np.ones(2)})) == "  entropy rank layer 2.00"


def test_lines_within_an_epoch_where_there_is_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msplora_cli.progress, "_SECONDS_BETWEEN_LINES", 0.0)
    lines = shown(tmp_path).splitlines()
    assert [line.rpartition("  ")[0] for line in lines[:-1]] == [
        f"[mrpc]  epoch {epoch}/2  step {step}/8" for epoch, step in ((1, 1), (1, 2), (1, 3), (2, 5), (2, 6), (2, 7))
    ]


def test_a_bar_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msplora_cli.progress, "_SECONDS_BETWEEN_LINES", 0.0)
    text = shown(tmp_path, terminal=True)
    assert "8/8" in text
    assert "steps/s" not in text


def test_only_the_main_process_prints(tmp_path: Path) -> None:
    assert shown(tmp_path, main=False) == ""
