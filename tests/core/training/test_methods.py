"""Every method of the list: it trains, records its spectra or says why not, resumes after a cut, and reads back."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, RobertaConfig, TrainerCallback

from msplora_core.checkup import findings
from msplora_core.errors import ParameterError, UnsupportedAdapterError
from msplora_core.formats import find_runs, read_adapter
from msplora_core.method_list import METHODS
from msplora_core.runs import RunDirectory, Snapshot
from msplora_core.training import RunConfig, TaskData, train_run
from msplora_core.training.attaching import lora_attachments
from msplora_core.training.checking import check_inputs, trained_parameters

OPTIONS: dict[str, dict[str, Any]] = {
    "vera": {"rank": 16},
    "lily": {"rank": 4, "options": {"num_B": 2, "stride_A": 2}},
    "randlora": {"rank": 4},
    "lokr": {"rank": 2},
    "full": {"learning_rate": 1e-4, "spectra_every": 2},
}
"""Settings that suit a model of 32 units."""


@pytest.fixture
def config(tiny_model: Path, tmp_path: Path) -> RunConfig:
    settings = {"task": "acceptability", "model": str(tiny_model), "epochs": 3, "batch_size": 8}
    return RunConfig(**settings, out=tmp_path, learning_rate=1e-2)


def losses(run: RunDirectory) -> list[float]:
    return [event["loss"] for event in run.read_metrics() if "loss" in event]


def of_method(config: RunConfig, method: str, /, **changes: Any) -> RunConfig:
    """The run with another method at that method's own settings."""
    own = {"rank": None, "alpha": None, "dropout": None, "method": method, **OPTIONS.get(method, {})}
    return RunConfig(**{**vars(config), **own, **changes})


def train_until(step: int, config: RunConfig, data: TaskData) -> None:
    """Train a run that is killed after so many steps."""

    class Kill(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == step:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(config, data=data, callbacks=[Kill()])


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("peft", "qlora")])
def test_a_method(config: RunConfig, few: TaskData, method: str) -> None:
    run = train_run(of_method(config, method), data=few)
    record, snapshots, course = run.read_record(), list(run.snapshots()), losses(run)
    assert record.finished
    assert record.cost["trained_parameters"] > 0
    assert record.no_spectra == METHODS[method].no_spectra
    check_spectra(run, method, snapshots)
    if method == "adalora":
        assert findings(run.adapter_path) is not None  # whose masks of triplets are no ranks

    check_what_is_saved(run, method)
    killed = of_method(config, method, out=Path(config.out) / "killed")
    train_until(10, killed, few)  # in the third epoch of four steps
    resumed = train_run(killed, data=few, resume=True)
    assert losses(resumed) == course
    for again, before in zip(resumed.snapshots(), snapshots, strict=True):
        assert again.epoch == before.epoch
        assert again.spectra.keys() == before.spectra.keys()
        assert all(np.array_equal(again.spectra[key], before.spectra[key]) for key in before.spectra)


def check_what_is_saved(run: RunDirectory, method: str) -> None:
    """It is read as an adapter, or refused with what shows the run instead."""
    [opened] = find_runs(run.path)
    if method in ("full", "bitfit", "adapter", "adapterdrop", "lily", "randlora"):
        with pytest.raises(UnsupportedAdapterError, match="svd shows what"):
            read_adapter(opened().checkpoints[-1].path)
    else:
        assert read_adapter(opened().checkpoints[-1].path).updates


def check_spectra(run: RunDirectory, method: str, snapshots: list[Snapshot]) -> None:
    if METHODS[method].no_spectra:
        assert not any(snapshot.spectra for snapshot in snapshots)
        return
    first, last = snapshots[0], snapshots[-1]
    assert max(sigma[0] for sigma in first.spectra.values()) == 0
    if method != "dora":  # whose magnitudes change the whole weight
        for path, change in changes(run).items():
            module, layer = path.rsplit(".", 1)[-1], int(path.split(".layer.")[1].split(".")[0])
            sigma = last.spectra[f"{'total' if method == 'msplora' else 'layer'}/{module}/{layer}"]
            dense = np.linalg.svd(change, compute_uv=False)
            np.testing.assert_allclose(sigma, dense[: len(sigma)], atol=2e-6 * dense[0])
            assert (dense[len(sigma) :] < 2e-6 * dense[0]).all()


def changes(run: RunDirectory) -> dict[str, NDArray[np.float64]]:
    """What the saved result changes in queries and values, as transformers and PEFT load it."""
    base = run.read_record().configuration["base_model_name_or_path"]
    before = AutoModelForSequenceClassification.from_pretrained(base).double()
    if (run.adapter_path / "adapter_config.json").is_file():
        after = PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(base), run.adapter_path)
        after = after.double().merge_and_unload()
    else:
        after = AutoModelForSequenceClassification.from_pretrained(run.adapter_path)
    weights = dict(after.named_parameters())
    return {
        name.removesuffix(".weight"): (weights[name].double() - weight.double()).detach().numpy()
        for name, weight in before.named_parameters()
        if name.endswith(("query.weight", "value.weight"))
    }


def test_options_that_make_another_method_are_in_the_name(config: RunConfig) -> None:
    dora = {"use_dora": True}
    assert of_method(config, "msplora", options=dora).method_name == "mspdora-8-4-2"
    assert of_method(config, "lora", options=dora).method_name == of_method(config, "dora").method_name == "dora-r8"
    assert of_method(config, "msplora", options={"use_dora": False}).method_name == "msplora-8-4-2"


