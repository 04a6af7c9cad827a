"""The callback in a Trainer of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from msplora_core.errors import ParameterError, RunDirectoryError
from msplora_core.methods import configured_name
from msplora_core.runs import RunDirectory
from msplora_core.training import SpectralSnapshotCallback, TaskData


def user_trainer(
    model: Any,
    few: TaskData,
    tmp_path: Path,
    callback: SpectralSnapshotCallback | None = None,
    *,
    trainer: Any = None,
    **options: Any,
) -> Any:
    from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

    from msplora_core.training.models import packaged_model

    tokenizer = AutoTokenizer.from_pretrained(packaged_model())
    rows = [
        {**tokenizer(*texts), "labels": label} for texts, label in zip(few.train.texts, few.train.labels, strict=True)
    ]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "theirs"),
        per_device_train_batch_size=8,
        **{"save_strategy": "no", "report_to": "none", "disable_tqdm": True, **options},
    )
    return (trainer or Trainer)(
        model,
        arguments,
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[callback or SpectralSnapshotCallback(tmp_path / "run")],
    )


def base_model(path: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(path, num_labels=2)


def lora(path: Path, **options: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS", **options)
    return get_peft_model(base_model(path), config)


def moments(run: RunDirectory) -> list[tuple[float, int]]:
    return [(snapshot.epoch, snapshot.step) for snapshot in run.snapshots()]


def test_one_line_in_any_trainer(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    user_trainer(lora(tiny_model), few, tmp_path, num_train_epochs=2, logging_steps=2, seed=7).train()
    run = RunDirectory(tmp_path / "run")
    record = run.read_record()
    assert (record.method, record.model, record.task, record.seed) == ("lora-r2", "tiny-bert", "", 7)
    assert (record.layers, record.modules) == (3, ["query"])
    assert record.hyperparameters["epochs"] == 2
    assert record.configuration["peft_type"] == "LORA"
    assert record.finished is not None
    assert [(snapshot.epoch, snapshot.step) for snapshot in run.snapshots()] == [(0, 0), (1, 4), (2, 8)]
    assert set(next(run.snapshots()).spectra) == {f"layer/query/{i}" for i in range(3)}
    assert [event["step"] for event in run.read_metrics() if "loss" in event] == [2, 4, 6, 8]


def test_msplora_in_any_trainer(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    from peft import get_peft_model

    from msplora_core import MSPLoraConfig

    config = MSPLoraConfig(ranks=(4, 2, 0), target_modules=["query", "value"], task_type="SEQ_CLS")
    model = get_peft_model(base_model(tiny_model), config)
    user_trainer(model, few, tmp_path, num_train_epochs=1).train()
    run = RunDirectory(tmp_path / "run")
    assert run.read_record().method == "msplora-4-2-0"
    last = list(run.snapshots())[-1]
    assert {key.split("/")[0] for key in last.spectra} == {"global", "mid", "total"}
    for factor in (last.factor_A, last.factor_B):
        assert {key: len(sigma) for key, sigma in factor.items()} == {
            key: len(sigma) for key, sigma in last.spectra.items()
        }
    for module in ("query", "value"):
        squares = [(last.spectra[f"total/{module}/{layer}"] ** 2).sum() for layer in range(3)]
        assert_allclose(np.diagonal(last.inner[module]), squares, rtol=1e-12)
        assert np.abs(last.inner[module][0, 2]) <= np.sqrt(squares[0] * squares[2])


def test_a_record_that_is_there_stays(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from msplora_core.runs import RunRecord

    RunDirectory(tmp_path / "run").write_record(RunRecord(method="mine", model="ours", task="tea", seed=5))
    model = get_peft_model(base_model(tiny_model), LoraConfig(target_modules=["value"], task_type="SEQ_CLS"))
    user_trainer(model, few, tmp_path, num_train_epochs=1).train()
    record = RunDirectory(tmp_path / "run").read_record()
    assert (record.method, record.model, record.task, record.seed) == ("mine", "ours", "tea", 5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_steps": 3}, [(0, 0), (1, 3)]),  # within the first epoch of 4 steps
        ({"num_train_epochs": 2.5}, [(0, 0), (1, 4), (2, 8), (3, 10)]),
        ({"num_train_epochs": 2, "gradient_accumulation_steps": 3}, [(0, 0), (1, 2), (2, 4)]),
        ({"num_train_epochs": 1, "save_strategy": "steps", "save_steps": 3}, [(0, 0), (1, 4)]),
    ],
)
def test_one_snapshot_an_epoch(
    tiny_model: Path, few: TaskData, tmp_path: Path, options: dict[str, Any], expected: list[tuple[int, int]]
) -> None:
    user_trainer(lora(tiny_model), few, tmp_path, **options).train()
    assert moments(RunDirectory(tmp_path / "run")) == expected


def test_snapshots_within_epochs(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    callback = SpectralSnapshotCallback(tmp_path / "run", every_n_steps=2, task="cola", model="mine")
    user_trainer(lora(tiny_model), few, tmp_path, callback, num_train_epochs=1.5).train()
    assert moments(callback.run) == [(0, 0), (0.5, 2), (1, 4), (2, 6)]
    record = callback.run.read_record()
    assert (record.task, record.model) == ("cola", "mine")
    with pytest.raises(ParameterError, match="every_n_steps: expected at least 1, found 0"):
        SpectralSnapshotCallback(tmp_path, every_n_steps=0)


def test_a_used_folder_is_refused_unless_overwritten(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    user_trainer(lora(tiny_model), few, tmp_path, num_train_epochs=2, logging_steps=4).train()
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(RunDirectoryError) as caught:
        user_trainer(lora(tiny_model), few, tmp_path, max_steps=1).train()
    assert str(caught.value) == (
        f"{run.path}: expected a folder without records of an earlier training, found 3 snapshots; "
        "resume from its checkpoint, use another folder, or delete them with overwrite=True"
    )
    assert moments(run) == [(0, 0), (1, 4), (2, 8)]
    again = SpectralSnapshotCallback(run.path, task="rte", overwrite=True)
    user_trainer(lora(tiny_model), few, tmp_path, again, max_steps=1, logging_steps=1).train()
    assert moments(run) == [(0, 0), (1, 1)]
    assert run.read_record().task == "rte"
    assert {event["step"] for event in run.read_metrics()} == {1}


@pytest.mark.parametrize(("left", "found"), [("metrics.jsonl", "metrics.jsonl"), ("run.json", "a finished run.json")])
def test_a_used_folder_without_snapshots_is_refused(
    tiny_model: Path, few: TaskData, tmp_path: Path, left: str, found: str
) -> None:
    user_trainer(lora(tiny_model), few, tmp_path, max_steps=2, logging_steps=1).train()
    run = RunDirectory(tmp_path / "run")
    for path in [*run.snapshot_paths(), run.record_path, run.metrics_path]:
        if path.name != left:
            path.unlink()
    with pytest.raises(RunDirectoryError, match=f"without records of an earlier training, found {found}; resume"):
        user_trainer(lora(tiny_model), few, tmp_path, max_steps=1).train()
    again = SpectralSnapshotCallback(run.path, overwrite=True)
    trainer = user_trainer(lora(tiny_model, use_rslora=True), few, tmp_path, again, max_steps=1)
    trainer.train()
    assert run.read_record().configuration["use_rslora"]
    assert {event["step"] for event in run.read_metrics()} == {1}


def test_an_evaluation_before_the_training_is_kept(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    trainer = user_trainer(lora(tiny_model), few, tmp_path, max_steps=1)
    trainer.evaluate()
    trainer.train()
    assert [event["step"] for event in RunDirectory(tmp_path / "run").read_metrics()] == [0, 1]


def test_only_the_folder_of_the_same_training_is_resumed(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    settings = {"num_train_epochs": 2, "save_strategy": "epoch", "logging_steps": 1, "learning_rate": 1e-2}

    def train(place: str, *, resume: bool = False, model: Any = None, **options: Any) -> None:
        callback = SpectralSnapshotCallback(tmp_path / place)
        trainer = user_trainer(model or lora(tiny_model), few, tmp_path, callback, **{**settings, **options})
        trainer.train(resume_from_checkpoint=str(tmp_path / "theirs" / "checkpoint-4") if resume else None)

    def wide() -> Any:
        config = LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS")
        return get_peft_model(base_model(tiny_model), config)

    train("method", model=lora(tiny_model, use_dora=True))
    train("seed", seed=2)
    train("rank", model=lora(tiny_model, rank_pattern={"layer.1.attention.self.query": 1}))
    train("more", model=lora(tiny_model, rank_pattern={"layer.1.attention.self.query": 4}))
    train("modules", model=wide())
    train("rate", learning_rate=1e-3)
    train("mine")
    for place, said in (
        ("method", "method: expected dora-r2, as in this folder's records, found lora-r2, of another training"),
        ("seed", "seed: expected 2, as in this folder's records, found 42, of another training"),
        ("rank", "rank of layer/query/1: expected 1, as in this folder's records, found 2, of another training"),
        ("more", "snapshots/epoch-0001.safetensors: layer/query/[01]: expected .*, found .*, of another training"),
        ("modules", "layer/value/0: expected a component, as in this folder's records, found none, of another"),
        ("rate", r"snapshots/epoch-0001.safetensors: layer/query/0: expected σ₁ \S+, as in .*, found \S+, of another"),
    ):
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / place).rglob("*")}
        with pytest.raises(RunDirectoryError, match=f"{tmp_path / place}: {said}"):
            train(place, resume=True)
        assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / place).rglob("*")}
    train("mine", resume=True)
    assert moments(RunDirectory(tmp_path / "mine")) == [(0, 0), (1, 4), (2, 8)]


def test_resumed_within_an_epoch(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    """What was recorded after the checkpoint is recorded again; an epoch cut short becomes a moment within it."""
    run = RunDirectory(tmp_path / "run")
    saved = {"save_strategy": "steps", "save_steps": 3, "logging_steps": 1}
    user_trainer(lora(tiny_model), few, tmp_path, max_steps=6, **saved).train()
    assert moments(run) == [(0, 0), (1, 4), (2, 6)]
    with run.metrics_path.open("a") as file:
        file.write('{"step": 6, "lo')  # as a kill leaves it
    checkpoints = tmp_path / "theirs"
    resumed = user_trainer(lora(tiny_model), few, tmp_path, num_train_epochs=2, **saved)
    resumed.train(resume_from_checkpoint=str(checkpoints / "checkpoint-6"))
    assert moments(run) == [(0, 0), (1, 4), (1.5, 6), (2, 8)]
    user_trainer(lora(tiny_model), few, tmp_path, num_train_epochs=1, **saved).train(
        resume_from_checkpoint=str(checkpoints / "checkpoint-3")
    )
    assert moments(run) == [(0, 0), (1, 4)]
    steps = [event["step"] for event in run.read_metrics() if "loss" in event]
    assert steps == [1, 2, 3, 4]


def test_components_are_served_where_the_adapter_put_them(tiny_model: Path, tmp_path: Path) -> None:
    from peft import get_peft_model
    from transformers import BertConfig, BertForSequenceClassification

    from msplora_core import MSPLoraConfig, read_adapter
    from msplora_core.adapter import read_components
    from msplora_core.adapter.live_updates import AdapterUpdates
    from msplora_core.training.describing import describe_run

    def served(**options: Any) -> dict[str, list[int]]:
        base = BertForSequenceClassification(
            BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=6, num_attention_heads=2, intermediate_size=8)
        )
        config = MSPLoraConfig(ranks=(2, 1, 1), target_modules=["query"], **options)
        model = get_peft_model(base, config)
        record = describe_run(model, AdapterUpdates(model), read_components(model))
        model.save_pretrained(tmp_path)
        assert {component["stack"] for component in record.components} == {"bert.encoder.layer 8x8"}
        assert read_adapter(tmp_path).stacks() == {"query": "bert.encoder.layer 8x8"}
        return {component["key"]: component["layers"] for component in record.components}

    within = served(groups=2, layers_to_transform=[2, 3, 4, 5])
    assert (within["mid/query/0"], within["mid/query/1"]) == ([2, 3], [4, 5])
    assert within["global/query/0"] == [2, 3, 4, 5]
    assert within["layer/query/4"] == within["total/query/4"] == [4]
    bounded = served(groups=(3,), layers_to_transform=[1, 2, 3])
    assert (bounded["mid/query/0"], bounded["mid/query/1"]) == ([1, 2], [3])


def test_a_model_without_adapter_is_refused(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    with pytest.raises(ParameterError) as caught:
        user_trainer(base_model(tiny_model), few, tmp_path, num_train_epochs=1).train()
    assert str(caught.value) == ("model: expected a model with an adapter of PEFT, found BertForSequenceClassification")
    assert not (tmp_path / "run").exists()


def test_any_tracker_of_the_trainer_receives_spectra(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    """W&B's, MLflow's and other trackers read what `on_log` hands to every callback."""

    from transformers import TrainerCallback

    seen: list[tuple[int, dict[str, float]]] = []

    class Tracker(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            seen.append((state.global_step, dict(logs)))

    callback = SpectralSnapshotCallback(tmp_path / "run")
    trainer = user_trainer(lora(tiny_model), few, tmp_path, callback, num_train_epochs=2, logging_strategy="epoch")
    trainer.add_callback(Tracker)
    trainer.train()
    found = [(step, logs["spectra/layer/norm"]) for step, logs in seen if "spectra/layer/norm" in logs]
    norms = [np.mean([np.linalg.norm(sigma) for sigma in one.spectra.values()]) for one in callback.run.snapshots()]
    assert [step for step, _ in found] == [4, 8]
    assert_allclose([norm for _, norm in found], norms[1:])


def test_method_names() -> None:
    from peft import LoraConfig, VeraConfig

    from msplora_core import MSPLoraConfig

    assert configured_name(LoraConfig(r=16).to_dict()) == "lora-r16"
    assert configured_name(VeraConfig(r=4).to_dict()) == "vera-r4"
    assert configured_name(MSPLoraConfig(ranks=(8, 4, 2)).to_dict()) == "msplora-8-4-2"


def tensorboard_scalars(folder: Path) -> dict[str, Any]:
    """Read back from the event files that the Trainer's own TensorBoard callback wrote."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    events = reader.EventAccumulator(str(next(folder.rglob("events.out.tfevents.*")).parent))
    events.Reload()
    return {tag.removeprefix("train/"): events.Scalars(tag) for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_spectra_and_still_the_loss(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    callback = SpectralSnapshotCallback(tmp_path / "run")
    user_trainer(
        lora(tiny_model), few, tmp_path, callback, num_train_epochs=2, report_to="tensorboard", logging_strategy="epoch"
    ).train()
    scalars = tensorboard_scalars(tmp_path / "theirs")
    snapshots = list(callback.run.snapshots())[1:]
    for name, value in (("norm", np.linalg.norm), ("m_eff_1", lambda sigma: sigma[0] / sigma.sum())):
        found = scalars[f"spectra/layer/{name}"]
        assert [scalar.step for scalar in found] == [4, 8]
        wanted = [np.mean([value(sigma) for sigma in one.spectra.values()]) for one in snapshots]
        assert_allclose([scalar.value for scalar in found], wanted, rtol=1e-6)
    assert {"spectra/layer/entropy_rank", "spectra/layer/stable_rank"} <= scalars.keys()
    assert [scalar.step for scalar in scalars["loss"]] == [4, 8]
    assert [event["step"] for event in callback.run.read_metrics() if "loss" in event] == [4, 8]
    assert not any(name.startswith("spectra/") for event in callback.run.read_metrics() for name in event)


def test_each_trainer_of_a_callback_has_its_spectra(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    """Trainers of other classes, one after the other, the second inside a callback of the first."""
    from transformers import Trainer, TrainerCallback

    class Theirs(Trainer):
        def _inner_training_loop(this, *args: Any, **kwargs: Any) -> Any:
            return super()._inner_training_loop(*args, **kwargs)

    callback = SpectralSnapshotCallback(tmp_path / "run", overwrite=True)
    settings = {"num_train_epochs": 1, "report_to": "tensorboard"}

    class Nested(TrainerCallback):
        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            user_trainer(lora(tiny_model), few, tmp_path / "second", callback, **settings).train()

    first = user_trainer(lora(tiny_model), few, tmp_path / "first", callback, trainer=Theirs, **settings)
    first.add_callback(Nested)
    first.train()
    for place in ("first", "second"):
        assert [one.step for one in tensorboard_scalars(tmp_path / place)["spectra/layer/norm"]] == [4]


@pytest.mark.parametrize("stopped", ["at a step", "after an evaluation"])
def test_a_training_that_stops_early_ends_with_a_snapshot(
    tiny_model: Path, few: TaskData, tmp_path: Path, stopped: str
) -> None:
    """Also where the best model replaces the last one, before `on_train_end`."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = stopped == "at a step" and state.global_step >= 10

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step >= 12

    callback = SpectralSnapshotCallback(tmp_path / "run", every_n_epochs=2)
    options = {"num_train_epochs": 6, "report_to": "tensorboard"}
    if stopped == "after an evaluation":
        options |= {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True,
                    "metric_for_best_model": "loss", "greater_is_better": True, "learning_rate": 1e-3}  # fmt: skip
    trainer = user_trainer(lora(tiny_model), few, tmp_path, callback, **options)
    trainer.add_callback(Stop)
    trainer.train()
    last = {"at a step": (3, 10), "after an evaluation": (3, 12)}[stopped]
    assert moments(callback.run) == [(0, 0), (2, 8), last]
    assert [one.step for one in tensorboard_scalars(tmp_path / "theirs")["spectra/layer/norm"]] == [8, last[1]]
    if stopped == "after an evaluation":
        from safetensors.numpy import load_file

        trained = load_file(tmp_path / "theirs" / "checkpoint-12" / "adapter_model.safetensors")
        A, B = (next(v for k, v in trained.items() if f"layer.0.attention.self.query.lora_{x}" in k) for x in "AB")
        sigma = list(callback.run.snapshots())[-1].spectra["layer/query/0"]
        assert_allclose(sigma, np.linalg.svd(4.0 * B @ A, compute_uv=False)[:2], rtol=1e-5)
        assert not trainer.state.best_model_checkpoint.endswith("checkpoint-12")


def test_an_alert_comes_once_with_its_epoch(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    import torch

    from msplora_core.training.shown import TrainingAlert

    model = lora(tiny_model)
    callback = SpectralSnapshotCallback(tmp_path / "run", alerts=True)
    for name, parameter in model.named_parameters():
        if "layer.1" in name and "lora_B" in name:
            torch.nn.init.constant_(parameter, 1e6)
        if "layer.2" in name and "lora_B" in name:
            parameter.requires_grad_(False)
    with pytest.warns(TrainingAlert) as caught:
        user_trainer(model, few, tmp_path, callback, num_train_epochs=3).train()
    said = [str(one.message) for one in caught if one.category is TrainingAlert]
    assert len(said) == len({text.split(": ", 3)[2] + text.split(": ", 4)[3] for text in said})
    assert any("epoch 1: broken: exploded: layer/query/1" in text for text in said)
    assert any("epoch 1: doubtful: never trained: layer/query/2" in text for text in said)
    assert not any("epoch 2: broken: exploded" in text for text in said)
