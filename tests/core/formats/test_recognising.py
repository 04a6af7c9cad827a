"""`read_adapter`: its options, what it says beside the spectra, and files that do not belong together."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from msplora_core.errors import FileError
from msplora_core.formats import read_adapter

FLAT = "lora_unet_mid_block_attentions_0_proj_in"


def write_peft(folder, *, rank=2, shape=(6, 5), layers=(0, 1), extra=(), **config):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.ones((2, 5), "f4") for name in extra}
    for layer in layers:
        path = f"base_model.model.layers.{layer}.q_proj"
        tensors[f"{path}.lora_A.weight"] = np.ones((rank, shape[1]), "f4")
        tensors[f"{path}.lora_B.weight"] = np.ones((shape[0], rank), "f4")
    save_file(tensors, folder / "adapter_model.safetensors")
    content = {"peft_type": "LORA", "r": rank, "lora_alpha": 4, "base_model_name_or_path": "some/base", **config}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder


def write_kohya(path, alpha=None):
    factors = {f"{FLAT}.lora_down.weight": np.ones((2, 4), "f4"), f"{FLAT}.lora_up.weight": np.ones((3, 2), "f4")}
    save_file(factors | ({} if alpha is None else {f"{FLAT}.alpha": np.array(alpha, "f4")}), path)
    return path


def test_model_task_and_seed_are_carried(tmp_path):
    plain = read_adapter(write_peft(tmp_path))
    assert (plain.model, plain.task, plain.seed) == ("some/base", "", None)
    told = read_adapter(tmp_path, model="other/base", task="mrpc", seed=3)
    assert (told.model, told.task, told.seed) == ("other/base", "mrpc", 3)


def test_size_and_parameters(tmp_path):
    adapter = read_adapter(write_peft(tmp_path, extra=["base_model.model.score.weight"]))
    assert adapter.parameters == 2 * (2 * 5 + 6 * 2)
    assert adapter.size == (tmp_path / "adapter_model.safetensors").stat().st_size
    assert adapter.mean_rank == 2.0


def test_alpha_beside_one_of_the_files_own(tmp_path):
    note = "Alpha 16 was given, but the file has its own scaling, which is used."
    peft = read_adapter(write_peft(tmp_path / "peft"), alpha=16)
    assert (peft.notes, peft.updates[0].scaling) == ((note,), 2.0)
    kohya = read_adapter(write_kohya(tmp_path / "kohya.safetensors", alpha=1.0), alpha=16)
    assert (kohya.notes, kohya.updates[0].scaling) == ((note,), 0.5)
    given = read_adapter(write_kohya(tmp_path / "bare.safetensors"), alpha=16)
    assert given.notes == ("Alpha is not in the file; scaled by the given 16/rank.",)
    assert given.updates[0].scaling == 8.0


def test_a_rank_beyond_the_matrix_is_read_and_said(tmp_path):
    adapter = read_adapter(write_peft(tmp_path, rank=400, shape=(16, 32)))
    assert adapter.notes == (
        "layers.0.q_proj and 1 more: rank 400 exceeds the 16 × 32 matrix; singular values beyond 16 are zero.",
    )
    sigma = next(adapter.components()).update.singular_values()
    assert sigma.shape == (400,)
    assert not sigma[16:].any()


def test_what_was_trained_in_full_is_named_as_such(tmp_path):
    extra = ["base_model.model.classifier.weight", "base_model.model.embed_tokens.weight", "base_model.model.x.buffer"]
    adapter = read_adapter(write_peft(tmp_path, extra=extra, modules_to_save=["embed_tokens"]))
    assert adapter.notes == (
        "classifier.weight, embed_tokens.weight: trained beside the adapter, not a low-rank update.",
        "x.buffer: saved beside the adapter, not a low-rank update.",
    )


def test_a_folder_with_several_files_of_weights(tmp_path):
    write_kohya(tmp_path / "b.safetensors")
    write_kohya(tmp_path / "a.safetensors")
    write_kohya(tmp_path / "pytorch_lora_weights.safetensors")
    with pytest.raises(FileError) as raised:
        read_adapter(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}: expected adapter_config.json, or one file of weights, found 3: a.safetensors, b.safetensors, "
        "pytorch_lora_weights.safetensors; name one of the files"
    )
    assert read_adapter(tmp_path / "b.safetensors").updates


def test_the_state_of_a_training_is_no_second_adapter(tmp_path):
    write_kohya(tmp_path / "pytorch_lora_weights.safetensors")
    for name in ("optimizer.bin", "scheduler.bin", "model.safetensors", "pytorch_lora_weights.bin"):
        (tmp_path / name).write_bytes(b"x")
    assert read_adapter(tmp_path).format == "kohya"


def test_a_mark_of_conversion_is_one_printable_line(tmp_path):
    factors = {f"{FLAT}.lora_down.weight": np.ones((2, 4), "f4"), f"{FLAT}.lora_up.weight": np.ones((3, 2), "f4")}
    save_file(factors, tmp_path / "a.safetensors", metadata={"msplora_converted_from": "msplora\x1b[31m\n-8-4-2" * 100})
    adapter = read_adapter(tmp_path / "a.safetensors")
    assert adapter.method == "lora-r2-converted"
    (note,) = (note for note in adapter.notes if note.startswith("Converted from msplora[31m -8-4-2msplora"))
    assert note.isprintable()
    assert len(note) < 400


def test_weights_beside_the_configuration_of_another_adapter(tmp_path):
    config = "adapter_config.json: target_modules: expected a target among the adapted modules"
    with pytest.raises(FileError, match=rf"{config} \(layers\.0\.q_proj, .*found c_attn, c_proj; the "):
        read_adapter(write_peft(tmp_path / "targets", target_modules=["c_attn", "c_proj"]))
    with pytest.raises(FileError, match=r"lora_A.weight: expected rank 4, as adapter_config.json gives for lay"):
        read_adapter(write_peft(tmp_path / "rank", r=4))
    for good in (["q_proj"], ["layers.1.q_proj", "v"], "all-linear", None, ".*q_proj"):
        assert read_adapter(write_peft(tmp_path / "good", target_modules=good)).updates


BEYOND = "in the weights, but no targets of adapter_config.json (target_modules, layers_to_transform, exclude_modules)."


@pytest.mark.parametrize(
    ("config", "notes"),
    [({"target_modules": ["layers.1.q_proj", "v"]},
      (f"layers.0.q_proj: {BEYOND}", "v: in target_modules of adapter_config.json, but not in the weights.")),
     ({"layers_to_transform": [0, 2]}, (f"layers.1.q_proj: {BEYOND}",)),
     ({"layers_to_transform": 1, "layers_pattern": "layers"}, (f"layers.0.q_proj: {BEYOND}",)),
     ({"exclude_modules": ["0.q_proj"]}, (f"layers.0.q_proj: {BEYOND}",)),
     ({"layers_to_transform": [0, 1]}, ()),
     ({"layers_to_transform": [5], "layers_pattern": ["blocks"]}, ()),  # no layer is known
     ({"target_modules": ["layers.0.q_proj", "layers.1.q_proj"], "layers_to_transform": [7]}, ()),  # paths count first
     ({"target_modules": ["q_proj", "score"], "modules_to_save": ["score"]}, ()),
     ({"target_modules": ".*v_proj", "layers_to_transform": [0]}, ()),
     ({"exclude_modules": ".*q_proj"}, ())],
)  # fmt: skip
def test_weights_and_targets_that_do_not_match_are_noted(tmp_path, config, notes):
    adapter = read_adapter(write_peft(tmp_path, **{"target_modules": ["q_proj"]} | config))
    assert (len(adapter.updates), adapter.notes) == (2, notes)


@pytest.mark.parametrize(
    "config",
    [{"target_modules": ["query"], "layers_to_transform": [0, 2]},
     {"target_modules": ["query", "value"], "exclude_modules": ["1.attention.value"]}],
)  # fmt: skip
def test_what_peft_saves_has_no_notes(tmp_path, config):
    peft = pytest.importorskip("peft")
    torch = pytest.importorskip("torch")
    names = ("query", "value")
    layers = [torch.nn.ModuleDict({"attention": torch.nn.ModuleDict({name: torch.nn.Linear(6, 6) for name in names})})
              for _ in range(3)]  # fmt: skip
    model = torch.nn.ModuleDict({"encoder": torch.nn.ModuleDict({"layer": torch.nn.ModuleList(layers)})})
    peft.get_peft_model(model, peft.LoraConfig(r=2, **config)).save_pretrained(tmp_path)
    assert read_adapter(tmp_path).notes == ()


@pytest.mark.parametrize("method", ["LOHA", "LOKR"])
def test_products_of_another_rank_than_the_configuration(tmp_path, method):
    part = "hada_w{}_{}" if method == "LOHA" else "lokr_w{}_{}"
    name = f"base_model.model.layers.0.q.{part}"
    shapes = {"a": (6, 3), "b": (3, 5)}
    save_file(
        {name.format(side, end): np.ones(shape, "f4") for side in (1, 2) for end, shape in shapes.items()},
        tmp_path / "adapter_model.safetensors",
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": method, "r": 8, "alpha": 8}))
    with pytest.raises(FileError, match=r"expected rank 8, as adapter_config.json gives for layers.0.q"):
        read_adapter(tmp_path)


def test_a_layer_number_that_no_table_holds(tmp_path):
    assert [str(key) for key in read_adapter(write_peft(tmp_path / "a", layers=(2**31 - 1,))).keys] == [
        "layer/q_proj/2147483647"
    ]
    with pytest.raises(FileError, match="a layer's number of at most 2147483647, found 2147483648"):
        read_adapter(write_peft(tmp_path / "b", layers=(2**31,)))
