"""Adapters as sources of the spectra table."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from msplora_analysis import analyse, compare, draw_figures, load_spectra, load_updates, write_analysis
from msplora_analysis.comparison.layers import layer_divergences
from msplora_analysis.loading.adapter_source import task_and_seed
from msplora_analysis.loading.table import SkippedWarning
from msplora_analysis.measures import last_epochs
from msplora_core.conversion import convert_adapter, convert_to_pyramid
from msplora_core.errors import AdapterFileError, FileError, RunDirectoryError
from msplora_core.formats import read_adapter


def write_adapter(folder, size=1.0, **config):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for layer in range(3):
        path = f"base_model.model.layers.{layer}.q_proj"
        tensors[f"{path}.lora_A.weight"] = np.eye(2, 6, dtype="f4")
        tensors[f"{path}.lora_B.weight"] = size * np.diag([2.0, 1.0, 0, 0, 0])[:, :2].astype("f4")
    save_file(tensors, folder / "adapter_model.safetensors")
    content = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": "some/base", **config}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder


def test_an_adapter_is_a_run(tmp_path):
    table = load_spectra(write_adapter(tmp_path / "mrpc-lora-seed-3"))
    assert len(table) == 3 * 2  # three layers, two values
    first = table.fillna({"epoch": -1}).iloc[0].to_dict()  # the epoch of an adapter alone is not known
    assert first | {"run": "", "sigma": 0} == {
        "run": "", "method": "lora-r2", "model": "some/base", "task": "mrpc", "seed": 3, "epoch": -1,
        "step": None, "scale": "layer", "stack": "layers 5x6",
        "module": "q_proj", "unit": 0, "rank": 2, "k": 1, "sigma": 0,
    }  # fmt: skip
    assert table["sigma"].tolist() == [2.0, 1.0] * 3
    assert table.attrs["notes"] == ["Taken from the name: mrpc-lora-seed-3 (task mrpc, seed 3)."]


def test_every_guess_from_a_name_is_told(tmp_path):
    names = [f"mrpc-seed{seed}" for seed in range(5)]
    for name in names:
        write_adapter(tmp_path / name)
    [note] = [one for one in load_spectra(tmp_path).attrs["notes"] if one.startswith("Taken")]
    assert all(f"{name} (task mrpc, seed {name[-1]})" in note for name in names)


def test_options_say_what_names_do_not(tmp_path):
    save_file({"w_a_0": np.ones((2, 3)), "w_b_0": np.ones((3, 2))}, tmp_path / "sam.safetensors")
    plain = load_spectra(tmp_path / "sam.safetensors")
    table = load_spectra(tmp_path / "sam.safetensors", alpha=8, model="sam", task="sst2", seed=5)
    assert table.loc[0, ["model", "task", "seed"]].tolist() == ["sam", "sst2", 5]
    np.testing.assert_allclose(table["sigma"], 4 * plain["sigma"])
    assert any(note.startswith("Alpha is not in the file: B·A is unscaled.") for note in plain.attrs["notes"])
    assert any(note.startswith("The base model is unknown (unknown-") for note in plain.attrs["notes"])
    assert not any("base model" in note for note in table.attrs["notes"])


def test_checkpoints_are_a_trajectory(tmp_path):
    for epoch in (1, 2, 3):
        folder = write_adapter(tmp_path / "run" / f"checkpoint-{10 * epoch}", size=epoch)
        (folder / "trainer_state.json").write_text(json.dumps({"epoch": epoch}))
    table = load_spectra(tmp_path / "run")
    largest = table[(table["scale"] == "layer") & (table["k"] == 1)].groupby("epoch")["sigma"].first()
    assert largest.to_dict() == {1: 2.0, 2: 4.0, 3: 6.0}


def test_a_bad_checkpoint_among_good_ones_is_left_out(tmp_path):
    for step in (1, 2, 3):
        write_adapter(tmp_path / "run" / f"checkpoint-{step}")
    (tmp_path / "run" / "checkpoint-3" / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.warns(SkippedWarning, match=r"checkpoint-3/adapter_model.safetensors: header: expected"):
        table = load_spectra(tmp_path / "run")
    assert sorted(table["step"].unique()) == [1, 2]


def test_updates_of_an_earlier_checkpoint_say_so(tmp_path):
    for step in (1, 2, 3, 4):
        write_adapter(tmp_path / "run" / f"checkpoint-{step}")
    assert load_updates(tmp_path / "run").notes == []
    (tmp_path / "run" / "checkpoint-1" / "adapter_model.safetensors").write_bytes(b"broken")
    assert load_updates(tmp_path / "run").notes == []
    (tmp_path / "run" / "checkpoint-4" / "adapter_model.safetensors").write_bytes(b"broken")
    adapter = load_updates(tmp_path / "run")
    (note,) = adapter.notes
    assert (adapter.step, adapter.path.name) == (3, "checkpoint-3")
    assert note.startswith("run: checkpoint-3 is used, since later ones cannot be read: ")
    assert "checkpoint-4/adapter_model.safetensors: header: expected" in note


def test_a_bad_adapter_among_good_ones_is_named_and_left_out(tmp_path):
    write_adapter(tmp_path / "good")
    write_adapter(tmp_path / "bad", r=3)
    with pytest.warns(SkippedWarning, match="left out: .*bad.*expected rank 3"):
        table = load_spectra(tmp_path)
    assert table["run"].unique().tolist() == ["good"]
    assert table.attrs["failed"] == ["bad"]


def test_nothing_there_and_nothing_known(tmp_path):
    with pytest.raises(AdapterFileError, match="found no such file or folder"):
        load_spectra(tmp_path / "missing")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(RunDirectoryError, match=r"expected a run directory .*an adapter, or a folder of such"):
        load_spectra(tmp_path)


def test_a_full_fine_tune_beside_its_base(tmp_path):
    for name, size in (("base", 1.0), ("tuned", 3.0)):
        (tmp_path / name).mkdir()
        save_file({"layers.0.q.weight": size * np.eye(3, dtype="f4")}, tmp_path / name / "model.safetensors")
    table = load_spectra(tmp_path / "tuned", base=tmp_path / "base")
    assert table["method"].unique().tolist() == ["full"]
    assert table["sigma"].tolist() == [2.0] * 3


def test_reading_loads_neither_torch_nor_peft(tmp_path):
    write_adapter(tmp_path / "a")
    code = (
        "import sys; from msplora_analysis import load_spectra; "
        f"assert len(load_spectra({str(tmp_path)!r})); "
        "print([name for name in ('torch', 'peft', 'transformers') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_notes_name_the_runs_that_they_concern(tmp_path):
    write_adapter(tmp_path / "one")
    write_adapter(tmp_path / "two", use_dora=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notes = load_spectra(tmp_path).attrs["notes"]
    assert len(notes) == 2
    assert notes[1].startswith("The task of 2 runs (one, two) is unknown: each run counts as a task of its own")
    assert notes[0].startswith("DoRA: spectra of the low-rank part only")
    assert notes[0].endswith("(two)")


def write_pairs(path, modules):
    """A file with the factors of each module: path and output size."""
    path.parent.mkdir(exist_ok=True)
    made = {}
    random = np.random.default_rng(0)
    for module, out in modules:
        made[f"{module}.lora_down.weight"] = random.standard_normal((2, 6))
        made[f"{module}.lora_up.weight"] = random.standard_normal((out, 2))
    save_file(made, path)
    return load_spectra(path)


def drawn_together(table):
    return [one.modules for one in layer_divergences(last_epochs(table))]


def test_encoder_and_decoder_are_two_stacks(tmp_path):
    modules = [
        (f"{side}.block.{layer}.{name}", 6) for side in ("encoder", "decoder") for layer in (0, 1) for name in "qv"
    ]
    table = write_pairs(tmp_path / "t5.safetensors", modules)
    assert sorted(drawn_together(table)) == [("decoder.q", "decoder.v"), ("encoder.q", "encoder.v")]


def test_modules_of_unlike_shape_stay_apart(tmp_path):
    modules = [(f"layers.{layer}.{name}", out) for layer in (0, 1) for name, out in (("q", 6), ("k", 2), ("v", 2))]
    table = write_pairs(tmp_path / "grouped.safetensors", modules)
    assert sorted(drawn_together(table)) == [("k", "v"), ("q",)]


def test_one_module_type_of_two_shapes_is_never_averaged(tmp_path):
    """LLaMA 2 has q_proj and v_proj of one shape, LLaMA 3 a smaller v_proj; both adapters say no base model."""

    def modules(v):
        return [(f"model.layers.{layer}.{name}_proj", out) for layer in (0, 1) for name, out in (("q", 8), ("v", v))]

    tables = {v: write_pairs(tmp_path / f"llama-{v}.safetensors", modules(v)) for v in (8, 4)}
    table = load_spectra(tmp_path)
    llama_3 = table[table["run"] == "llama-4.safetensors"]
    assert table["model"].nunique() == 2  # two base models, both unknown
    assert set(llama_3[llama_3["module"] == "v_proj"]["stack"]) == {"model.layers 4x6"}
    assert set(llama_3[llama_3["module"] == "q_proj"]["stack"]) == {"model.layers 8x6"}
    together = layer_divergences(last_epochs(table))
    assert ("q_proj", "v_proj") in {one.modules for one in together}
    (alone_v,) = [one for one in layer_divergences(last_epochs(tables[4])) if one.modules == ("v_proj",)]
    (v,) = [one for one in together if one.modules == ("v_proj",)]
    np.testing.assert_array_equal(v.kl, alone_v.kl)


def test_stacks_survive_concat_and_merge(tmp_path):
    modules = [(f"layers.{layer}.{name}", out) for layer in (0, 1) for name, out in (("q", 6), ("v", 2))]
    table = write_pairs(tmp_path / "grouped.safetensors", modules)
    halves = [table[table["module"] == name] for name in ("v", "q")]
    together = pd.concat(halves).merge(table[["run"]].drop_duplicates(), on="run")
    assert sorted(drawn_together(together)) == [("q",), ("v",)]


def test_two_methods_are_compared_stack_by_stack(tmp_path):
    for name, rank in (("lora", {}), ("dora", {"use_dora": True})):
        write_adapter(tmp_path / name, **rank)
    table = load_spectra(tmp_path, task="x", seed=0)
    ours, theirs = (table[table["method"] == method] for method in ("dora-r2", "lora-r2"))
    (comparison,) = compare(ours, theirs)
    assert (comparison.method, comparison.baseline, comparison.modules) == ("dora-r2", "lora-r2", ("q_proj",))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lora-mrpc-seed-3", ("mrpc", 3)),
        ("lora-mrpc-seed3", ("mrpc", 3)),
        ("roberta-base-MNLI", ("mnli", None)),
        ("sst2_lora_seed_42", ("sst2", 42)),
        ("sst2/lora/seed-1", ("sst2", 1)),
        ("task=toxicity-seed=7", ("toxicity", 7)),
        ("record/seed-1", ("record", 1)),
        ("vit-s-16", ("", None)),
        ("sst2_lora_s42", ("sst2", None)),
        ("qwen-math-7b", ("", None)),
        ("recordings-of-seeds", ("", None)),
        ("lora-r8", ("", None)),
    ],
)
def test_task_and_seed_from_names(name, expected):
    assert task_and_seed(name) == expected


def test_only_names_below_the_given_path_count(tmp_path):
    study = tmp_path / "record" / "mrpc" / "seed-5"
    write_adapter(study / "vit-s-16")
    write_adapter(study / "mnli" / "lora-seed3")
    table = load_spectra(study)
    runs = table[["run", "task", "seed"]].drop_duplicates().astype(object)
    runs["seed"] = runs["seed"].fillna(-1)
    assert runs.values.tolist() == [["mnli/lora-seed3", "mnli", 3], ["vit-s-16", "vit-s-16", -1]]
    assert "Taken from the name: mnli/lora-seed3 (task mnli, seed 3)." in table.attrs["notes"]
    alone = load_spectra(study / "vit-s-16")
    assert set(alone["task"]) == {""}
    assert alone["seed"].isna().all()


def test_adapters_of_unknown_base_share_one_only_where_modules_layers_and_shapes_agree(tmp_path):
    like = [(f"layers.{layer}.q", 6) for layer in (0, 1)]
    for name, modules in {
        "a": like,
        "b": like,
        "deeper": [(f"layers.{layer}.q", 6) for layer in (0, 1, 2)],
        "wider": [(f"layers.{layer}.q", 8) for layer in (0, 1)],
        "elsewhere": [(f"blocks.{layer}.q", 6) for layer in (0, 1)],
        "more": [*like, ("layers.0.v", 6), ("layers.1.v", 6)],
    }.items():
        write_pairs(tmp_path / f"{name}.safetensors", modules)
    table = load_spectra(tmp_path)
    models = table.groupby("run", observed=True)["model"].first()
    assert models["a.safetensors"] == models["b.safetensors"]
    assert models.nunique() == 5
    assert any(
        f"{models['a.safetensors']}: 2 runs (a.safetensors, b.safetensors);" in note for note in table.attrs["notes"]
    )
    alone = load_spectra(tmp_path / "a.safetensors")
    assert set(alone["model"]) == {models["a.safetensors"]}  # so that it finds its like in another table


def test_a_folder_of_several_weights_is_a_run_for_each(tmp_path):
    modules = [(f"layers.{layer}.q", 6) for layer in (0, 1)]
    for name in ("pytorch_lora_weights", "first", "second"):
        write_pairs(tmp_path / "many" / f"{name}.safetensors", modules)
    table = load_spectra(tmp_path / "many")
    assert list(table["run"].unique()) == [
        "first.safetensors",
        "pytorch_lora_weights.safetensors",
        "second.safetensors",
    ]


def test_each_adapter_beside_a_configuration_is_a_run(tmp_path):
    folder = write_adapter(tmp_path / "lora", task_type="X")
    for name in ("adapters", "other", "pytorch_lora_weights"):
        write_pairs(folder / f"{name}.safetensors", [("layers.0.q", 6), ("layers.1.q", 6)])
    table = load_spectra(folder)
    assert list(table["run"].unique()) == [
        "adapter_model.safetensors",
        "adapters.safetensors",
        "other.safetensors",
        "pytorch_lora_weights.safetensors",
    ]
    of_peft = table[table["run"] == "adapter_model.safetensors"]
    assert (of_peft["model"].iloc[0], of_peft["sigma"].max()) == ("some/base", 2.0)
    with pytest.raises(FileError, match="expected one adapter, found 4"):
        convert_adapter(folder, tmp_path / "out")


def test_a_converted_adapter_says_so_and_is_in_no_claim(tmp_path):
    random, name = np.random.default_rng(0), "base_model.model.layers.{}.q_proj.lora_{}.weight"
    trained = tmp_path / "trained"
    trained.mkdir()
    shapes = {"A": (4, 6), "B": (6, 4)}
    tensors = {name.format(layer, side): random.standard_normal(shapes[side]) for layer in range(6) for side in "AB"}
    save_file(tensors, trained / "adapter_model.safetensors")
    (trained / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 4}))
    convert_adapter(trained, tmp_path / "copy")
    convert_adapter(trained, tmp_path / "cut", rank=2)
    convert_to_pyramid(trained, tmp_path / "pyramid", ranks=(2, 0, 2))
    convert_adapter(tmp_path / "pyramid", tmp_path / "plain")
    found = {place: load_spectra(tmp_path / place) for place in ("trained", "copy", "cut", "pyramid", "plain")}
    assert {place: table["method"].iloc[0] for place, table in found.items()} == {
        "trained": "lora-r4", "copy": "lora-r4", "cut": "lora-r2-converted", "pyramid": "msplora-2-0-2-converted",
        "plain": "lora-r4-converted"}  # fmt: skip
    for place, origin in (("cut", "lora-r4"), ("pyramid", "lora-r4"), ("plain", "msplora-2-0-2-converted")):
        assert analyse(tmp_path / place, baseline=trained, pair="position", draws=0).claims == []
        assert any(note.startswith(f"Converted from {origin}: ") for note in found[place].attrs["notes"])
    assert {claim.number for claim in analyse(tmp_path / "copy", draws=0).claims} == {"2a", "2b"}


def test_what_is_not_read_of_an_adapter_is_named(tmp_path):
    folder = write_adapter(tmp_path / "lora", task_type="X")
    save_file({"v_head.weight": np.ones((1, 6))}, folder / "value_head.safetensors")
    note = "value_head.safetensors: not read; to read one, give its path."
    assert note in load_spectra(folder).attrs["notes"]
    assert note in read_adapter(folder).notes


@pytest.mark.parametrize("name", ["adapter_model", "pytorch_lora_weights", "style"])
def test_one_adapter_in_two_formats_is_read_once_if_the_weights_are_equal(tmp_path, name):
    torch = pytest.importorskip("torch")
    folder = write_adapter(tmp_path / "lora")
    if name != "adapter_model":
        (folder / "adapter_config.json").unlink()
        (folder / "adapter_model.safetensors").rename(folder / f"{name}.safetensors")
    tensors = {key: torch.from_numpy(value) for key, value in load_file(folder / f"{name}.safetensors").items()}
    torch.save(tensors, folder / f"{name}.bin")
    table = load_spectra(folder)
    assert table["run"].nunique() == 1
    assert f"{name}.bin: not read, the same weights in another format." in table.attrs["notes"]
    torch.save({key: 2 * value for key, value in tensors.items()}, folder / f"{name}.bin")
    table = load_spectra(folder)
    assert table.groupby("run", observed=True)["sigma"].max().to_dict() == {
        f"{name}.bin": 8.0,
        f"{name}.safetensors": 2.0,
    }


def test_checkpoints_within_an_epoch_keep_their_epochs(tmp_path):
    for step, epoch in ((7, 0.07), (14, 0.14), (32, 0.32)):
        folder = write_adapter(tmp_path / "run" / f"checkpoint-{step}")
        (folder / "trainer_state.json").write_text(json.dumps({"epoch": epoch, "global_step": step}))
    table = load_spectra(tmp_path / "run")
    moments = table[["epoch", "step"]].drop_duplicates().values.tolist()
    assert moments == [[0.07, 7], [0.14, 14], [0.32, 32]]
    assert set(last_epochs(table)["step"]) == {32}
    analyse(tmp_path / "run")


def test_checkpoints_of_unknown_epochs_have_steps_alone(tmp_path):
    for step in (100, 1000, 500):
        write_adapter(tmp_path / "run" / f"checkpoint-{step}", size=step)
    table = load_spectra(tmp_path / "run")
    assert table["epoch"].isna().all()
    assert list(table["step"].unique()) == [100, 500, 1000]
    assert last_epochs(table)["sigma"].max() == 2000
    found = analyse(tmp_path / "run")
    write_analysis(found, figures=draw_figures(found))
