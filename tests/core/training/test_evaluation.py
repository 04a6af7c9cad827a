"""Scores of lm-evaluation-harness for a run, on a random model and a task of six questions."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from msplora_analysis import load_scores
from msplora_core.errors import FileError, MissingDependencyError, ParameterError, RunDirectoryError
from msplora_core.runs import RunDirectory, RunRecord
from msplora_core.training import RunConfig, train_run
from msplora_core.training.evaluation import PromptFormat, _loading, evaluate_run

TASK = """\
task: colours
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Q: {{{{input}}}} A:"
doc_to_choice: [red, blue]
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}]
"""


@pytest.fixture(scope="module")
def finished(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of MSPLoRA on the random decoder."""
    folder = tmp_path_factory.mktemp("evaluated")
    rows = [{"instruction": f"what is {i}", "output": "red"} for i in range(6)]
    (folder / "words.json").write_text(json.dumps(rows))
    config = RunConfig(task=str(folder / "words.json"), model=str(tiny_decoder), out=folder, epochs=1, batch_size=5)
    return train_run(replace(config, learning_rate=1e-2, warmup=0)).path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to write scores into."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def tasks_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    data = folder / "colours.jsonl"
    data.write_text("".join(json.dumps({"input": f"thing {i}", "answer": i % 2}) + "\n" for i in range(6)))
    (folder / "colours.yaml").write_text(TASK.format(data=data))
    return folder


def test_scores_become_the_runs(run: Path, tasks_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="the extra eval is not installed")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    after = evaluate_run(run, ["colours"], tasks_dir=tasks_dir)
    before = evaluate_run(run, ["colours"], tasks_dir=tasks_dir, before=True)
    assert evaluate_run(run, ["colours"], tasks_dir=tasks_dir, limit=6) == after
    assert list(after) == list(before) == ["colours_acc"]
    table = load_scores(run).query("metric == 'colours_acc'")
    assert dict(zip(table["epoch"], table["value"], strict=True)) == {
        1.0: after["colours_acc"],
        0.0: before["colours_acc"],
    }
    assert set(load_scores(run)["metric"]) == {"loss", "perplexity", "token_accuracy", "colours_acc"}
    with pytest.raises(ParameterError, match="found colour; the nearest is colours"):
        evaluate_run(run, ["colour"], tasks_dir=tasks_dir)
    (tasks_dir / "programs.yaml").write_text("include: colours.yaml\ntask: programs\nunsafe_code: true\n")
    with pytest.raises(ParameterError, match=r"found programs; --allow-code-execution runs code from the model on"):
        evaluate_run(run, ["programs"], tasks_dir=tasks_dir)
    (tasks_dir / "utils.py").touch()
    with pytest.raises(ParameterError, match=r"without Python code, found .*utils.py; --allow-code-execution runs it"):
        evaluate_run(run, ["colours"], tasks_dir=tasks_dir)
    with pytest.raises(ParameterError, match=r"expected a folder with task files \(.yaml\)"):
        evaluate_run(run, ["colours"], tasks_dir=tmp_path / "none")


def test_prompts_are_in_the_chat_format_where_training_used_one(
    run: Path, tasks_dir: Path, tiny_decoder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lm_eval = pytest.importorskip("lm_eval", reason="the extra eval is not installed")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    asked: list[bool] = []
    original = lm_eval.simple_evaluate

    def evaluated(*args: Any, **options: Any) -> Any:
        asked.append(options["apply_chat_template"])
        return original(*args, **options)

    monkeypatch.setattr(lm_eval, "simple_evaluate", evaluated)
    with pytest.raises(ParameterError, match="chat_template: expected a model with a chat format, found one without"):
        evaluate_run(run, ["colours"], tasks_dir=tasks_dir, chat_template=True)
    chatty = Path(shutil.copytree(tiny_decoder, tmp_path / "chatty"))
    (chatty / "chat_template.jinja").write_text("{% for m in messages %}<{{ m.role }}> {{ m.content }}{% endfor %}")
    with pytest.warns(PromptFormat, match="prompts are in the model's chat format, as in training"):
        evaluate_run(run, ["colours"], tasks_dir=tasks_dir, model=str(chatty))
    evaluate_run(run, ["colours"], tasks_dir=tasks_dir, model=str(chatty), chat_template=False)
    evaluate_run(run, ["colours"], tasks_dir=tasks_dir)
    assert asked == [True, False, False]


def test_runs_that_cannot_be_evaluated(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterError, match="tasks: expected at least one task of the harness, found none"):
        evaluate_run(run, [])
    with pytest.raises(
        RunDirectoryError, match=r"expected a run directory, found no run\.json; of a study, name its runs"
    ):
        evaluate_run(run.parent, ["mmlu"])
    directory = RunDirectory(run)
    record = directory.read_record()
    record.finished = None
    directory.write_record(record)
    with pytest.raises(RunDirectoryError, match="expected a finished run"):
        evaluate_run(run, ["mmlu"])
    record.configuration["task_type"] = "SEQ_CLS"
    directory.write_record(record)
    with pytest.raises(RunDirectoryError, match=r"a run of a causal language model, found one of type SEQ_CLS"):
        evaluate_run(run, ["mmlu"])


def test_what_would_lose_scores_is_told_before_they_are_computed(run: Path) -> None:
    records = RunDirectory(run)
    lines = records.metrics_path.read_text()
    records.metrics_path.write_text(f"5\n{lines}")
    with pytest.raises(FileError, match=r"metrics.jsonl: line 1: expected a JSON object, found 5"):
        evaluate_run(run, ["colours"])
    records.metrics_path.write_text(lines)
    for path in records.snapshot_paths():
        path.unlink()
    with pytest.raises(RunDirectoryError, match=f"{run}: expected a snapshot at the last epoch, found none"):
        evaluate_run(run, ["colours"])


def test_the_package_is_named_where_it_is_missing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lm_eval.tasks", None)
    with pytest.raises(MissingDependencyError, match=r'evaluation needs lm-eval: pip install "msplora\[eval\]"'):
        evaluate_run(run, ["mmlu"])


def test_scores_replace_those_of_the_same_name_and_epoch(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_record(RunRecord(method="lora-r2", model="m"))
    run.append_metrics({"step": 3, "epoch": 1.0, "eval_loss": 0.5})
    for value in (0.25, 0.75):
        run.record_scores(1.0, 3, {"navigate_acc": value})
        run.record_scores(0, 0, {"navigate_acc": math.nan})
    assert run.read_metrics() == [
        {"step": 3, "epoch": 1.0, "eval_loss": 0.5},
        {"step": 3, "epoch": 1.0, "eval_navigate_acc": 0.75},
        {"step": 0, "epoch": 0, "eval_navigate_acc": None},
    ]


def test_the_base_model_is_loaded_as_it_was_trained_on() -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    assert _loading(RunRecord(method="lora-r8", model="m", hyperparameters={"method": "lora"})) == {}
    of_qlora = _loading(RunRecord(method="qlora-r8", model="m", hyperparameters={"method": "qlora", "bf16": True}))
    assert of_qlora["quantization_config"].bnb_4bit_quant_type == "nf4"
    assert of_qlora["quantization_config"].bnb_4bit_compute_dtype == torch.bfloat16
