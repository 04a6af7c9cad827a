"""Broken and hostile adapters: one line with the file, the key, what was expected and what was found."""

import json
import math
import pickle
import struct
import tracemalloc
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
from safetensors.numpy import save_file

from msplora_core.components import component_spectra
from msplora_core.errors import FileError, MissingDependencyError, MSPLoraError, UnsupportedAdapterError
from msplora_core.formats import read_adapter

A, B = "layers.0.q.lora_A.weight", "layers.0.q.lora_B.weight"


def written(path, header, data=b""):
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def refused(path, *parts, error=FileError, **options):
    """Reading the path to its last value raises, in one line that names the path and the parts."""
    with pytest.raises(error) as raised:
        component_spectra(read_adapter(path, **options).components())
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    for part in parts:
        assert part in message
    return message


def peft_folder(folder, tensors=None, **config):
    folder.mkdir(exist_ok=True)
    prefix = "base_model.model."
    tensors = {A: np.ones((2, 6), "f4"), B: np.ones((5, 2), "f4")} if tensors is None else tensors
    save_file({prefix + name: tensor for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    content = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder


HEADERS = {
    "no JSON": (b"{nonsense}", "header: expected JSON in UTF-8"),
    "no UTF-8": (b'{"\xff": 1}', "header: expected JSON in UTF-8"),
    "a list": (b"[1, 2]", "header: expected a JSON object, found list"),
    "deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "header: expected JSON in UTF-8"),
    "twice": (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        "a: expected it once in the header, found it twice",
    ),
    "a line break in a name": ({"a\nb": entry([1], 0, 4)}, "expected tensor names of 1 to 500 printable characters"),
    "no shape": ({"a": {"dtype": "F32"}}, "a: expected dtype, shape and data_offsets"),
    "unknown dtype": ({"a": entry([1], 0, 4, "F31")}, "a: expected a dtype among BOOL"),
    "negative size": ({"a": entry([-1], 0, 4)}, "a: expected a shape of at most 8 sizes, found [-1]"),
    "size by text": ({"a": entry(["1"], 0, 4)}, "a: expected a shape"),
    "true for one": ({"a": entry([True], 0, 4)}, "a: expected a shape"),
    "backwards": ({"a": entry([1], 4, 0)}, "a: expected data_offsets [begin, end], found [4, 0]"),
    "lies": ({"a": entry([2], 0, 4)}, "a: expected 8 bytes for F32 of shape [2], found 4 bytes"),
    "billions": (
        {"a": entry([100_000, 100_000], 0, 40_000_000_000)},
        "a: expected 40000000000 bytes of data, found 4: the file is cut short",
    ),
    "overlap": (
        {"a": entry([1], 0, 4), "b": entry([1], 0, 4)},
        "b: expected its data to begin at byte 4, found byte 0, overlapping a",
    ),
    "hole": ({"b": entry([], 4, 8)}, "b: expected its data to begin at byte 0, found byte 4, after a hole"),
    "beyond": ({}, "expected 0 bytes of data, found 4"),
    "metadata": ({"__metadata__": {"rank": 4}}, "__metadata__: expected texts by name"),
    "nothing": ({"__metadata__": {"rank": "4"}, "a": entry([1], 0, 4)}, "expected tensors that pair up"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_of_safetensors(tmp_path, case):
    header, message = HEADERS[case]
    refused(written(tmp_path / "x.safetensors", header, b"\0\0\0\0"), message)


def test_truncated_files(tmp_path):
    whole = tmp_path / "whole.safetensors"
    save_file({A: np.ones((2, 6), "f4"), B: np.ones((5, 2), "f4")}, whole)
    content = whole.read_bytes()
    for length in (0, 5, 8, 20):
        cut = tmp_path / "cut.safetensors"
        cut.write_bytes(content[:length])
        refused(cut, "header: expected a safetensors file, whose header fits its")
    cut.write_bytes(content[:-1])
    refused(cut, "the file is cut short")
    (tmp_path / "huge.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    refused(tmp_path / "huge.safetensors", "found a header of 4611686018427387904 bytes")


TENSORS = {
    "A without B": ({A: np.ones((2, 6))}, [A, "expected lora_B beside it, found none"]),
    "B without A": ({B: np.ones((5, 2))}, [B, "expected lora_A beside it, found none"]),
    "inner sizes": (
        {A: np.ones((2, 6)), B: np.ones((5, 3))},
        [B, "expected shape [out, 2], to go with", "found shape [5, 3]"],
    ),
    "empty": ({A: np.ones((0, 6)), B: np.ones((5, 0))}, ["found shape [5, 0]"]),
    "a vector": ({A: np.ones(6), B: np.ones((5, 2))}, [A, "expected a matrix", "found shape [6]"]),
    "NaN": ({A: np.full((2, 6), np.nan), B: np.ones((5, 2))}, [A, "expected finite numbers, found NaN or infinity"]),
    "infinity": ({A: np.ones((2, 6)), B: np.full((5, 2), -np.inf)}, [B, "expected finite numbers"]),
    "integers": ({A: np.ones((2, 6), "i8"), B: np.ones((5, 2))}, [A, "expected floating-point numbers, found int64"]),
    "another rank": ({A: np.ones((3, 6)), B: np.ones((5, 3))}, [A, "expected rank 2, as adapter_config.json gives"]),
    "no adapter": ({"x": np.ones(3)}, ["expected at least one pair of factors, found none"]),
}  # fmt: skip


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_of_a_peft_folder(tmp_path, case):
    tensors, parts = TENSORS[case]
    peft_folder(tmp_path / "adapter", tensors)
    with pytest.raises(FileError) as raised:
        component_spectra(read_adapter(tmp_path / "adapter").components())
    for part in (str(tmp_path / "adapter"), *parts):
        assert part in str(raised.value)


CONFIGS = {
    "r": ({"r": 0}, "r: expected a whole number of at least 1, found 0"),
    "no r": ({"r": None}, "r: expected a whole number of at least 1, found None"),
    "alpha": ({"lora_alpha": "16"}, "lora_alpha: expected a finite number, found 16"),
    "rank_pattern": ({"rank_pattern": ["q"]}, "rank_pattern: expected numbers by pattern"),
    "rank in it": ({"rank_pattern": {"q": -1}}, "rank_pattern: expected numbers by pattern"),
    "regex": ({"rank_pattern": {"[q": 2}}, "rank_pattern: expected a"),
    "runaway": ({"rank_pattern": {"(a+)+$": 2}}, "expected a pattern without repeats of groups and with at most two"),
    "runaway by choices": ({"alpha_pattern": {"(a|a)*b": 2}}, "expected a pattern without repeats of groups"),
    "runaway by options": ({"rank_pattern": {"a?" * 30 + "a" * 30: 2}}, "expected a pattern without repeats of groups"),
    "many repeats": ({"alpha_pattern": {"a*a*a*a*b": 2}}, "expected a pattern without repeats of groups"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_values_of_the_configuration(tmp_path, case):
    config, message = CONFIGS[case]
    refused(peft_folder(tmp_path / "adapter", **config), "adapter_config.json", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{'r': 8}", "expected JSON in UTF-8"),
        (b'{"peft_type": "L\xffRA"}', "expected JSON in UTF-8, found 'utf-8' codec"),
        (b"[]", "expected a JSON object, found list"),
        (b'{"peft_type": "LORA", "r": NaN}', "NaN is not JSON"),
        (b"[" * 100_000, "expected JSON in UTF-8"),
        (b'{"peft_type": "LORA", "r": 4, "r": 8}', "r: expected it once, found it twice"),
        (b"", "expected JSON in UTF-8"),
    ],
)
def test_configurations_that_are_none(tmp_path, content, message):
    folder = peft_folder(tmp_path / "adapter")
    (folder / "adapter_config.json").write_bytes(content)
    refused(folder, "adapter_config.json", message)


def test_weights_must_be_there(tmp_path):
    folder = peft_folder(tmp_path / "adapter")
    (folder / "adapter_model.safetensors").unlink()
    refused(folder, "expected adapter_model.safetensors or adapter_model.bin, found neither")


def test_links_out_of_the_folder_are_refused(tmp_path):
    outside, folder = tmp_path / "outside.safetensors", peft_folder(tmp_path / "adapter")
    (folder / "adapter_model.safetensors").rename(outside)
    (folder / "adapter_model.safetensors").symlink_to(outside)
    refused(folder, "adapter_model.safetensors: expected a file in", "found a path outside it")
    (tmp_path / "link").symlink_to(folder)  # but the folder itself may be a link
    (folder / "adapter_model.safetensors").unlink()
    outside.rename(folder / "adapter_model.safetensors")
    assert read_adapter(tmp_path / "link").method == "lora-r2"


def test_the_cache_of_the_hub_may_link_to_its_blobs(tmp_path):
    folder = peft_folder(tmp_path / "source")
    snapshot, blobs = tmp_path / "models--x--y" / "snapshots" / "abc", tmp_path / "models--x--y" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (folder / name).rename(blobs / name)
        (snapshot / name).symlink_to(blobs / name)
    assert read_adapter(snapshot).method == "lora-r2"
    (snapshot / "adapter_config.json").unlink()
    (snapshot / "adapter_config.json").symlink_to("/etc/hostname")
    refused(snapshot, "found a path outside it")


def test_an_index_that_points_out_of_the_folder_is_refused(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a.weight": np.ones((3, 3), "f4")}, tmp_path / "secret.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.weight": "../secret.safetensors"}}))
    refused(folder, "expected a file in", "found a path outside it", base=tmp_path / "secret.safetensors")
    for outside in (str(tmp_path / "secret.safetensors"), ".."):
        index.write_text(json.dumps({"weight_map": {"a.weight": outside}}))
        refused(folder, "found a path outside it", base=tmp_path / "secret.safetensors")
    index.write_text(json.dumps({"weight_map": ["a.weight"]}))
    refused(folder, "weight_map: expected file by tensor", base=tmp_path / "secret.safetensors")


def test_two_updates_that_would_be_one_component_are_refused(tmp_path):
    pair = {"lora_A.weight": np.ones((1, 4)), "lora_B.weight": np.ones((4, 1))}
    save_file(
        {f"{path}.{name}": tensor for path in ("layers.1.q", "layers.01.q") for name, tensor in pair.items()},
        tmp_path / "x.safetensors",
    )
    refused(tmp_path / "x.safetensors", "expected one update for layer/q/1, found another beside layers.")


@contextmanager
def memory_at_most(limit):
    """What is allocated within may not exceed the limit at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def write_loha(path, size, rank):
    names = ("w1_a", "w1_b", "w2_a", "w2_b")
    tensors = {f"lora_unet_x.hada_{name}": np.ones((size, rank) if name[-1] == "a" else (rank, size), "f2")
               for name in names}  # fmt: skip
    save_file(tensors, path)
    return path.stat().st_size


def test_thin_factors_that_claim_much_take_little_memory(tmp_path):
    size = write_loha(tmp_path / "loha.safetensors", 20_000, 20)
    with memory_at_most(12 * size):  # half precision, in float64
        (stored,) = read_adapter(tmp_path / "loha.safetensors").updates
        assert stored.shape == (20_000, 20_000)
        assert stored.load().singular_values()[0] == pytest.approx(400 * 2e4)


def test_groups_of_a_convolution_that_claim_much_are_refused(tmp_path):
    size = 30_000
    save_file({A: np.ones((size, 1, 1, 1), "f4"), B: np.ones((size, 1, 1, 1), "f4")}, tmp_path / "x.safetensors")
    refused(tmp_path / "x.safetensors", B, "expected at most 33554432 numbers with its 30000 groups apart")


def test_factors_whose_product_is_too_large_are_refused(tmp_path):
    size = write_loha(tmp_path / "loha.safetensors", 20_000, 150)
    (stored,) = read_adapter(tmp_path / "loha.safetensors").updates
    message = "Hadamard product of shape 20000 × 20000 and ranks 150 and 150"
    with memory_at_most(8 * size), pytest.raises(UnsupportedAdapterError, match=message):
        stored.load().singular_values()


def write_layers(path, layers):
    factors = {"A": np.ones((8, 4096), "f4"), "B": np.ones((4096, 8), "f4")}
    save_file({f"layers.{i}.q.lora_{s}.weight": factors[s] for i in range(layers) for s in "AB"}, path)


def test_components_are_read_one_at_a_time(tmp_path):
    write_layers(tmp_path / "x.safetensors", 40)
    with memory_at_most(2**21):  # of 80 factors of 2**17 bytes
        for component in read_adapter(tmp_path / "x.safetensors").components():
            assert component.update.rank == 8


def test_a_rank_above_the_size_of_the_matrix_is_cheap(tmp_path):
    save_file({A: np.ones((200_000, 2), "f4"), B: np.ones((3, 200_000), "f4")}, tmp_path / "x.safetensors")
    (stored,) = read_adapter(tmp_path / "x.safetensors").updates
    sigma = stored.load().singular_values()
    assert sigma[0] == pytest.approx(200_000 * math.sqrt(6))
    assert not sigma[2:].any()


class Evil:
    def __reduce__(self):
        return (__import__("os").system, ("touch evil",))


def torch_zip(path, content, compress=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
    return path


def test_pickles_that_ask_for_more_are_refused_by_name(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    path = torch_zip(tmp_path / "evil.bin", pickle.dumps({"lora_A": Evil()}, protocol=2))
    refused(path, "data.pkl: expected a pickle of tensors and containers only, found one that asks for posix.system")
    assert not (tmp_path / "evil").exists()
    path = torch_zip(tmp_path / "evil.bin", pickle.dumps(Evil(), protocol=4))
    refused(path, "found the operation STACK_GLOBAL")
    path = torch_zip(tmp_path / "evil.bin", b"\x80\x02c__builtin__\nbytearray\n(J\xff\xff\xff\x7ftR.")
    refused(path, "found one that asks for __builtin__.bytearray")
    path = torch_zip(tmp_path / "evil.bin", pickle.dumps({}, protocol=2))
    refused(path, "expected tensors")
    path = torch_zip(tmp_path / "evil.bin", pickle.dumps({"a": "b" * 10_000}), zipfile.ZIP_DEFLATED)
    refused(path, "archive/data.pkl: expected an uncompressed entry within the file")
    path = torch_zip(tmp_path / "evil.bin", b"\x80\x02" + b"}0" * 2**22 + b".")
    refused(path, "data.pkl: expected one pickle of at most 4194304 bytes")


def test_torch_files_that_are_none(tmp_path):
    (tmp_path / "old.bin").write_bytes(pickle.dumps({"a": Evil()}))
    refused(
        tmp_path / "old.bin", "expected a zip archive, as torch.save writes since torch 1.6", "load and save it again"
    )


def test_a_tensor_that_repeats_few_bytes_without_end_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"q.lora_A": torch.ones(1).expand(2, 10**9), "q.lora_B": torch.ones(3, 2)}, tmp_path / "wide.bin")
    refused(tmp_path / "wide.bin", "q.lora_A: expected at most the file's", "found float32 of shape [2, 1000000000]")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.mark.parametrize("name", ["x.safetensors", "x.bin", "adapter_config.json", "base/model.safetensors"])
def test_a_pointer_of_git_lfs_is_named(tmp_path, name):
    save_file({"layers.0.q.weight": np.ones((2, 2))}, tmp_path / "model.safetensors")
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(POINTER)
    path, base = (tmp_path, file.parent) if "base" in name else (file if name.startswith("x") else tmp_path, None)
    with pytest.raises(FileError, match=r"found a Git LFS pointer to it; .*git lfs pull"):
        read_adapter(path, base=base)


@pytest.mark.parametrize(("code", "size"), [("F8_E8M0", 1), ("C64", 8), ("F8_E4M3FNUZ", 1)])
def test_alpha_of_a_type_that_is_no_real_number(tmp_path, code, size):
    shapes = {"lora_down.weight": ("F32", [1, 2], 8), "lora_up.weight": ("F32", [2, 1], 8), "alpha": (code, [], size)}
    header, start = {}, 0
    for part, (dtype, shape, length) in shapes.items():
        header[f"lora_unet_x.{part}"] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + length]}
        start += length
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(start))
    refused(tmp_path / "x.safetensors", f"lora_unet_x.alpha: expected a real number, found {code.lower()}")


def test_reading_a_bin_without_torch_says_what_to_install(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    torch.save({"q.lora_A": torch.ones(1, 2)}, tmp_path / "x.bin")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r'reading x.bin needs torch: pip install "msplora\[train\]"'):
        read_adapter(tmp_path / "x.bin")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda path: None,
            "found no such file or folder; an adapter on the hub is named hf://owner/name",
        ),
        (lambda path: path.mkdir(), "expected adapter_config.json, or one file of weights, found none"),
    ],
)
def test_paths_with_nothing_to_read(tmp_path, make, message):
    make(tmp_path / "x")
    refused(tmp_path / "x", message, error=MSPLoraError)
