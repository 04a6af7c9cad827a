"""Whole runs on a tiny model: what they write, and that they resume, repeat and stop as they should."""

from __future__ import annotations

import math
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import TrainerCallback

from msplora_core.errors import ParameterError, RunDirectoryError, TrainingError
from msplora_core.runs import RunDirectory
from msplora_core.training import RunConfig, TaskData, train_run
from msplora_core.training.data.grammar import generate


@pytest.fixture
def config(tiny_model: Path, tmp_path: Path) -> RunConfig:
    return RunConfig(
        task="acceptability", model=str(tiny_model), out=tmp_path, epochs=2, batch_size=8, learning_rate=1e-3
    )


def losses(run: RunDirectory) -> list[float]:
    return [event["loss"] for event in run.read_metrics() if "loss" in event]


def assert_same_spectra(one: RunDirectory, other: RunDirectory) -> None:
    for left, right in zip(one.snapshots(), other.snapshots(), strict=True):
        assert left.epoch == right.epoch
        assert left.spectra.keys() == right.spectra.keys()
        assert all(np.array_equal(left.spectra[key], right.spectra[key]) for key in left.spectra)


@pytest.mark.parametrize("method", ["lora", "msplora"])
def test_run_directory_is_whole(config: RunConfig, few: TaskData, method: str) -> None:
    run = train_run(replace(config, method=method), data=few)
    record = run.read_record()
    assert record.method == {"lora": "lora-r8", "msplora": "msplora-8-4-2"}[method]
    assert (record.model, record.task, record.seed, record.layers) == ("tiny-bert", "acceptability", 0, 3)
    assert record.modules == ["query", "value"]
    assert record.finished is not None
    assert record.hyperparameters["epochs"] == 2
    assert {"torch", "transformers", "peft"} <= set(record.versions)
    snapshots = list(run.snapshots())
    assert [(snapshot.epoch, snapshot.step) for snapshot in snapshots] == [(0, 0), (1, 4), (2, 8)]
    for snapshot in snapshots:
        assert {key: len(sigma) for key, sigma in snapshot.spectra.items()} == {
            component["key"]: component["rank"] for component in record.components
        }
        largest = max(sigma[0] for sigma in snapshot.spectra.values())
        assert largest == 0 if snapshot.epoch == 0 else largest > 0
    events = run.read_metrics()
    assert [event["epoch"] for event in events if "loss" in event] == [1, 2]
    assert [event["step"] for event in events if "eval_matthews" in event] == [4, 8]
    assert all(math.isfinite(loss) for loss in losses(run))


def test_spectra_within_an_epoch(config: RunConfig, few: TaskData) -> None:
    run = train_run(replace(config, epochs=1, spectra_steps=2), data=few)
    assert [(snapshot.epoch, snapshot.step) for snapshot in run.snapshots()] == [(0, 0), (0.5, 2), (1, 4)]


def test_spectra_are_those_of_the_saved_adapter(config: RunConfig, few: TaskData) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    run = train_run(config, data=few)
    base = AutoModelForSequenceClassification.from_pretrained(config.model)
    before = {name: weight.detach().double().numpy() for name, weight in base.named_parameters()}
    merged = PeftModel.from_pretrained(base, run.adapter_path).merge_and_unload()
    last = list(run.snapshots())[-1].spectra
    for name, weight in merged.named_parameters():
        for module in ("query", "value"):
            if name.endswith(f"{module}.weight"):
                layer = int(name.split(".layer.")[1].split(".")[0])
                dense = np.linalg.svd(weight.detach().double().numpy() - before[name], compute_uv=False)
                expected = last[f"total/{module}/{layer}"]
                np.testing.assert_allclose(dense[: len(expected)], expected, atol=1e-6)


