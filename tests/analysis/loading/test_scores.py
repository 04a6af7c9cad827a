"""Task metrics beside the spectra."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from msplora_analysis import SkippedWarning, analyse, load_scores, write_analysis
from msplora_analysis.loading.scores import last_scores
from msplora_analysis.report.tables import scores_table
from msplora_core.runs import RunDirectory, RunRecord


def make_run(path: Path, method: str, seed: int, accuracies: list[float]) -> RunDirectory:
    run = RunDirectory(path)
    run.write_record(RunRecord(method=method, model="minilm", task="mrpc", seed=seed))
    for epoch, accuracy in enumerate(accuracies, 1):
        run.write_epoch(epoch, step=epoch, spectra={"layer/query/0": np.array([2.0, 1.0])})
        run.append_metrics({"step": epoch, "epoch": float(epoch), "loss": 0.5, "learning_rate": 1e-3})
        run.append_metrics({"epoch": float(epoch), "eval_accuracy": accuracy, "eval_loss": 0.4, "eval_runtime": 2.0})
    return run


def test_every_evaluation_is_a_row_and_timings_are_none(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "lora-r2", 0, [0.5, 0.75])
    scores = load_scores(tmp_path)
    assert scores["metric"].tolist() == ["accuracy", "loss"] * 2
    assert scores[scores["metric"] == "accuracy"]["value"].tolist() == [0.5, 0.75]
    assert scores["epoch"].tolist() == [1, 1, 2, 2]


def test_last_scores_are_means_over_seeds_at_each_runs_end(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "lora-r2", 0, [0.9, 0.5])
    make_run(tmp_path / "b", "lora-r2", 1, [0.7])
    [row] = last_scores(load_scores(tmp_path)).to_dict("records")
    assert row == {"model": "minilm", "task": "mrpc", "metric": "accuracy", "method": "lora-r2",
                   "mean": 0.6, "min": 0.5, "max": 0.7, "runs": 2}  # fmt: skip


def test_a_metric_of_an_earlier_evaluation_than_another_is_kept(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "lora-r2", 0, [0.5, 0.75]).record_scores(3, 3, {"bbh": 0.25})
    found = last_scores(load_scores(tmp_path))
    assert dict(zip(found["metric"], found["mean"], strict=True)) == {"accuracy": 0.75, "bbh": 0.25}


def test_the_table_has_a_row_for_each_method_and_model(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "lora-r2", 0, [0.5])
    other = make_run(tmp_path / "b", "lora-r2", 0, [0.75])
    other.write_record(RunRecord(method="lora-r2", model="bert", task="mrpc", seed=0))
    table = scores_table(load_scores(tmp_path))
    assert table.headers == ("method", "mrpc accuracy")
    assert table.rows == (("lora-r2 on minilm", "0.500"), ("lora-r2 on bert", "0.750"))


def test_the_table_has_a_row_for_each_of_many_metrics(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "lora-r2", 0, [0.5])
    make_run(tmp_path / "b", "lora-r8", 0, [0.75]).record_scores(1, 1, {f"bbh_{n}": 0.25 for n in range(6)})
    table = scores_table(load_scores(tmp_path))
    assert table.headers == ("metric", "lora-r2", "lora-r8")
    assert table.rows[:2] == (("mrpc accuracy", "0.500", "0.750"), ("mrpc bbh_0", "–", "0.250"))


def test_runs_without_metrics_and_folders_without_runs_have_no_scores(tmp_path: Path) -> None:
    assert load_scores(tmp_path).empty
    assert load_scores(tmp_path / "missing").empty
    run = make_run(tmp_path / "a", "lora-r2", 0, [0.5])
    run.metrics_path.unlink()
    assert load_scores(run.path).empty


def test_scores_are_written_beside_the_spectra(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", "lora-r2", 0, [0.5])
    written = {path.name for path in write_analysis(analyse(run.path))}
    assert "scores.csv" in written


@pytest.mark.parametrize(
    "line", ["5", '{"epoch": "x", "eval_accuracy": 1}', '{"eval_accuracy": NaN}', '{"torn": ', "[1]", ""]
)
def test_a_damaged_line_is_named_and_the_others_are_read(tmp_path: Path, line: str) -> None:
    run = make_run(tmp_path / "a", "lora-r2", 0, [0.5, 0.75])
    lines = run.metrics_path.read_text().splitlines()
    run.metrics_path.write_text("\n".join([*lines[:2], line, *lines[2:], ""]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scores = load_scores(tmp_path)
    assert scores[scores["metric"] == "accuracy"]["value"].tolist() == [0.5, 0.75]
    if line:
        [message] = scores.attrs["skipped"]
        assert "metrics.jsonl: line 3" in message
        assert message in str(caught[0].message)
        with pytest.warns(SkippedWarning):
            assert message in analyse(tmp_path).skipped


def test_a_score_that_is_not_defined_is_missing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", "lora-r2", 0, [0.5])
    run.append_metrics({"epoch": 2.0, "eval_pearson": None})
    scores = load_scores(tmp_path)
    assert scores[scores["metric"] == "pearson"]["value"].isna().tolist() == [True]
