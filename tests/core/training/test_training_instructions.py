"""Instruction tuning of a causal model, from the file to the run directory."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msplora_core.errors import ParameterError, RunDirectoryError
from msplora_core.runs import RunDirectory
from msplora_core.training import RunConfig, train_run
from msplora_core.training.checking import check_inputs
from msplora_core.training.data.batches import LengthBatches
from msplora_core.training.presets import preset_settings
from msplora_core.training.run_warning import RunWarning
from msplora_core.training.trainer import mean_loss, token_metrics, token_totals

WORDS = ["one", "two", "three", "four", "five", "six"]


@pytest.fixture(scope="module")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty questions after the word that follows, one without an answer."""
    rows = [{"instruction": f"after {WORDS[i % 5]}", "output": WORDS[i % 5 + 1]} for i in range(40)]
    path = tmp_path_factory.mktemp("data") / "following.json"
    path.write_text(json.dumps([*rows, {"instruction": "after six", "output": ""}]))
    return path


@pytest.fixture
def config(tiny_decoder: Path, instructions: Path, tmp_path: Path) -> RunConfig:
    return RunConfig(
        task=str(instructions),
        model=str(tiny_decoder),
        out=tmp_path,
        epochs=2,
        batch_size=12,
        dropout=0,
        learning_rate=1e-2,
    )


def test_a_run_learns_and_records(config: RunConfig) -> None:
    with pytest.warns(RunWarning, match=r"following.json: 1 rows of the file are left out: their answers are empty"):
        run = train_run(config)
    record, events = run.read_record(), run.read_metrics()
    assert (record.task, record.data_file) == (Path(config.task).stem, Path(config.task).name)
    assert (run.path.name, record.task) == ("following-msplora-8-4-2-seed0", "following")
    assert (record.metric, record.configuration["task_type"]) == ("token_accuracy", "CAUSAL_LM")
    assert record.constant_score == 0.5  # each answer is a word and the end
    dev = {event["epoch"]: event for event in events if "eval_loss" in event}
    assert list(dev) == [0, 1, 2]
    assert dev[2]["eval_loss"] < dev[0]["eval_loss"]
    for event in dev.values():
        assert event["eval_perplexity"] == pytest.approx(np.exp(event["eval_loss"]))
        assert 0 <= event["eval_token_accuracy"] <= 1
    assert len(run.snapshot_paths()) == 3


def test_micro_batches_and_checkpointing_change_nothing(config: RunConfig) -> None:
    plain = train_run(config)
    saving = replace(
        config, out=Path(config.out) / "saving", micro_batch=5, gradient_checkpointing=True, max_eval_examples=4
    )
    assert LengthBatches([1] * 36, 12, 0, at_a_time=5).parts == 3
    left, right = plain.read_metrics(), train_run(saving).read_metrics()
    assert [event["step"] for event in left] == [event["step"] for event in right]
    for name in ("loss", "grad_norm", "eval_loss"):
        series = [[event[name] for event in events if name in event] for events in (left, right)]
        np.testing.assert_allclose(*series, rtol=1e-3)


def test_bfloat16_weights_and_loss_on_prompts(config: RunConfig) -> None:
    run = train_run(replace(config, bf16=True, loss_on_prompt=True, epochs=1, method="lora"))
    assert np.isfinite([event["eval_loss"] for event in run.read_metrics() if "eval_loss" in event]).all()


def test_two_processes_train_as_one(config: RunConfig) -> None:
    from tests.core.training.test_training_processes import ENVIRONMENT, LAUNCH

    alone = train_run(replace(config, micro_batch=4))
    words = ["--task", config.task, "--model", config.model, "--out", str(Path(config.out) / "two"), "--epochs", "2"]
    more = ["--batch-size", "12", "--micro-batch", "4", "--dropout", "0", "--learning-rate", "1e-2"]
    done = subprocess.run(
        [*LAUNCH, "-m", "msplora_cli", "train", *words, *more], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    shared = RunDirectory(Path(config.out) / "two" / alone.path.name)
    for name in ("loss", "grad_norm", "eval_loss", "eval_token_accuracy"):
        series = [[event[name] for event in run.read_metrics() if name in event] for run in (alone, shared)]
        np.testing.assert_allclose(*series, rtol=1e-3)


def test_loss_and_totals_are_those_of_the_answers(tiny_decoder: Path) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 7), torch.tensor([[-100, -100, 3, 4, -100], [-100, 1, -100, -100, -100]])
    by_hand = [-logits[i, j - 1].log_softmax(0)[labels[i, j]] for i, j in ((0, 2), (0, 3), (1, 1))]
    assert torch.isclose(mean_loss({"logits": logits}, labels), torch.stack(by_hand).mean())
    assert torch.isclose(mean_loss({"logits": logits}, labels, 6), torch.stack(by_hand).sum() / 6)
    totals = token_totals(logits, labels)
    assert totals[:, 2].tolist() == [2, 1]

    class Prediction:
        predictions = totals.numpy()

    metrics = token_metrics(Prediction())
    assert metrics["loss"] == pytest.approx(torch.stack(by_hand).mean().item(), rel=1e-6)
    assert metrics["perplexity"] == pytest.approx(np.exp(metrics["loss"]))


def test_the_wrong_kind_of_model(config: RunConfig, tiny_model: Path) -> None:
    for model in (str(tiny_model), None):
        with pytest.raises(
            ParameterError, match=r"a causal language model, for .*found .*, a model of type bert; smoll"
        ):
            check_inputs([replace(config, model=model)])


def test_files_of_one_name_in_two_folders(config: RunConfig, tmp_path: Path) -> None:
    other = tmp_path / "other" / Path(config.task).name
    other.parent.mkdir()
    rows = json.loads(Path(config.task).read_text())
    other.write_text(json.dumps(rows[1:]))
    short = replace(config, method="lora", rank=2, epochs=1)
    with pytest.raises(ParameterError) as caught:
        check_inputs([short, replace(short, task=str(other))])
    assert str(caught.value) == (
        f"task: expected one value for all runs named following-lora-r2-seed0, found {config.task} and {other}; "
        "give one of them another --out, or rename its file"
    )
    run = train_run(short)
    with pytest.raises(RunDirectoryError) as refused:
        train_run(replace(short, task=str(other)), resume=True)
    assert str(refused.value) == (
        f"{run.path}: expected a run on {other}, found one on a file of the same name with other contents; "
        "rename the file, or use another --out"
    )
    other.write_text(Path(config.task).read_text())  # a copy is the same task
    assert train_run(replace(short, task=str(other)), resume=True).path == run.path


def test_settings_that_fit_no_instructions(config: RunConfig) -> None:
    with pytest.raises(ParameterError, match="random_labels: expected a task with labels"):
        replace(config, random_labels=True)
    with pytest.raises(ParameterError, match="loss_on_prompt: expected a file of instructions as task, found mrpc"):
        replace(config, task="mrpc", loss_on_prompt=True)
    with pytest.raises(ParameterError, match=r"task: expected a .json or .jsonl file of instructions, found mrpc"):
        preset_settings("paper-llama", "mrpc")
    with pytest.raises(ParameterError, match="max_length: expected more tokens than the shortest prompt has, found 3"):
        train_run(replace(config, max_length=3))
    assert RunConfig(task="a.json", **preset_settings("paper-llama", "a.json")).name == "a-msplora-64-32-16-seed0"
