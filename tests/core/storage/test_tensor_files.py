"""safetensors files read with numpy alone, against safetensors itself, torch and ml_dtypes."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from msplora_core.errors import FileError
from msplora_core.storage.tensor_file import read_tensor_file

DTYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": ml_dtypes.bfloat16,
          "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2}  # fmt: skip


def raw_file(path, code, shape, data):
    header = json.dumps({"x": {"dtype": code, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


@pytest.mark.parametrize("code", DTYPES)
def test_every_float_is_read_as_it_is(tmp_path, code):
    values = np.random.default_rng(0).standard_normal((7, 5)).astype(DTYPES[code])
    tensor = read_tensor_file(raw_file(tmp_path / "x.safetensors", code, [7, 5], values.tobytes())).tensors["x"]
    assert tensor.shape == (7, 5)
    np.testing.assert_array_equal(tensor.read(), values.astype("f8"))


@pytest.mark.parametrize("code", ["F8_E4M3", "F8_E5M2", "BF16"])
def test_every_bit_pattern_stands_for_what_it_should(tmp_path, code):
    patterns = np.arange(256, dtype="u1") if code != "BF16" else np.arange(2**16, dtype="<u2")
    file = read_tensor_file(raw_file(tmp_path / "x.safetensors", code, [len(patterns)], patterns.tobytes()))
    np.testing.assert_array_equal(file.tensors["x"].load(), patterns.view(DTYPES[code]).astype("f4"))


def test_numbers_of_other_types(tmp_path):
    save_file({"rank": np.array(4), "half": np.array([0.5], "f2")}, tmp_path / "x.safetensors", metadata={"by": "hand"})
    file = read_tensor_file(tmp_path / "x.safetensors")
    assert (file.tensors["rank"].number(), file.tensors["half"].number()) == (4.0, 0.5)
    assert file.metadata == {"by": "hand"}
    with pytest.raises(FileError, match="rank: expected floating-point numbers, found int64"):
        file.tensors["rank"].read()


@pytest.mark.parametrize(
    "text",
    ['{"a": "},\\""}', '{"a": "b"}', "{}", "null", '{"a":"},"}', '{"a":"\\ud83d\\ude00"}'],
)
@pytest.mark.parametrize("layout", ['"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}', ""])
@pytest.mark.parametrize("colon", [":", ": "])
def test_metadata_is_what_safetensors_reads(tmp_path, text, layout, colon):
    header = f'{{"__metadata__"{colon}{text}{"," if layout else ""}{layout}}}'.encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4 if layout else 0))
    with safe_open(path, framework="numpy") as theirs:
        assert read_tensor_file(path).metadata == (theirs.metadata() or {})


@pytest.mark.parametrize(
    "header",
    ['{"__metadata__":{},"__metadata__":{}}', '{"__metadata__":{},}', '{"__metadata__":{"a":"b","a":"c"}}',
     '{"__metadata__":{"a":1}}', '{"__metadata__":{"a":"b"', '{"__metadata__":{},"x"}', '{"__metadata__":{}}}',
     '{"__metadata__":{},""'],
)  # fmt: skip
def test_damaged_metadata_is_refused(tmp_path, header):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    with pytest.raises(FileError):
        read_tensor_file(path)


@pytest.mark.parametrize("code", ["C64", "F8_E8M0", "F4", "F8_E4M3FNUZ", "F6_E2M3"])
def test_a_number_of_a_type_without_values_here_is_refused(tmp_path, code):
    bits = {"C64": 64, "F4": 4, "F6_E2M3": 6}.get(code, 8)
    size = 8 // bits if bits < 8 and 8 % bits == 0 else 4 if bits == 6 else 1
    data = bytes(size * bits // 8)
    tensor = read_tensor_file(raw_file(tmp_path / "x.safetensors", code, [size], data)).tensors["x"]
    with pytest.raises(FileError, match=r"x: expected (one number|a real number), found"):
        tensor.number()


SIZES = st.integers(-1, 9) | st.sampled_from([2**31, 2**63, 2**64])
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "F8_E4M3", "I64", "BOOL", "F4", "X"]),
        "shape": st.lists(SIZES, max_size=3),
        "data_offsets": st.lists(SIZES, min_size=2, max_size=2),
    }
)


@settings(max_examples=400, deadline=None)
@given(header=st.dictionaries(st.sampled_from("abc"), ENTRY, max_size=3), size=st.integers(0, 16))
def test_nothing_is_taken_that_safetensors_refuses(tmp_path_factory, header, size):
    path = tmp_path_factory.mktemp("headers") / "x.safetensors"
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    try:
        ours = {name: list(tensor.shape) for name, tensor in read_tensor_file(path).tensors.items()}
    except FileError:
        return
    try:
        with safe_open(path, framework="numpy") as theirs:
            assert ours == {name: theirs.get_slice(name).get_shape() for name in theirs.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise AssertionError(f"safetensors refuses {header}") from error
