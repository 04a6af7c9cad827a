"""Files that PEFT did not write: kohya, diffusers, LyCORIS, loralib, pairs under any names, full fine-tunes."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from msplora_core.components import component_spectra
from msplora_core.errors import AdapterFileError, ParameterError
from msplora_core.formats import read_adapter
from msplora_core.formats.other.diffusion_names import module_path

RANDOM = np.random.default_rng(0)

UNET = [
    f"{block}.attentions.{attention}.transformer_blocks.0.{name}"
    for block in ("down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.1")
    for attention in range(1 if block == "mid_block" else 2)
    for name in ("attn1.to_q", "attn2.to_k", "attn1.to_out.0", "ff.net.0.proj", "ff.net.2")
]
TEXT = [
    f"text_model.encoder.layers.{layer}.{name}"
    for layer in range(3)
    for name in ("self_attn.q_proj", "self_attn.out_proj", "mlp.fc1")
]


def factors(rank=4):
    """Random factors for U-Net and text encoder, linear and convolutional, by owner and path."""
    made = {}
    for path in UNET:
        width = {"0": 8, "1": 16}.get(path.split(".")[1], 24)
        down = RANDOM.standard_normal((rank, 20 if "attn2" in path else width)).astype("f4")
        made["unet", path] = down, RANDOM.standard_normal((width, rank)).astype("f4")
    for kernel, name in ((3, "down_blocks.0.resnets.0.conv1"), (1, "down_blocks.0.resnets.0.conv_shortcut")):
        down = RANDOM.standard_normal((rank, 5, kernel, kernel)).astype("f4")
        made["unet", name] = down, RANDOM.standard_normal((7, rank, 1, 1)).astype("f4")
    for path in TEXT:
        made["text_encoder", path] = (
            RANDOM.standard_normal((rank, 12)).astype("f4"),
            RANDOM.standard_normal((12, rank)).astype("f4"),
        )
    return made


def spectra(path, **options):
    return component_spectra(read_adapter(path, **options).components())


def write_kohya(path, made, alpha=2.0):
    tensors = {}
    for (owner, name), (down, up) in made.items():
        flat = f"lora_{'te' if owner == 'text_encoder' else owner}_{name.replace('.', '_')}"
        tensors[f"{flat}.lora_down.weight"], tensors[f"{flat}.lora_up.weight"] = down, up
        tensors[f"{flat}.alpha"] = np.array(alpha, "f4")
    save_file(tensors, path, metadata={"ss_sd_model_name": "v1-5.safetensors", "ss_network_dim": "4"})


def write_diffusers(path, made, names=("lora.down", "lora.up"), alpha=2.0):
    tensors = {}
    for (owner, name), (down, up) in made.items():
        tensors[f"{owner}.{name}.{names[0]}.weight"], tensors[f"{owner}.{name}.{names[1]}.weight"] = down, up
        if alpha is not None:
            tensors[f"{owner}.{name}.alpha"] = np.array(alpha, "f4")
    save_file(tensors, path)


@pytest.mark.parametrize(
    "names", [("lora.down", "lora.up"), ("lora_A", "lora_B"), ("lora_A.default", "lora_B.default")]
)
def test_kohya_and_diffusers_names_give_the_same_spectra(tmp_path, names):
    made = factors()
    write_kohya(tmp_path / "kohya.safetensors", made)
    write_diffusers(tmp_path / "diffusers.safetensors", made, names)
    kohya, diffusers = spectra(tmp_path / "kohya.safetensors"), spectra(tmp_path / "diffusers.safetensors")
    assert set(kohya) == set(diffusers)
    assert all(np.array_equal(kohya[key], diffusers[key]) for key in kohya)
    assert len(kohya) == len(made)
    adapter = read_adapter(tmp_path / "kohya.safetensors")
    assert (adapter.format, adapter.method, adapter.model) == ("kohya", "lora-r4", "v1-5.safetensors")
    modules = {line.module: line for line in adapter.modules()}
    assert modules["unet.down_blocks.1.attn1.to_q"].units == (0, 1)
    assert modules["q_proj"].units == (0, 1, 2)
    assert modules["unet.down_blocks.0.conv1"].shapes == ((7, 45),)


def test_spectra_of_kohya_files_equal_the_dense_ones(tmp_path):
    made = factors()
    write_kohya(tmp_path / "kohya.safetensors", made, alpha=3.0)
    adapter = read_adapter(tmp_path / "kohya.safetensors")
    by_path = {stored.path: stored for stored in adapter.updates}
    assert len(by_path) == len(made)
    for (owner, name), (down, up) in made.items():
        dense = 0.75 * up.reshape(len(up), -1).astype("f8") @ down.reshape(4, -1)
        expected = np.linalg.svd(dense, compute_uv=False)[:4]
        np.testing.assert_allclose(by_path[f"{owner}.{name}"].load().singular_values(), expected, rtol=1e-10)


def test_older_names_of_diffusers(tmp_path):
    rank_one = np.ones((1, 6), "f4"), np.ones((6, 1), "f4")
    save_file(
        {
            f"unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.{name}_lora.{side}.weight": factor
            for name in ("to_q", "to_out")
            for side, factor in zip(("down", "up"), rank_one, strict=True)
        },
        tmp_path / "old.safetensors",
    )
    adapter = read_adapter(tmp_path / "old.safetensors")
    assert [line.module for line in adapter.modules()] == ["unet.mid_block.attn1.to_out.0", "unet.mid_block.attn1.to_q"]
    assert adapter.notes == (
        "Alpha is not in the file: the scaling is 1, as in diffusers. Give alpha to scale it by alpha/rank.",
    )


@pytest.mark.parametrize(("doubled", "inner"), [("unet_", ""), ("unet_", "processor."), ("", "")])
def test_flat_names_with_underscores_before_the_factors(tmp_path, doubled, inner):
    made = {key: value for key, value in factors().items() if key[0] == "text_encoder" or ".attn" in key[1]}
    write_diffusers(tmp_path / "twin.safetensors", made, alpha=None)
    tensors = {}
    for (owner, name), pair in made.items():
        flat = name.replace(".attn1.", f".attn1.{inner}").replace(".attn2.", f".attn2.{inner}").replace(".", "_")
        short, repeated = ("te", doubled and "text_encoder_") if owner == "text_encoder" else (owner, doubled)
        for side, factor in zip(("down", "up"), pair, strict=True):
            tensors[f"lora_{short}_{repeated}{flat}_lora_{side}.weight"] = factor
    save_file(tensors, tmp_path / "flat.safetensors")
    flat, twin = spectra(tmp_path / "flat.safetensors"), spectra(tmp_path / "twin.safetensors")
    assert set(flat) == set(twin)
    assert all(np.array_equal(flat[key], twin[key]) for key in twin)
    paths = [{one.path for one in read_adapter(tmp_path / f"{name}.safetensors").updates} for name in ("flat", "twin")]
    assert paths[0] == paths[1]


@pytest.mark.parametrize("alpha", ["_lora.alpha", ".alpha", "_alpha", "_lora_alpha"])
def test_alpha_beside_flat_names_with_underscores(tmp_path, alpha):
    name = "lora_unet_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_k"
    down, up = np.eye(2, 6, dtype="f4"), np.eye(6, 2, dtype="f4")
    tensors = {f"{name}_lora_down.weight": down, f"{name}_lora_up.weight": up, f"{name}{alpha}": np.array(6.0, "f4")}
    save_file(tensors, tmp_path / "flat.safetensors")
    assert spectra(tmp_path / "flat.safetensors")["layer/unet.mid_block.attn1.to_k/0"].tolist() == [3.0, 3.0]


def test_alpha_from_the_metadata_of_diffusers(tmp_path):
    down, up = np.eye(2, 6, dtype="f4"), np.eye(6, 2, dtype="f4")
    names = [f"transformer.transformer_blocks.3.attn.to_q.lora_{side}.weight" for side in "AB"]
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.r": 2, "transformer.lora_alpha": 6})}
    save_file(dict(zip(names, (down, up), strict=True)), tmp_path / "flux.safetensors", metadata=metadata)
    assert spectra(tmp_path / "flux.safetensors")["layer/to_q/3"].tolist() == [3.0, 3.0]


def test_names_that_hold_underscores_are_recovered():
    for path in UNET:
        assert module_path(f"lora_unet_{path.replace('.', '_')}") == f"unet.{path}"
    flat = "lora_unet_single_blocks_12_linear1"
    assert module_path(flat) == "unet.single_blocks.12.linear1"
    assert module_path("lora_te2_text_model_encoder_layers_31_mlp_fc2").startswith("text_encoder_2.text_model.encoder")


def test_tucker_convolutions_and_lycoris_products(tmp_path):
    up, mid, down = (RANDOM.standard_normal(shape).astype("f4") for shape in ((7, 3, 1, 1), (3, 2, 3, 3), (2, 5, 1, 1)))
    a, b, c, d = (RANDOM.standard_normal(shape).astype("f4") for shape in ((9, 2), (2, 8), (9, 2), (2, 8)))
    w1, w2 = RANDOM.standard_normal((2, 3)).astype("f4"), RANDOM.standard_normal((4, 5)).astype("f4")
    save_file(
        {
            "lora_unet_conv_in.lora_up.weight": up,
            "lora_unet_conv_in.lora_mid.weight": mid,
            "lora_unet_conv_in.lora_down.weight": down,
            "lora_unet_conv_in.alpha": np.array(1.0, "f4"),
            "lora_unet_proj.hada_w1_a": a,
            "lora_unet_proj.hada_w1_b": b,
            "lora_unet_proj.hada_w2_a": c,
            "lora_unet_proj.hada_w2_b": d,
            "lora_unet_proj.alpha": np.array(1.0, "f4"),
            "lora_unet_out.lokr_w1": w1,
            "lora_unet_out.lokr_w2": w2,
            "lora_unet_out.alpha": np.array(1e9, "f4"),
        },
        tmp_path / "mixed.safetensors",
    )
    adapter = read_adapter(tmp_path / "mixed.safetensors")
    assert adapter.method == "loha-lokr-lora"
    sigma = {stored.path: stored.load().singular_values() for stored in adapter.updates}
    kernel = np.einsum("or,rshw,si->oihw", up[..., 0, 0], mid, down[..., 0, 0], dtype="f8").reshape(7, -1) / 2
    dense = {
        "unet.conv_in": kernel,
        "unet.proj": (a @ b).astype("f8") * (c @ d) / 2,
        "unet.out": np.kron(w1.astype("f8"), w2),  # two whole matrices: alpha says nothing
    }
    for path, matrix in dense.items():
        expected = np.linalg.svd(matrix, compute_uv=False)
        size = min(len(expected), len(sigma[path]))
        np.testing.assert_allclose(sigma[path][:size], expected[:size], atol=1e-6 * expected[0])


def test_loralib_is_unscaled_unless_alpha_is_given(tmp_path):
    torch = pytest.importorskip("torch")
    made = {
        f"roberta.encoder.layer.{layer}.attention.self.query.lora_{side}": torch.ones(shape)
        for layer in range(2)
        for side, shape in (("A", (2, 6)), ("B", (6, 2)))
    }
    torch.save({**made, "classifier.weight": torch.ones(3, 6)}, tmp_path / "lora.bin")
    adapter = read_adapter(tmp_path / "lora.bin")
    assert (adapter.format, adapter.method) == ("loralib", "lora-r2")
    assert adapter.notes[0].startswith("Alpha is not in the file: B·A is unscaled.")
    assert adapter.notes[1] == "classifier.weight: trained beside the adapter, not a low-rank update."
    plain, scaled = spectra(tmp_path / "lora.bin"), spectra(tmp_path / "lora.bin", alpha=16)
    np.testing.assert_allclose(scaled["layer/query/1"], 8 * plain["layer/query/1"])


@pytest.mark.parametrize(
    ("names", "modules"),
    [
        (["unet:0:up", "unet:0:down", "unet:10:up", "unet:10:down", "unet:2:up", "unet:2:down"], {"unet": 3}),
        (["w_a_000", "w_b_000", "w_a_001", "w_b_001"], {"w": 2}),
        (["blocks.0.attn.A", "blocks.0.attn.B", "blocks.7.attn.A", "blocks.7.attn.B"], {"attn": 2}),
        (["a", "b"], {"update": 1}),
    ],
)
def test_pairs_under_any_names(tmp_path, names, modules):
    first = re.compile(r"(^|[._:])(down|a|A)($|[._:])")
    made = {name: np.full((2, 5) if first.search(name) else (7, 2), i + 1.0) for i, name in enumerate(names)}
    save_file(made, tmp_path / "pairs.safetensors")
    adapter = read_adapter(tmp_path / "pairs.safetensors")
    assert {line.module: len(line.units) for line in adapter.modules()} == modules
    assert {line.shapes for line in adapter.modules()} == {((7, 5),)}


def test_order_is_that_of_the_numbers(tmp_path):
    made = {}
    for number in range(12):
        made[f"unet:{number}:down"], made[f"unet:{number}:up"] = np.full((1, 4), number + 1.0), np.ones((4, 1))
    save_file(made, tmp_path / "pairs.safetensors")
    sigma = [value[0] for key, value in spectra(tmp_path / "pairs.safetensors").items() if key.startswith("layer")]
    assert sigma == pytest.approx([4 * (number + 1) for number in range(12)])


def test_factors_written_the_other_way_round(tmp_path):
    down, up = RANDOM.standard_normal((9, 2)), RANDOM.standard_normal((2, 7))
    save_file({"layers.0.q.lora_a": down, "layers.0.q.lora_b": up}, tmp_path / "mlx.safetensors")
    (stored,) = read_adapter(tmp_path / "mlx.safetensors").updates
    assert (stored.path, stored.shape, stored.rank) == ("layers.0.q", (7, 9), 2)
    np.testing.assert_allclose(
        stored.load().singular_values(), np.linalg.svd(down @ up, compute_uv=False)[:2], rtol=1e-12
    )


def test_unlike_shapes_of_one_module_type_stay_apart(tmp_path):
    made = {}
    for layer, width in enumerate((8, 8, 6)):
        made[f"layers.{layer}.mlp.lora_down.weight"] = np.ones((2, width))
        made[f"layers.{layer}.mlp.lora_up.weight"] = np.ones((5, 2))
    save_file(made, tmp_path / "unlike.safetensors")
    lines = {line.module: line.units for line in read_adapter(tmp_path / "unlike.safetensors").modules()}
    assert lines == {"mlp:5x8": (0, 1), "mlp:5x6": (2,)}


def full_models(tmp_path, shards=1):
    before = {f"layers.{layer}.{name}.weight": RANDOM.standard_normal((6, 5)).astype("f4")
              for layer in range(2) for name in "qv"}  # fmt: skip
    before["norm.weight"] = np.ones(5, "f4")
    after = {name: tensor + RANDOM.standard_normal(tensor.shape).astype("f4") for name, tensor in before.items()}
    for name, tensors in (("base", before), ("tuned", after)):
        folder = tmp_path / name
        folder.mkdir()
        if shards == 1:
            save_file(tensors, folder / "model.safetensors")
            continue
        places = {key: f"model-{index % shards}.safetensors" for index, key in enumerate(tensors)}
        for shard in set(places.values()):
            save_file({key: tensors[key] for key in tensors if places[key] == shard}, folder / shard)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return before, after


@pytest.mark.parametrize("shards", [1, 2])
def test_full_fine_tune_against_its_base(tmp_path, shards):
    before, after = full_models(tmp_path, shards)
    with pytest.raises(AdapterFileError, match="give its base model as base"):
        read_adapter(tmp_path / "tuned")
    adapter = read_adapter(tmp_path / "tuned", base=tmp_path / "base")
    assert adapter.method == "full"
    found = component_spectra(adapter.components())
    assert len(found) == 4
    difference = after["layers.1.v.weight"].astype("f8") - before["layers.1.v.weight"]
    np.testing.assert_allclose(found["layer/v/1"], np.linalg.svd(difference, compute_uv=False), rtol=1e-12)
    for module in ("q", ["q"], ["layers.0.q", "layers.1.q"]):
        only = read_adapter(tmp_path / "tuned", base=tmp_path / "base", module=module)
        assert [(line.module, line.units) for line in only.modules()] == [("q", (0, 1))]
    with pytest.raises(ParameterError, match="module: expected one of q, v, found k"):
        read_adapter(tmp_path / "tuned", base=tmp_path / "base", module=["k"])
    with pytest.raises(ParameterError, match="alpha: expected a finite number, found nan"):
        read_adapter(tmp_path / "tuned", base=tmp_path / "base", alpha=float("nan"))
    with pytest.raises(AdapterFileError, match="found no such file or folder"):
        read_adapter(tmp_path / "tuned", base=tmp_path / "missing")


def test_a_base_saved_without_its_head_is_the_base_all_the_same(tmp_path):
    for name, prefix in (("base", ""), ("tuned", "bert.")):
        (tmp_path / name).mkdir()
        save_file(
            {f"{prefix}layers.0.q.weight": np.full((3, 3), 1.0 + bool(prefix))}, tmp_path / name / "model.safetensors"
        )
    for one, other in (("base", "tuned"), ("tuned", "base")):
        found = component_spectra(read_adapter(tmp_path / one, base=tmp_path / other).components())
        np.testing.assert_allclose(found["layer/q/0"], [3.0, 0, 0], atol=1e-12)
