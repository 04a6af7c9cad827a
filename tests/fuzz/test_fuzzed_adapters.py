"""Thousands of mutations of valid adapters: each is read, or refused in one line. Nothing else may happen."""

import json
import warnings
from functools import partial

import numpy as np
import pytest
from safetensors.numpy import save

from msplora_core.components import component_spectra
from msplora_core.errors import MSPLoraError
from msplora_core.formats import read_adapter


def array(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype("f4")


def peft(kind, parts, **config):
    """A PEFT folder: each part a name within the module with its shape."""
    weights = {
        f"base_model.model.layers.{layer}.{module}.{name}": array(*shape)
        for layer in range(2)
        for module in "qv"
        for name, shape in parts.items()
    }
    content = {"peft_type": kind, "r": 2, "lora_alpha": 4, "base_model_name_or_path": "x/y", **config}
    return {"adapter_model.safetensors": save(weights), "adapter_config.json": json.dumps(content).encode()}


def msplora():
    place = {"scaling": {"global": 2.0, "mid": 1.0, "layer": 4.0}, "group": 0, "module": "q"}
    placement = {f"layers.{layer}.q": {**place, "layer": layer} for layer in range(2)}
    shared = {f"layers.0.q.msplora_{scale}.{name}": array(*shape)
              for scale in ("global", "mid") for name, shape in (("A", (2, 5)), ("B", (6, 2)))}  # fmt: skip
    own = {f"layers.{layer}.q.msplora_layer.{name}": array(*shape)
           for layer in range(2) for name, shape in (("A", (1, 5)), ("B", (6, 1)))}  # fmt: skip
    weights = {f"base_model.model.{name}": tensor for name, tensor in (shared | own).items()}
    config = {"peft_type": "MSPLORA", "ranks": [2, 2, 1], "placement": placement}
    return {"adapter_model.safetensors": save(weights), "adapter_config.json": json.dumps(config).encode()}


def single(**tensors):
    return {"weights.safetensors": save({name.replace("__", "."): tensor for name, tensor in tensors.items()})}


def torch_zip():
    import io

    torch = pytest.importorskip("torch")
    file = io.BytesIO()
    torch.save({"layer.0.q.lora_A": torch.ones(2, 5), "layer.0.q.lora_B": torch.ones(6, 2).half()}, file)
    return {"weights.bin": file.getvalue()}


def sharded():
    shards = {f"model-{i}.safetensors": save({f"layers.{i}.q.weight": array(6, 5)}) for i in range(2)}
    index = {"weight_map": {f"layers.{i}.q.weight": f"model-{i}.safetensors" for i in range(2)}}
    return {**shards, "model.safetensors.index.json": json.dumps(index).encode()}


SOURCES = {
    "lora": lambda: peft("LORA", {"lora_A.weight": (2, 5), "lora_B.weight": (6, 2)}, rank_pattern={"q": 2, ".*v": 2}),
    "dora": lambda: peft(
        "LORA", {"lora_A.weight": (2, 5, 3, 3), "lora_B.weight": (6, 2, 1, 1), "lora_magnitude_vector": (6,)},
        use_dora=True, use_rslora=True, alpha_pattern={"layers.1.q": 3},
    ),
    "embedding": lambda: peft("LORA", {"lora_embedding_A": (2, 9), "lora_embedding_B": (6, 2)}),
    "adalora": lambda: peft("ADALORA", {"lora_A": (2, 5), "lora_B": (6, 2), "lora_E": (2, 1)}, init_r=4, target_r=2),
    "loha": lambda: peft(
        "LOHA", {"hada_w1_a": (6, 2), "hada_w1_b": (2, 5), "hada_w2_a": (6, 2), "hada_w2_b": (2, 5)}, alpha=3
    ),
    "loha kernel": lambda: peft(
        "LOHA", {"hada_t1": (2, 2, 3, 3), "hada_w1_a": (2, 6), "hada_w1_b": (2, 5),
                 "hada_t2": (2, 2, 3, 3), "hada_w2_a": (2, 6), "hada_w2_b": (2, 5)},
    ),
    "lokr": lambda: peft("LOKR", {"lokr_w1": (2, 3), "lokr_w2_a": (4, 2), "lokr_w2_b": (2, 5)}),
    "vera": lambda: {
        **peft("VERA", {"vera_lambda_b": (6,), "vera_lambda_d": (2,)}),
        "adapter_model.safetensors": save(
            {"base_model.vera_A": array(2, 5), "base_model.vera_B": array(6, 2),
             "base_model.model.layers.0.q.vera_lambda_b": array(6),
             "base_model.model.layers.0.q.vera_lambda_d": array(2)}
        ),
    },
    "msplora": msplora,
    "kohya": lambda: single(
        lora_unet_down_blocks_0_attentions_1_to_q__lora_down__weight=array(2, 5),
        lora_unet_down_blocks_0_attentions_1_to_q__lora_up__weight=array(6, 2),
        lora_unet_down_blocks_0_attentions_1_to_q__alpha=np.array(1.0, "f2"),
    ),
    "diffusers": lambda: single(
        unet__mid_block__attn1__to_q__lora_A__weight=array(2, 5),
        unet__mid_block__attn1__to_q__lora_B__weight=array(6, 2),
    ),
    "pairs": lambda: single(w_a_000=array(2, 5), w_b_000=array(6, 2), w_a_001=array(2, 5), w_b_001=array(6, 2)),
    "torch": torch_zip,
    "full": sharded,
}  # fmt: skip


def read_everything(folder, base):
    """What a user would ask of the folder, its summary and every spectrum; the error in which that ends, if it does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            adapter = read_adapter(folder, base=base)
            adapter.modules()
            spectra = component_spectra(adapter.components())
    except MSPLoraError as error:
        return str(error)
    assert all(np.isfinite(sigma).all() and (np.diff(sigma) <= 0).all() for sigma in spectra.values())
    return ""


@pytest.mark.parametrize("name", SOURCES)
def test_mutations_are_read_or_refused(name, tmp_path, fuzz):
    files = SOURCES[name]()
    folder, base = tmp_path / "adapter", tmp_path / "base" if name == "full" else None
    if base:
        fuzz.write(base, files)
    refused = 0
    for number, mutated in fuzz.mutations(files, fuzz.count // len(SOURCES) // 2 + 1):
        fuzz.write(folder, mutated)
        message = fuzz.check(number, mutated, partial(read_everything, folder, base))
        if message:
            refused += 1
            assert number, f"{name} itself is refused: {message}"
            assert message.isprintable()
            assert str(folder) in message or "numbers; expected at most" in message
    assert refused  # else nothing was mutated


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"full"}))
def test_mutations_are_analysed_or_refused(name, tmp_path, fuzz):
    files = SOURCES[name]()
    folder = tmp_path / "adapter"
    for number, mutated in fuzz.mutations(files, fuzz.count // 2000 + 1):
        fuzz.write(folder, mutated)
        fuzz.check(number, mutated, partial(fuzz.look, folder, analysed=True, drawn=number == 1), memory=False)
