"""safetensors files, read with numpy alone: every numeric dtype of the format, one tensor at a time.

The header is checked as strictly as by safetensors itself, and repeated names are refused, too. The numpy reader of
safetensors lacks bfloat16 and float8, and its errors name no tensor.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import FileError
from msplora_core.storage.folder import check_file, refuse_pointer
from msplora_core.storage.json_file import LONGEST_NAME, RepeatedName, is_printable_name, unique_names
from msplora_core.storage.tensors import MOST_DIMENSIONS, Tensor, TensorFile

LARGEST_HEADER = 2**24
"""Bytes: about 100,000 tensors. No adapter has more, and parsing takes many times the size in memory."""

_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
         "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
         "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64}  # fmt: skip
_WORDS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
          "F8_E5M2": "float8_e5m2", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
          "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool"}  # fmt: skip
_STORED = {"BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1", "BOOL": "?"}
_BLOCK = 2**18
_OPENINGS = itertools.count()

_Span = tuple[str, tuple[int, ...], int, int]
"""Type code, shape, first byte of the data and the byte after the last."""


def read_safetensors(path: Path) -> TensorFile:
    """Return the tensors of a safetensors file; only its header is read.

    Raises:
        FileError: if the header is cut short, not JSON, or contradicts the file's size; if tensors overlap, leave
            holes, exceed the file or share a name.
    """
    spans, metadata, first = _opened(path)
    tensors, opened = {}, next(_OPENINGS)
    for name, (code, shape, start, _) in spans.items():
        load = partial(_load, path, opened, name, code, shape, first + start)
        tensors[name] = Tensor(path, name, shape, _WORDS.get(code, code.lower()), load)
    return TensorFile(path, tensors, metadata)


def safetensors_checksums(path: Path) -> Counter[tuple[int, int]]:
    """Return the size in bytes and the CRC-32 of each tensor's data, with their number.

    Raises:
        FileError: as `read_safetensors`.
    """
    spans, _, first = _opened(path)
    return Counter((end - start, crc32(_bytes(path, first + start, end - start))) for *_, start, end in spans.values())


def _opened(path: Path) -> tuple[dict[str, _Span], dict[str, str], int]:
    """Spans and metadata of a file, and the place of its first byte of data."""
    check_file(path, "a safetensors file")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(8)
            refuse_pointer(path, first)
            length = int.from_bytes(first, "little")
            if size < 8 or not 2 <= length <= min(size - 8, LARGEST_HEADER):
                raise FileError(
                    path,
                    key="header",
                    expected=f"a safetensors file, whose header fits its {size} bytes and has at most {LARGEST_HEADER}",
                    found=f"a header of {length} bytes" if size >= 8 else f"{size} bytes",
                )
            text = file.read(length)
    except OSError as error:
        raise FileError(path, expected="a safetensors file", found=error.strerror or str(error)) from error
    try:
        spans, metadata = _checked(text, size - 8 - length)
    except _HeaderError as error:
        raise FileError(path, key=error.key, expected=error.expected, found=error.found) from error
    return spans, metadata, 8 + length


class _HeaderError(Exception):
    """What is wrong with a header, without the file's path."""

    def __init__(self, key: str, expected: str, found: object) -> None:
        self.key, self.expected, self.found = key, expected, found


_OPENING = '{"__metadata__":{'
_DECODER = json.JSONDecoder(object_pairs_hook=unique_names)


def _checked(text: bytes, size: int) -> tuple[dict[str, _Span], dict[str, str]]:
    """Spans and metadata of a header; `size` is the number of bytes after it."""
    apart: dict[str, str] | None = None
    try:
        layout = text.decode("utf-8")
        if layout.startswith(_OPENING):
            # Parsed separately, so that files that differ in metadata alone share one cached layout.
            first, end = _DECODER.raw_decode(layout, len(_OPENING) - 1)
            if layout.startswith(',"', end):
                apart, layout = _texts(first), "{" + layout[end + 1 :]
        spans, metadata = (_spans if len(layout) < 2**18 else _spans.__wrapped__)(layout, size)
    except RepeatedName as error:
        raise _HeaderError(error.name, "it once in the header", "it twice") from error
    except (ValueError, RecursionError) as error:
        raise _HeaderError("header", "JSON in UTF-8", str(error)) from error
    if apart is not None and metadata is not None:
        raise _HeaderError("__metadata__", "it once in the header", "it twice")
    return spans, apart or metadata or {}


def _texts(metadata: Any) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _HeaderError("__metadata__", "texts by name", metadata)
    return metadata


