"""What became of each run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from scipy.stats import binom
from scipy.stats import t as t_distribution

from msplora_analysis import analyse, load_runs, summarise
from msplora_analysis.loading.run_states import run_notes
from msplora_core.runs import RunDirectory, RunRecord


def make_run(path: Path, events: list[dict[str, Any]], **record: Any) -> None:
    run = RunDirectory(path)
    record = {"hyperparameters": {"epochs": 3}, "finished": "2026-01-01T00:00:00Z"} | record
    run.write_record(RunRecord("lora-r2", "minilm", path.name, 0, **record))
    run.write_epoch(1, step=1, spectra={"layer/query/0": np.array([2.0, 1.0])})
    for event in events:
        run.append_metrics(event)


def matthews(*values: float | None) -> list[dict[str, Any]]:
    return [{"epoch": float(epoch), "eval_loss": 0.5, "eval_matthews": value} for epoch, value in enumerate(values, 1)]


def test_a_killed_run_and_a_constant_answer_are_told(tmp_path: Path) -> None:
    make_run(tmp_path / "good", matthews(0.0, 0.3, 0.5))
    make_run(tmp_path / "killed", matthews(0.4), finished=None)
    make_run(tmp_path / "constant", matthews(0.4, 0.2, 0.0))
    make_run(tmp_path / "undefined", [{"epoch": 3.0, "eval_pearson": None}])
    make_run(tmp_path / "silent", [])
    runs = load_runs(tmp_path).set_index("run")
    assert runs["finished"].to_dict() == {
        "constant": True, "good": True, "killed": False, "silent": True, "undefined": True}  # fmt: skip
    assert runs["constant"].fillna(False).to_dict() == {
        "constant": True, "good": False, "killed": False, "silent": False, "undefined": True}  # fmt: skip
    assert runs.loc["silent", "constant"] is pd.NA
    assert runs.loc["good", ["epoch", "metric", "score", "planned"]].tolist() == [3.0, "matthews", 0.5, 3.0]
    assert run_notes(load_runs(tmp_path)) == [
        "Not finished (killed, or still training): killed (epoch 1 of 3).",
        "No better than a constant answer, beyond chance: constant (matthews 0.000, constant 0.000), "
        "undefined (pearson undefined: all predictions are equal).",
    ]
    found = analyse(tmp_path)
    assert all(note in found.notes for note in run_notes(found.runs))
    told = {run["run"]: (run["finished"], run["constant"]) for run in summarise(found)["runs"]}
    assert told["killed"] == (False, False)
    assert told["constant"] == (True, True)
    assert told["silent"] == (True, None)


def test_a_killed_training_of_a_trainer_is_told(tmp_path: Path) -> None:
    for task, epochs, planned in (("cola", (2, 4), 100), ("mrpc", (9, 15), 15)):
        for epoch in epochs:
            folder = tmp_path / task / f"checkpoint-{10 * epoch}"
            folder.mkdir(parents=True)
            name = "base_model.model.layers.{}.q.lora_{}.weight"
            factors = {"A": np.eye(2, 4), "B": np.diag([2.0, 1, 0, 0])[:, :2]}
            tensors = {name.format(layer, side): factors[side] for layer in (0, 1) for side in "AB"}
            save_file(tensors, folder / "adapter_model.safetensors")
            (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 2}')
            state = {"epoch": float(epoch), "global_step": 10 * epoch, "max_steps": 10 * planned}
            (folder / "trainer_state.json").write_text(json.dumps(state))
    runs = load_runs(tmp_path)
    assert runs[["run", "finished", "planned", "epoch"]].values.tolist() == [
        ["cola", False, 100.0, 4.0], ["mrpc", True, 15.0, 15.0]]  # fmt: skip
    found = analyse(tmp_path, draws=0)
    assert "Not finished (killed, or still training): cola (epoch 4 of 100)." in found.notes
    assert list(found.doubts.values()) == ["1 of 2 runs not finished"]
    assert sorted(found.trajectory["time"]) == [0.02, 0.04, 0.6, 1.0]
    assert load_runs(tmp_path / "cola" / "checkpoint-20")["run"].tolist() == ["checkpoint-20"]


def test_accuracy_is_compared_with_the_recorded_score_of_a_constant_answer(tmp_path: Path) -> None:
    events = [{"epoch": 1.0, "eval_accuracy": 0.68}]
    make_run(tmp_path / "a", events)
    make_run(tmp_path / "b", events, metric="accuracy", constant_score=0.684)
    make_run(tmp_path / "c", events, metric="accuracy", constant_score=0.5)
    assert load_runs(tmp_path)["constant"].tolist() == [pd.NA, True, False]  # nothing is recorded in the first


def test_a_score_within_chance_of_a_constant_answer_is_no_better(tmp_path: Path) -> None:
    common = {"metric": "accuracy", "constant_score": 0.51}
    for name, score in (("like", 0.525), ("better", 0.6)):
        make_run(tmp_path / name, [{"epoch": 1.0, "eval_accuracy": score}], eval_examples=400, **common)
    make_run(tmp_path / "unknown", [{"epoch": 1.0, "eval_accuracy": 0.525}], **common)
    make_run(tmp_path / "correlated", matthews(0.07), eval_examples=400)
    make_run(tmp_path / "limited", matthews(0.07), hyperparameters={"max_eval_examples": 400})
    runs = load_runs(tmp_path).set_index("run")
    assert runs["constant"].to_dict() == {
        "better": False, "correlated": True, "like": True, "limited": True, "unknown": False}  # fmt: skip
    # 400 answers are right by chance: binomial; a correlation of 400 independent pairs: Student's t
    assert runs.loc["like", "chance_score"] == pytest.approx(binom.isf(0.05, 400, 0.51) / 400, abs=0.003)
    t = t_distribution.isf(0.05, 398)
    assert runs.loc["limited", "chance_score"] == pytest.approx(t / np.sqrt(398 + t**2), abs=0.001)
    assert "like (accuracy 0.525, constant 0.510, by chance up to 0.551)" in run_notes(load_runs(tmp_path))[0]


def test_chance_reaches_no_score_above_one(tmp_path: Path) -> None:
    events = [{"epoch": 1.0, "eval_accuracy": 0.5}]
    make_run(tmp_path / "a", events, metric="accuracy", constant_score=0.5, eval_examples=2)
    assert load_runs(tmp_path)["chance_score"].tolist() == [1.0]


def test_adapters_alone_have_no_rows(tmp_path: Path) -> None:
    assert load_runs(tmp_path).empty
    assert run_notes(load_runs(tmp_path)) == []