def configured(folder: Path, content: object) -> Path:
    """An adapter_config.json with some content."""
    path = folder / "adapter_config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "name", "spectra"),
    [
        ({"peft_type": "IA3"}, "ia3", True),
        ({"peft_type": "HRA", "r": 4}, "hra-r4", True),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2}, "prompt_tuning", False),
        ({"peft_type": "LN_TUNING", "target_modules": ["LayerNorm"]}, "ln_tuning", False),
    ],
)
def test_a_method_by_its_configuration(
    config: RunConfig, few: TaskData, tmp_path: Path, content: dict[str, object], name: str, spectra: bool
) -> None:
    changes = {"config": configured(tmp_path, content), "epochs": 1, "target_modules": ("query", "value")}
    run = train_run(
        of_method(config, "peft", **(changes if spectra else {**changes, "target_modules": None})), data=few
    )
    record = run.read_record()
    assert record.method == name
    assert bool(record.no_spectra) is not spectra
    if spectra:
        check_spectra(run, "peft", list(run.snapshots()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "config: expected an adapter_config.json of PEFT, found "),
        ({}, "peft_type: expected a method of PEFT, found none"),
        ({"peft_type": "LORRA"}, "peft_type: expected a method of PEFT, found LORRA; the nearest is LORA"),
        ({"peft_type": "LOHA", "rr": 4}, "expected an option of LOHA, found rr"),
        ({"peft_type": "LOHA", "r": "4"}, "r: expected a whole number, found 4"),
        ({"peft_type": "LORA", "eva_config": {"rho": 2}}, "eva_config: expected a value, found "),
    ],
)
def test_configurations_that_cannot_be(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        RunConfig(task="mrpc", method="peft", config=configured(tmp_path, content))
    assert message in str(caught.value)


def test_adalora_trains_two_steps(config: RunConfig, few: TaskData) -> None:
    run = train_run(replace(of_method(config, "adalora"), epochs=2, batch_size=64), data=few)
    assert [snapshot.step for snapshot in run.snapshots()] == [0, 1, 2]


def test_norms_and_tokens_are_not_tuned_as_query_and_value(config: RunConfig, tmp_path: Path) -> None:
    norms = of_method(config, "peft", config=configured(tmp_path, {"peft_type": "LN_TUNING"}))
    with pytest.raises(ParameterError, match="PEFT says: Please specify `target_modules`"):
        check_inputs([norms])
    tokens = of_method(config, "peft", config=configured(tmp_path, {"peft_type": "TRAINABLE_TOKENS"}))
    with pytest.raises(ParameterError, match="config: token_indices: expected the indexes of tokens to train, found n"):
        check_inputs([tokens])


def test_settings_that_a_method_cannot_have(config: RunConfig, few: TaskData) -> None:
    with pytest.raises(ParameterError, match=r"config: expected an adapter_config\.json, for method peft, found none"):
        RunConfig(task="mrpc", method="peft")
    with pytest.raises(ParameterError, match=r"options: init_r: expected above the rank 8, found 8"):
        train_run(of_method(config, "adalora", options={"init_r": 8}), data=few)
    with pytest.raises(ParameterError, match=r"expected tinit \+ tfinal below the 12 steps of the training, found 16"):
        train_run(of_method(config, "adalora", options={"tinit": 10}), data=few)
    with pytest.raises(ParameterError, match="options: tfinal: expected at most 10, 2 below the steps, found 11"):
        train_run(of_method(config, "adalora", options={"tfinal": 11}), data=few)
    with pytest.raises(ParameterError, match="epochs: expected at least 2 optimiser steps, for adalora, found 1 step"):
        train_run(replace(of_method(config, "adalora"), epochs=1, batch_size=64), data=few)
    with pytest.raises(ParameterError, match="options: expected an option of full, found r; it has none"):
        of_method(config, "full", options={"r": 8})
    with pytest.raises(ParameterError, match="options: expected the setting rank in place of an option, found r"):
        of_method(config, "lora", options={"r": 8})
    with pytest.raises(ParameterError, match="options: layers_to_transform: expected at least one layer, found none"):
        of_method(config, "lora", options={"layers_to_transform": []})
    with pytest.raises(ParameterError, match="rank: expected at most 32, the number of singular values"):
        train_run(of_method(config, "pissa", rank=40), data=few)


def test_parameters_of_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_attachments, "find_spec", lambda name: None)  # counting needs no bitsandbytes
    RobertaConfig(max_position_embeddings=514, type_vocab_size=1).save_pretrained(tmp_path)
    counts = {
        method: trained_parameters(RunConfig(task="mrpc", method=method, model=str(tmp_path)))
        for method in ("full", "bitfit", "lora", "qlora", "msplora")
    }
    assert sum(counts["full"]) == 124_647_170
    assert {method: own for method, (own, _) in counts.items() if method != "full"} == {
        "bitfit": 102_144, "lora": 294_912, "qlora": 294_912, "msplora": 135_168,
    }  # fmt: skip
    assert {head for _, head in counts.values()} == {768 * 768 + 768 + 2 * 768 + 2}


def test_default_values_are_those_of_peft() -> None:
    for method in METHODS.values():
        if method.options.startswith("peft:") and "lora_alpha" not in method.settings.values():
            options = {one.name: one.default for one in fields(resolve_name(method.options))}
            assert {method.settings[name]: value for name, value in method.values.items()}.items() <= options.items()
