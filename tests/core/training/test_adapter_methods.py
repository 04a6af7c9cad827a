"""Bottleneck adapters, DyLoRA and QLoRA as methods of a training."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from msplora_core import nested_singular_values
from msplora_core.errors import MissingDependencyError, ParameterError
from msplora_core.runs import RunDirectory
from msplora_core.training import RunConfig, train_run
from msplora_core.training.attaching import lora_attachments
from msplora_core.training.checking import check_inputs
from msplora_core.training.data.task_data import TaskData
from tests.core.training.test_methods import train_until


@pytest.fixture
def config(tiny_model: Path, tmp_path: Path) -> RunConfig:
    return RunConfig(
        task="acceptability", method="adapter", model=str(tiny_model), out=tmp_path, epochs=1, batch_size=8, rank=4
    )


def saved(run: RunDirectory) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    configuration = json.loads((run.adapter_path / "adapter_config.json").read_text())
    return load_file(run.adapter_path / "adapter_model.safetensors"), configuration


def test_adapters_are_trained_in_all_layers_and_have_no_spectra(config: RunConfig, few: TaskData) -> None:
    run = train_run(config, data=few)
    assert run.path.name == "acceptability-adapter-r4-seed0"
    tensors, configuration = saved(run)
    assert (configuration["peft_type"], configuration["bottleneck_size"]) == ("BOTTLENECK", 4)
    assert sum("bottleneck_down.weight" in name for name in tensors) == 6
    assert sum("LayerNorm.weight" in name for name in tensors) == 6
    assert [snapshot.spectra for snapshot in run.snapshots()] == [{}, {}]


def test_adapterdrop_leaves_out_the_lowest_layers(config: RunConfig, few: TaskData) -> None:
    dropped = replace(config, method="adapterdrop")
    tensors, configuration = saved(train_run(dropped, data=few))
    assert configuration["layers_to_transform"] == [1, 2]  # of three: 5/12 of them, rounded down, are left out
    assert {name.split(".layer.")[1][0] for name in tensors if ".layer." in name} == {"1", "2"}
    assert not any("LayerNorm" in name for name in tensors)
    highest = train_run(replace(dropped, options={"layers_to_transform": [2]}), data=few)
    assert highest.read_record().method == "adapterdrop-r4-layers-2"
    tensors, _ = saved(highest)
    assert {name.split(".layer.")[1][0] for name in tensors if ".layer." in name} == {"2"}


def test_dylora_is_saved_as_lora_and_has_spectra_at_every_rank(config: RunConfig, few: TaskData) -> None:
    run = train_run(replace(config, method="dylora", learning_rate=1e-2), data=few)
    tensors, configuration = saved(run)
    assert (configuration["peft_type"], configuration["r"]) == ("LORA", 4)
    path = "base_model.model.bert.encoder.layer.1.attention.self.query.lora_{}.weight"
    nested = nested_singular_values(tensors[path.format("B")], tensors[path.format("A")], 16 / 4)
    np.testing.assert_allclose(nested[-1], list(run.snapshots())[-1].spectra["layer/query/1"], rtol=1e-6)


def test_qlora_trains_on_four_bits_also_after_an_evaluation_and_resumes(config: RunConfig, few: TaskData) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    four_bits = replace(config, method="qlora", learning_rate=1e-2, epochs=2)
    run = train_run(four_bits, data=few)
    tensors, _ = saved(run)
    assert sum("lora_A" in name for name in tensors) == 6
    before, middle, end = (snapshot.spectra for snapshot in run.snapshots())
    for key in end:
        assert before[key][0] == 0 < middle[key][0]
        assert abs(end[key][0] / middle[key][0] - 1) > 1e-3
    killed = replace(four_bits, out=Path(config.out) / "killed")
    train_until(6, killed, few)
    np.testing.assert_equal(list(train_run(killed, data=few, resume=True).snapshots())[-1].spectra, end)


def test_a_missing_bitsandbytes_is_named_before_anything_is_trained(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora_attachments, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError) as caught:
        check_inputs([replace(config, method="qlora")])
    assert str(caught.value) == ('a base model in 4 bits (qlora) needs bitsandbytes: pip install "msplora[qlora]"')


def test_what_a_method_does_not_have_is_refused(config: RunConfig, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="options: expected an option of dylora, found use_dora"):
        replace(config, method="dylora", options={"use_dora": True})
    shallow = json.loads((tiny_model / "config.json").read_text()) | {"num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(shallow))
    with pytest.raises(ParameterError, match="method: expected adapter for a model of 2 layers, found adapterdrop"):
        check_inputs([replace(config, method="adapterdrop", model=str(tmp_path))])


def test_biases_of_a_model_without_any_are_refused(config: RunConfig, tiny_decoder: Path) -> None:
    with pytest.raises(ParameterError, match="method: expected a model with biases, for bitfit, found one of type lla"):
        check_inputs([replace(config, method="bitfit", rank=None, model=str(tiny_decoder))])


def test_the_list_of_methods_loads_no_torch() -> None:
    code = "import sys, msplora_core.method_list; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
