"""Thousands of mutations of valid adapters: each is read, or refused in one line. Nothing else may happen.

`make fuzz` runs more of them than CI does; MSPLORA_FUZZ says how many, MSPLORA_FUZZ_SEED which.
"""

import json
import os
import random
import shutil
import signal
import struct
import tracemalloc
import warnings

import numpy as np
import pytest
from safetensors.numpy import save

from msplora_core.components import component_spectra
from msplora_core.errors import MSPLoraError
from msplora_core.formats import read_adapter

MUTATIONS = int(os.environ.get("MSPLORA_FUZZ", 12_000))
SEED = int(os.environ.get("MSPLORA_FUZZ_SEED", 0))
CONSTANT = 2**26
"""Bytes of memory that reading may take, beside twice the size of the files."""

VALUES = [None, True, -1, 0, 1, 2, 3, 7, 2**31, 2**63, 10**30, 1e308, -0.5, "", "q", "lora", "\n", "\u202e", [], [1],
          {}, {"q": 1}, {"": -1}, ["q"], "(a+)+$", "../../x", "LOHA", "VERA", [10**9] * 2, [0, 2**62]]  # fmt: skip


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


def flip(chance, content):
    content = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8])):
        content[chance.randrange(len(content))] = chance.choice([0, 1, 0x7F, 0xFF, chance.randrange(256)])
    return bytes(content)


def cut(chance, content):
    return content[: chance.randrange(len(content))]


def stir(chance, content):
    """Drop, repeat or insert a stretch."""
    start = chance.randrange(len(content))
    stretch = content[start : start + chance.choice([1, 4, 8, 40])]
    return chance.choice(
        [content[:start] + content[start + len(stretch) :], content[:start] + stretch + content[start:]]
    )


def replace_value(chance, value):
    """Put something else somewhere into a JSON value."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        change = chance.random()
        if change < 0.1:
            return {name: item for name, item in value.items() if name != key}
        if change < 0.2:
            return {chance.choice([*value, "x", "a.lora_A", "\x1b[2J"]) if n == key else n: v for n, v in value.items()}
        return {**value, key: replace_value(chance, value[key])}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [*value[:place], replace_value(chance, value[place]), *value[place + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.5:
        return value + chance.choice([-8, -4, -1, 1, 4, 8])
    return chance.choice(VALUES)


def change_json(chance, content):
    """Another value in a JSON file or in the header of a safetensors file."""
    start = 0 if content.startswith(b"{") else 8
    length = len(content) if start == 0 else int.from_bytes(content[:8], "little")
    try:
        value = json.loads(content[start : start + length])
    except ValueError:  # another mutation was here before
        return flip(chance, content)
    text = json.dumps(replace_value(chance, value)).encode()
    return text if start == 0 else struct.pack("<Q", len(text)) + text + content[8 + length :]


MUTATORS = [flip, cut, stir, change_json, change_json, change_json]


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


def mutations(name, files):
    """The files themselves, then mutations of one or more of them, without end."""
    chance = random.Random(f"{SEED} {name}")
    yield files
    while True:
        mutated = dict(files)
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            target = chance.choice(list(mutated))
            if mutated[target]:
                mutated[target] = chance.choice(MUTATORS)(chance, mutated[target])
        yield mutated


def write(folder, files):
    folder.mkdir(exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)


@pytest.fixture
def watch():
    """Fails what takes more than a minute."""

    def too_long(*_):
        pytest.fail("still reading after a minute")

    before = signal.signal(signal.SIGALRM, too_long)
    yield signal.alarm
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs alarm signals to notice a hang")
@pytest.mark.parametrize("name", SOURCES)
def test_mutations_are_read_or_refused(name, tmp_path, watch):
    files = SOURCES[name]()
    folder, base = tmp_path / "adapter", tmp_path / "base" if name == "full" else None
    if base:
        write(base, files)
    refused = 0
    for number, mutated in zip(range(MUTATIONS // len(SOURCES) + 1), mutations(name, files), strict=False):
        write(folder, mutated)
        tracemalloc.start()
        watch(60)
        try:
            message = read_everything(folder, base)
        except BaseException as error:
            kept = shutil.copytree(folder, tmp_path / f"mutation-{number}")
            raise AssertionError(f"mutation {number} of {name}, kept in {kept}: {error!r}") from error
        finally:
            watch(0)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 2 * sum(map(len, mutated.values())) + CONSTANT, f"mutation {number} of {name}"
        if message:
            refused += 1
            assert number, f"{name} itself is refused: {message}"
            assert message.isprintable()
            assert str(folder) in message or "numbers; expected at most" in message
    assert refused  # else nothing was mutated