@lru_cache(maxsize=4)
def _spans(layout: str, size: int) -> tuple[dict[str, _Span], dict[str, str] | None]:
    """Spans and metadata of a header; passes on the errors of the JSON decoder."""
    header = json.loads(layout, object_pairs_hook=unique_names)
    if not isinstance(header, dict):
        raise _HeaderError("header", "a JSON object", type(header).__name__)
    metadata = _texts(header.pop("__metadata__")) if "__metadata__" in header else None
    for name in header:
        if not is_printable_name(name):
            raise _HeaderError("header", f"tensor names of 1 to {LONGEST_NAME} printable characters", repr(name)[:80])
    spans = {name: _span(name, entry) for name, entry in header.items()}
    _check_cover(spans, size)
    return spans, metadata


def _span(name: str, entry: Any) -> _Span:
    """The span of one tensor, if its type, shape and offsets agree with each other."""
    if not isinstance(entry, dict) or {"dtype", "shape", "data_offsets"} - set(entry):
        raise _HeaderError(name, "dtype, shape and data_offsets", entry)
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _BITS:
        raise _HeaderError(name, f"a dtype among {', '.join(_BITS)}", code)
    if not _whole_numbers(shape) or len(shape) > MOST_DIMENSIONS:
        raise _HeaderError(name, f"a shape of at most {MOST_DIMENSIONS} sizes", shape)
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _HeaderError(name, "data_offsets [begin, end]", offsets)
    bits, given = math.prod(shape) * _BITS[code], offsets[1] - offsets[0]
    if bits != 8 * given:
        raise _HeaderError(name, f"{-(-bits // 8)} bytes for {code} of shape {shape}", f"{given} bytes")
    return code, tuple(shape), offsets[0], offsets[1]


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _check_cover(spans: dict[str, _Span], size: int) -> None:
    """Check that the tensors fill the file without overlaps or holes."""
    reached, before = 0, "the header"
    for name, (_, _, start, end) in sorted(spans.items(), key=lambda item: item[1][2:]):
        if start != reached:
            what = f"byte {start}, overlapping {before}" if start < reached else f"byte {start}, after a hole"
            raise _HeaderError(name, f"its data to begin at byte {reached}", what)
        reached, before = end, name
        if end > size:
            raise _HeaderError(name, f"{end} bytes of data", f"{size}: the file is cut short")
    if reached != size:
        raise _HeaderError("", f"{reached} bytes of data", f"{size}")


def _load(path: Path, opened: int, name: str, code: str, shape: tuple[int, ...], offset: int) -> NDArray[Any]:
    stored, count = _stored(code), math.prod(shape)
    size = count * stored.itemsize
    first, last = offset // _BLOCK, (offset + size - 1) // _BLOCK
    try:
        if first == last:  # small tensors are read together with their neighbours
            data, start = _block(path, opened, first), offset - first * _BLOCK
        else:
            data, start = _bytes(path, offset, size), 0
    except OSError as error:
        raise FileError(path, key=name, expected="its data", found=str(error)) from error
    if len(data) - start < size:
        found = f"{max(0, len(data) - start)}: the file was changed"
        raise FileError(path, key=name, expected=f"{size} bytes", found=found)
    values = np.frombuffer(data, stored, count, start)
    if code == "BF16":  # the upper half of a float32
        values = (values.astype("<u4") << 16).view("<f4")
    elif code in ("F8_E4M3", "F8_E5M2"):
        values = _float8_values(code)[values]
    return values.reshape(shape)


@cache
def _stored(code: str) -> np.dtype[Any]:
    return np.dtype(_STORED.get(code, f"<{code[0].lower()}{_BITS[code] // 8}"))


@lru_cache(maxsize=2)
def _block(path: Path, opened: int, number: int) -> bytearray:
    """A block of a file. `opened` numbers the openings, since the file may have changed between two of them."""
    return _bytes(path, number * _BLOCK, _BLOCK)


def _bytes(path: Path, offset: int, size: int) -> bytearray:
    """`size` bytes of a file from an offset; fewer at its end."""
    room, done = bytearray(size), 0
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while done < size and (more := file.readinto(memoryview(room)[done:])):
            done += more
    return room[:done] if done < size else room


@cache
def _float8_values(code: str) -> NDArray[np.float32]:
    """The values of the 256 bytes (Micikevicius et al. 2022, arXiv 2209.05433, table 1)."""
    exponent_bits, mantissa_bits, bias = (4, 3, 7) if code == "F8_E4M3" else (5, 2, 15)
    byte = np.arange(256)
    exponent = (byte >> mantissa_bits) & (2**exponent_bits - 1)
    mantissa = (byte & (2**mantissa_bits - 1)) / 2**mantissa_bits
    value = np.where(exponent > 0, (1 + mantissa) * 2.0 ** (exponent - bias), mantissa * 2.0 ** (1 - bias))
    if code == "F8_E4M3":  # no infinity; only the highest value is NaN
        value[(byte & 0x7F) == 0x7F] = np.nan
    else:
        value[exponent == 31] = np.where(mantissa[exponent == 31] == 0, np.inf, np.nan)
    result: NDArray[np.float32] = np.where(byte & 0x80, -value, value).astype(np.float32)
    return result