def test_components_name_the_layers_they_serve(config: RunConfig, few: TaskData) -> None:
    run = train_run(replace(config, ranks=(4, 2, 1), groups=(1,), epochs=1), data=few)
    served = {component["key"]: component["layers"] for component in run.read_record().components}
    assert served["global/query/0"] == [0, 1, 2]
    assert (served["mid/value/0"], served["mid/value/1"]) == ([0], [1, 2])
    assert served["layer/query/2"] == served["total/query/2"] == [2]


def test_same_seed_same_run(config: RunConfig, few: TaskData) -> None:
    first, again, other = (
        train_run(replace(config, out=config.out / name, seed=seed), data=few)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert losses(first) == losses(again) != losses(other)
    assert_same_spectra(first, again)


def test_kill_in_mid_epoch_then_resume(config: RunConfig, few: TaskData) -> None:
    config = replace(config, epochs=4)
    whole = train_run(replace(config, out=config.out / "whole"), data=few)
    killed = replace(config, out=config.out / "killed")
    script = f"""
import signal
from transformers import TrainerCallback
from msplora_core.training import RunConfig, TaskData, train_run
from msplora_core.training.data.grammar import generate
from msplora_core.training.data.grammar import generate

class Slow(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 10:  # epoch 3 has begun
            print("mid-epoch", flush=True)
            signal.pause()

few = TaskData(generate("acceptability", "train", 30), generate("acceptability", "dev", 10))
train_run({_written(killed)}, data=few, callbacks=[Slow()])
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mid-epoch\n"
        process.send_signal(signal.SIGKILL)
    run = RunDirectory(killed.path)
    assert run.read_record().finished is None
    assert [snapshot.epoch for snapshot in run.snapshots()] == [0, 1, 2]
    half = run.checkpoints_path / "checkpoint-12"
    half.mkdir()  # as if the kill had struck while the next checkpoint was written
    (half / "adapter_model.safetensors").write_bytes(b"half")
    train_run(killed, data=few, resume=True)
    assert run.read_record().finished is not None
    assert [snapshot.epoch for snapshot in run.snapshots()] == [0, 1, 2, 3, 4]
    assert losses(run) == losses(whole)
    rates = [[e["learning_rate"] for e in r.read_metrics() if "learning_rate" in e] for r in (run, whole)]
    assert rates[0] == rates[1]
    assert_same_spectra(run, whole)


def test_kill_before_the_first_checkpoint_begins_anew(config: RunConfig, few: TaskData) -> None:
    run = train_run(config, data=few)
    record = run.read_record()
    record.finished = None
    run.write_record(record)
    before = losses(run)
    for mark in run.checkpoints_path.glob("*/complete"):
        mark.unlink()
    train_run(config, data=few, resume=True)
    assert losses(run) == before
    assert [snapshot.epoch for snapshot in run.snapshots()] == [0, 1, 2]


def test_run_that_exists(config: RunConfig, few: TaskData) -> None:
    run = train_run(config, data=few)
    with pytest.raises(RunDirectoryError) as caught:
        train_run(config, data=few)
    assert str(caught.value) == (
        f"{run.path}: expected no such folder yet, found a run; continue it with --resume, or use another --out"
    )
    written = run.record_path.read_bytes()
    assert train_run(config, data=few, resume=True).path == run.path
    assert run.record_path.read_bytes() == written
    with pytest.raises(ParameterError) as changed:
        train_run(replace(config, learning_rate=0.5), data=few, resume=True)
    assert str(changed.value) == (f"learning_rate: expected 0.001, as in the run to resume, {run.path}, found 0.5")


def test_a_disk_that_fills_is_named_and_the_run_resumes(
    config: RunConfig, few: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 6:
                raise RuntimeError("iostream error")  # as torch.save

    with pytest.raises(RuntimeError, match="iostream error"):
        train_run(config, data=few, callbacks=[Full()])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4096))
    with pytest.raises(RunDirectoryError) as caught:
        train_run(config, data=few, resume=True, callbacks=[Full()])
    assert str(caught.value) == (
        f"{config.path}: expected room on the disk for a checkpoint, found 4 kB free (iostream error); "
        "make room, then resume: finished epochs are kept"
    )
    assert len(list(train_run(config, data=few, resume=True).snapshots())) == 3


def test_more_epochs_extend_a_finished_run(config: RunConfig, few: TaskData) -> None:
    run = train_run(config, data=few)
    assert [path.name for path in run.checkpoints_path.iterdir()] == ["checkpoint-8"]
    first, spectra = run.read_metrics(), [snapshot.spectra for snapshot in run.snapshots()]
    train_run(replace(config, epochs=4), data=few, resume=True)
    record = run.read_record()
    assert record.hyperparameters["epochs"] == 4
    assert record.finished is not None
    assert run.read_metrics()[: len(first)] == first
    assert [snapshot.epoch for snapshot in run.snapshots()] == [0, 1, 2, 3, 4]
    for snapshot, before in zip(run.snapshots(), spectra, strict=False):
        assert all(np.array_equal(snapshot.spectra[key], sigma) for key, sigma in before.items())
    whole = train_run(replace(config, epochs=4, out=config.out / "whole"), data=few)
    rates = [[e["learning_rate"] for e in r.read_metrics() if "learning_rate" in e] for r in (run, whole)]
    assert rates[0][1] < rates[0][2] == rates[1][2]
    assert rates[0][3] == rates[1][3]
    with pytest.raises(ParameterError, match=r"epochs: expected 4, as in the run to resume, .*, found 2"):
        train_run(config, data=few, resume=True)


class Rates(TrainerCallback):
    """The learning rate of each optimiser step."""

    def __init__(self) -> None:
        self.seen: dict[int, float] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        self.seen[state.global_step] = optimizer.param_groups[0]["lr"]


def test_the_first_resumed_step_has_the_learning_rate_of_the_longer_schedule(config: RunConfig, few: TaskData) -> None:
    resumed, straight = Rates(), Rates()
    run = train_run(config, data=few)
    longer = replace(config, epochs=3)
    train_run(longer, data=few, resume=True, callbacks=[resumed])
    train_run(replace(longer, out=config.out / "straight"), data=few, callbacks=[straight])
    assert resumed.seen == {step: straight.seen[step] for step in range(8, 12)}
    before, after = list(run.snapshots())[2:4]
    assert not np.array_equal(before.spectra["layer/query/0"], after.spectra["layer/query/0"])


def test_a_finished_run_without_checkpoints_is_not_extended(config: RunConfig, few: TaskData) -> None:
    run = train_run(config, data=few)
    shutil.rmtree(run.checkpoints_path)
    with pytest.raises(RunDirectoryError) as caught:
        train_run(replace(config, epochs=3), data=few, resume=True)
    assert str(caught.value) == (
        f"{run.checkpoints_path}: expected the checkpoint to continue from, found none that is complete"
    )
    assert [snapshot.epoch for snapshot in run.snapshots()] == [0, 1, 2]


def test_a_schedule_is_not_extended(config: RunConfig, few: TaskData) -> None:
    config = replace(config, schedule=(("global",), ("layer",)))
    run = train_run(config, data=few)
    assert not list(run.checkpoints_path.iterdir())
    with pytest.raises(ParameterError, match="epochs: expected 2, as in the run to resume"):
        train_run(replace(config, epochs=3), data=few, resume=True)


def test_a_run_is_locked_while_it_trains(config: RunConfig, few: TaskData) -> None:
    refused = []

    class Second(TrainerCallback):
        def on_epoch_end(self, *_: object, **__: object) -> None:
            with pytest.raises(RunDirectoryError, match="trained by process") as caught:
                train_run(config, data=few, resume=True)
            refused.append(caught.value)

    run = train_run(config, data=few, callbacks=[Second()])
    assert len(refused) == 2
    assert not (run.path / "LOCK").exists()


def test_a_lock_left_over_by_a_kill_is_no_run(config: RunConfig, few: TaskData) -> None:
    config.path.mkdir()
    (config.path / "LOCK").write_text('{"pid": 1, "host": "elsewhere"}')
    assert train_run(config, data=few).read_record().finished is not None


def test_evaluation_on_some_examples(config: RunConfig, few: TaskData) -> None:
    run = train_run(replace(config, task="paraphrase", max_eval_examples=4, epochs=1), data=few)
    record, labels = run.read_record(), few.dev.subset(4).labels
    score = [event["eval_accuracy"] for event in run.read_metrics() if "eval_accuracy" in event][-1]
    assert score in (0, 0.25, 0.5, 0.75, 1)
    assert record.metric == "accuracy"
    assert record.constant_score == max(labels.count(label) for label in labels) / 4
    assert train_run(replace(config, epochs=1), data=few).read_record().constant_score == 0


def test_folder_that_is_no_run(config: RunConfig, few: TaskData) -> None:
    config.path.mkdir()
    (config.path / "thesis.tex").touch()
    with pytest.raises(RunDirectoryError, match="expected a run, or no such folder yet, found something else"):
        train_run(config, data=few, resume=True)
    assert [path.name for path in config.path.iterdir()] == ["thesis.tex"]


def test_loss_that_is_not_finite(config: RunConfig, few: TaskData) -> None:
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) at step \d+, in epoch \d+: the run stops"):
        train_run(replace(config, learning_rate=1e36, epochs=5), data=few)
    run = RunDirectory(config.path)
    assert run.read_record().finished is None
    assert next(run.snapshots()).epoch == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": 4}, "groups: expected 1 to 3, the number of layers with query, found 4"),
        (
            {"target_modules": ("q_proj",)},
            "target_modules: expected linear modules of the model: dense, key, query, value, found q_proj",
        ),
        (
            {"model": "no/such-model"},
            "model: expected a folder or hub id that transformers can load for classification",
        ),
    ],
)
def test_what_does_not_fit_leaves_nothing(
    config: RunConfig, few: TaskData, changes: dict[str, object], message: str
) -> None:
    config = replace(config, **changes)
    with pytest.raises(ParameterError) as caught:
        train_run(config, data=few)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not config.path.exists()


def test_training_learns(config: RunConfig, tiny_model: Path) -> None:
    from msplora_core.training import Examples

    words = ["good", "bad"]
    examples = Examples([(f"a very {words[i % 2]} film",) for i in range(64)], [i % 2 for i in range(64)])
    config = replace(config, epochs=8, learning_rate=2e-2)
    run = train_run(config, data=TaskData(examples, examples))
    assert [event for event in run.read_metrics() if "eval_matthews" in event][-1]["eval_matthews"] == 1.0


def test_evaluation_is_that_of_the_saved_adapter(config: RunConfig, few: TaskData) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    run = train_run(replace(config, method="lora"), data=few)
    base = AutoModelForSequenceClassification.from_pretrained(config.model)
    model = PeftModel.from_pretrained(base, run.adapter_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(config.model)
    with torch.no_grad():
        logits = [model(**tokenizer(*texts, return_tensors="pt")).logits[0] for texts in few.dev.texts]
    loss = torch.nn.functional.cross_entropy(torch.stack(logits), torch.tensor(few.dev.labels))
    recorded = [event for event in run.read_metrics() if "eval_loss" in event][-1]["eval_loss"]
    assert recorded == pytest.approx(loss.item(), abs=1e-5)


def _written(config: RunConfig) -> str:
    values = {name: getattr(config, name) for name in ("task", "model", "epochs", "batch_size", "learning_rate")}
    return f"RunConfig(out={str(config.out)!r}, **{values!r})"


def test_scales_train_on_schedule(config: RunConfig, few: TaskData) -> None:
    config = replace(config, epochs=3, schedule=(("global",), ("mid",), ("layer",)))
    run = train_run(config, data=few)
    largest = [
        {scale: max(s[0] for key, s in snapshot.spectra.items() if key.startswith(scale)) for scale in scales}
        for snapshot in run.snapshots()
        for scales in [("global", "mid", "layer")]
    ]
    assert largest[1]["global"] > 0 == largest[1]["mid"] == largest[1]["layer"]
    assert largest[2]["global"] == largest[1]["global"]
    assert largest[2]["mid"] > 0 == largest[2]["layer"]
    assert largest[3]["mid"] == largest[2]["mid"]
    assert largest[3]["layer"] > 0
    assert run.read_record().hyperparameters["schedule"] == [["global"], ["mid"], ["layer"]]


def test_alpha_of_each_scale_and_rslora(config: RunConfig, few: TaskData) -> None:
    run = train_run(replace(config, alpha=(16, 8, 4), rslora=True, epochs=1), data=few)
    configuration = run.read_record().configuration
    assert configuration["lora_alpha"] == [16, 8, 4]
    assert configuration["use_rslora"] is True


@pytest.mark.parametrize(
    ("method", "pattern", "query", "value"),
    [("lora", {"value": 3}, {"layer": 8}, {"layer": 3}),
     ("msplora", {"value": (4, 2, 0)}, {"global": 8, "mid": 4, "layer": 2}, {"global": 4, "mid": 2})],
)  # fmt: skip
def test_ranks_of_a_module_type(
    config: RunConfig, few: TaskData, method: str, pattern: dict, query: dict, value: dict
) -> None:
    run = train_run(replace(config, method=method, rank_pattern=pattern, epochs=1), data=few)
    found: dict[str, dict[str, int]] = {"query": {}, "value": {}}
    for component in run.read_record().components:
        scale, module, _ = component["key"].split("/")
        if scale != "total":
            found[module][scale] = component["rank"]
    assert found == {"query": query, "value": value}


def test_a_pattern_that_fits_no_module_is_refused(config: RunConfig, few: TaskData) -> None:
    with pytest.raises(ParameterError, match="rank_pattern: expected ranks of query, value, found foo"):
        train_run(replace(config, rank_pattern={"foo": (4, 2, 1)}), data=few)
    assert not config.path.exists()


def test_initialisation_by_name(config: RunConfig, few: TaskData) -> None:
    run = train_run(replace(config, init="orthogonal", ranks=(8, 4, 2), epochs=1), data=few)
    assert run.read_record().configuration["init_lora_weights"] == "orthogonal"
    with pytest.raises(ParameterError, match="init: expected one of kaiming, gaussian, orthogonal, found noise"):
        replace(config, init="noise")
    with pytest.raises(ParameterError, match="rank_pattern: expected one rank a module type for LoRA, three for"):
        replace(config, method="lora", rank_pattern={"value": (4, 2, 1)})


def test_bf16_trains_without_a_gpu(config: RunConfig, few: TaskData) -> None:
    run = train_run(replace(config, epochs=1, bf16=True), data=few)
    exact = train_run(replace(config, epochs=1, out=Path(config.out) / "float32"), data=few)
    assert run.read_record().hyperparameters["bf16"]
    assert losses(run) == pytest.approx(losses(exact), rel=0.02)
    assert losses(run) != losses(exact)


def test_a_regression_starts_at_the_mean_label(config: RunConfig) -> None:
    """With a bias of zero, the loss before training is at least the squared mean label, 9 here."""
    data = TaskData(generate("similarity", "train", 30), generate("similarity", "dev", 10))
    high = replace(data.train, labels=[3.0 + (label > 2.5) for label in data.train.labels])
    run = train_run(replace(config, task="similarity", epochs=1), data=TaskData(high, data.dev))
    assert losses(run)[0] < 1
