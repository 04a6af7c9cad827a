"""Training on permuted labels, as a control."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from msplora_core.runs import RunDirectory
from msplora_core.training import RunConfig, TaskData, train_run
from msplora_core.training.run_place import check_place


def losses(run: RunDirectory) -> list[float]:
    return [event["loss"] for event in run.read_metrics() if "loss" in event]


def test_labels_are_permuted_once_and_the_method_says_so(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    config = RunConfig(task="acceptability", method="lora", model=str(tiny_model), out=tmp_path, epochs=1, batch_size=8)
    control = train_run(replace(config, random_labels=True), data=few)
    assert control.path.name == "acceptability-lora-r8-random-labels-seed0"
    assert control.read_record().method == "lora-r8-random-labels"
    permuted = few.train.with_permuted_labels()
    assert sorted(permuted.labels) == sorted(few.train.labels)
    assert permuted.labels != few.train.labels
    by_hand = train_run(config, data=TaskData(permuted, few.dev))
    assert losses(control) == losses(by_hand)


def test_a_run_recorded_before_there_were_random_labels_is_the_same_run(
    tiny_model: Path, few: TaskData, tmp_path: Path
) -> None:
    config = RunConfig(task="acceptability", model=str(tiny_model), out=tmp_path, epochs=1, batch_size=8)
    run = train_run(config, data=few)
    record = json.loads(run.record_path.read_bytes())
    del record["hyperparameters"]["random_labels"]
    run.record_path.write_text(json.dumps(record))
    assert check_place(config, resume=True) == "finished"
