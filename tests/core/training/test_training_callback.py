"""The callback in a Trainer of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from msplora_core.errors import ParameterError
from msplora_core.methods import configured_name
from msplora_core.runs import RunDirectory
from msplora_core.training import SpectralSnapshotCallback, TaskData


def user_trainer(model: Any, few: TaskData, tmp_path: Path, **options: Any) -> Any:
    from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

    from msplora_core.training.models import packaged_model

    tokenizer = AutoTokenizer.from_pretrained(packaged_model())
    rows = [
        {**tokenizer(*texts), "labels": label} for texts, label in zip(few.train.texts, few.train.labels, strict=True)
    ]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "theirs"),
        per_device_train_batch_size=8,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **options,
    )
    return Trainer(
        model,
        arguments,
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[SpectralSnapshotCallback(tmp_path / "run")],
    )


def base_model(path: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(path, num_labels=2)


def test_one_line_in_any_trainer(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(base_model(tiny_model), LoraConfig(r=4, target_modules=["query"], task_type="SEQ_CLS"))
    user_trainer(model, few, tmp_path, num_train_epochs=2, logging_steps=2, seed=7).train()
    run = RunDirectory(tmp_path / "run")
    record = run.read_record()
    assert (record.method, record.model, record.task, record.seed) == ("lora-r4", "tiny-bert", "", 7)
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


def test_a_model_without_adapter_is_refused(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    with pytest.raises(ParameterError) as caught:
        user_trainer(base_model(tiny_model), few, tmp_path, num_train_epochs=1).train()
    assert str(caught.value) == ("model: expected a model with an adapter of PEFT, found BertForSequenceClassification")
    assert not (tmp_path / "run").exists()


def test_method_names() -> None:
    from peft import LoraConfig, VeraConfig

    from msplora_core import MSPLoraConfig

    assert configured_name(LoraConfig(r=16).to_dict()) == "lora-r16"
    assert configured_name(VeraConfig(r=4).to_dict()) == "vera-r4"
    assert configured_name(MSPLoraConfig(ranks=(8, 4, 2)).to_dict()) == "msplora-8-4-2"
