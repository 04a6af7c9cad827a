"""Only replicates are averaged: runs that differ in task or seed."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from msplora_analysis import analyse, last_epochs, load_spectra, measure, overlap
from msplora_analysis.loading.scores import last_scores
from msplora_analysis.loading.variants import SETTINGS
from msplora_core.training import RunConfig


def methods(folder):
    table = load_spectra(folder)
    names = table[["run", "method"]].drop_duplicates().astype(str).itertuples(index=False, name=None)
    return dict(names), [note for note in table.attrs["notes"] if "replicates" in note]


@pytest.fixture
def recorded(make_run):
    """Write a run whose record has these hyperparameters, and this scaling of all its components."""

    def write(name, scaling=None, task="mrpc", seed=0, **hyperparameters):
        run = make_run(f"study/{name}", task=task, seed=seed)
        keys = [f"layer/{module}/{layer}" for module in ("query", "value") for layer in range(6)]
        components = [{"key": key, "shape": [4, 4], "scaling": scaling} for key in keys] if scaling else []
        run.write_record(replace(run.read_record(), components=components, hyperparameters=hyperparameters))
        return run

    return write


def test_runs_that_differ_in_task_or_seed_are_replicates(study):
    names, notes = methods(study)
    assert set(names.values()) == {"lora-r8", "msplora-8-4-2", "msplora-8-8-8"}
    assert notes == []


def test_runs_with_other_modules_are_measured_apart(make_run, tmp_path):
    make_run("study/a", modules=("query",))
    for seed in (1, 2):
        make_run(f"study/b{seed}", modules=("query", "value"), seed=seed)
    names, notes = methods(tmp_path / "study")
    assert names == {"a": "lora-r8 (a)", "b1": "lora-r8 (query, value)", "b2": "lora-r8 (query, value)"}
    assert notes == ["lora-r8: runs that adapt other modules or layers are not replicates; measured separately"]
    final = analyse(tmp_path / "study").final
    layer = final[final["scale"] == "layer"].set_index("method")["runs"]
    assert dict(layer) == {"lora-r8 (a)": 1, "lora-r8 (query, value)": 2}


def test_runs_with_other_layers_are_measured_apart(make_run, tmp_path):
    for seed in (0, 1):
        make_run(f"study/short{seed}", layers=3, seed=seed)
        make_run(f"study/long{seed}", layers=6, seed=seed)
    names, _ = methods(tmp_path / "study")
    assert names["short0"] == names["short1"] == "lora-r8 (query, value, 3 layers from 0)"
    assert names["long0"] == names["long1"] == "lora-r8 (query, value, 6 layers from 0)"


def test_two_runs_of_one_task_and_seed_are_no_replicates(make_run, tmp_path):
    """A sweep of learning rates that are not recorded: nothing says that its runs are one."""
    for name in ("lr-1e-3", "lr-1e-4"):
        make_run(f"study/{name}", "msplora-8-8-8")
    make_run("study/lora")
    names, (note,) = methods(tmp_path / "study")
    assert names["lr-1e-3"] == "msplora-8-8-8 (lr-1e-3)"
    assert names["lora"] == "lora-r8"
    assert (
        "2 runs with the same task and seed are not replicates (lr-1e-3, lr-1e-4); each is measured separately" in note
    )
    found = analyse(tmp_path / "study")
    assert {(one.method, one.baseline, len(one.pairs)) for one in found.comparisons} == {
        ("msplora-8-8-8 (lr-1e-3)", "lora-r8", 1), ("msplora-8-8-8 (lr-1e-4)", "lora-r8", 1)}  # fmt: skip


def test_a_variant_gives_what_it_gives_alone(make_run, tmp_path):
    alone = analyse(make_run("study/a", modules=("query",)).path).layers[0]
    make_run("study/b", modules=("query", "value"))
    together = next(one for one in analyse(tmp_path / "study").layers if one.method == "lora-r8 (a)")
    np.testing.assert_array_equal(together.kl, alone.kl)


def test_runs_with_other_settings_are_measured_apart(recorded, tmp_path):
    recorded("a0", 2.0, learning_rate=0.003, batch_size=16, epochs=10, micro_batch=4)
    recorded("a1", 2.0, learning_rate=0.003, batch_size=16, epochs=3, micro_batch=8, seed=1)
    recorded("b", 16.0, learning_rate=0.1, batch_size=16, epochs=10, seed=2)
    names, notes = methods(tmp_path / "study")
    assert names == {"a0": "lora-r8 (scaling 2)", "a1": "lora-r8 (scaling 2)", "b": "lora-r8 (scaling 16)"}
    assert notes == ["lora-r8: runs that differ in scaling, learning rate are not replicates; measured separately"]
    runs = measure(last_epochs(load_spectra(tmp_path / "study")), ["method", "scale"]).set_index("method")["runs"]
    assert runs.groupby(level=0).max().to_dict() == {"lora-r8 (scaling 2)": 2, "lora-r8 (scaling 16)": 1}


def test_settings_that_belong_to_a_task_and_unknown_ones_are_no_difference(recorded, tmp_path):
    for seed in (0, 1):
        recorded(f"sst2-{seed}", 2.0, "sst2", seed, learning_rate=5e-4)
        recorded(f"mrpc-{seed}", 2.0, "mrpc", seed, learning_rate=4e-4)
    recorded("old", 2.0, "mrpc", 2)
    names, notes = methods(tmp_path / "study")
    assert (set(names.values()), notes) == ({"lora-r8"}, [])


def test_each_learning_rate_of_a_sweep_is_named_and_each_scaling_of_adapters(recorded, tmp_path):
    for rate in (0.001, 0.01):
        recorded(f"rate-{rate}", 2.0, learning_rate=rate)
    names, _ = methods(tmp_path / "study")
    assert set(names.values()) == {"lora-r8 (learning rate 0.001)", "lora-r8 (learning rate 0.01)"}
    for alpha in (8, 64):
        folder = tmp_path / "adapters" / f"alpha{alpha}"
        folder.mkdir(parents=True)
        factors = {f"base_model.model.layers.{i}.q.lora_{side}.weight": np.eye(2) for i in range(2) for side in "AB"}
        save_file(factors, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": alpha, "base_model_name_or_path": "base"}
        (folder / "adapter_config.json").write_text(json.dumps(config))
    names, _ = methods(tmp_path / "adapters")
    assert names == {"alpha8": "lora-r2 (scaling 4)", "alpha64": "lora-r2 (scaling 32)"}
    assert set(overlap(tmp_path / "adapters").sharing["method"]) == set(names.values())


def test_settings_without_a_short_value_are_named_by_their_runs(recorded, tmp_path):
    for seed in (0, 1):
        recorded(f"plain{seed}", 2.0, seed=seed, rank_pattern=None)
        recorded(f"mixed{seed}", 2.0, seed=seed, rank_pattern={f"module_{i}": i for i in range(1, 9)})
    recorded("other", 2.0, seed=2, rank_pattern={f"module_{i}": 9 for i in range(1, 9)})
    names, _ = methods(tmp_path / "study")
    assert names == {
        "plain0": "lora-r8 (plain0 and 1 more)", "plain1": "lora-r8 (plain0 and 1 more)",
        "mixed0": "lora-r8 (mixed0 and 1 more)", "mixed1": "lora-r8 (mixed0 and 1 more)",
        "other": "lora-r8 (other)"}  # fmt: skip


def test_scores_have_the_names_of_the_spectra(recorded, tmp_path):
    for rate, score in ((0.001, 0.2), (0.01, 0.8)):
        recorded(f"rate-{rate}", learning_rate=rate).append_metrics({"epoch": 3.0, "eval_accuracy": score})
    found = last_scores(analyse(tmp_path / "study").scores)
    assert dict(zip(found["method"], found["mean"], strict=True)) == {
        "lora-r8 (learning rate 0.001)": 0.2, "lora-r8 (learning rate 0.01)": 0.8}  # fmt: skip


def test_every_setting_of_a_training_distinguishes_runs_or_is_known_not_to():
    no_difference = {
        "task", "seed", "model", "data_dir", "out",  # what the run is of, and where
        "method", "random_labels", "rank", "ranks", "alpha", "rslora", "target_modules", "plan",  # in name or updates
        "epochs", "max_train_examples", "max_eval_examples",  # how long, and how it is evaluated
        "micro_batch", "gradient_checkpointing", "spectra_every", "spectra_steps", "interference",  # the same training
    }  # fmt: skip
    assert {field.name for field in fields(RunConfig)} == {*SETTINGS, *no_difference}
