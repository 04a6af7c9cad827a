"""Files that torch.save wrote (`.bin`, `.pt`), read with torch's weights-only loader.

The loader runs no code from the file, but calls the functions that it allows with arguments from the file. So the
pickle is checked first: it may name tensors and plain containers, and nothing else.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import FileError, MissingDependencyError
from msplora_core.storage.tensors import Tensor, TensorFile, check_name

if TYPE_CHECKING:
    import torch

TORCH_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")

LARGEST_PICKLE = 2**22
"""Bytes. Some 20,000 tensors; the values themselves lie outside the pickle."""

_STORAGES = {"Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"}
_ALLOWED = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {kind}Storage" for kind in _STORAGES),
}


def is_torch_file(path: Path, start: bytes) -> bool:
    """Whether a file is one of torch's: a zip archive by its first bytes, or an older format by its name."""
    return start.startswith(b"PK\x03\x04") or (path.suffix in TORCH_SUFFIXES and start[8:9] != b"{")


def read_torch_file(path: Path) -> TensorFile:
    """Return the tensors of a file that torch.save wrote, memory-mapped.

    Raises:
        FileError: if it is damaged, of the format before torch 1.6, not a flat mapping of tensors, or its
            pickle names anything but tensors and containers.
        MissingDependencyError: if torch is not installed.
    """
    _check_archive(path)
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError("torch", purpose=f"reading {path.name}", extra="train") from error

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # damaged bytes can raise any exception
        raise FileError(path, expected="tensors that torch.save wrote", found=str(error)) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise FileError(path, expected="tensors by name", found=type(content).__name__)
    size = path.stat().st_size
    tensors = {}
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            tensors[check_name(path, name)] = _tensor(path, name, value, size)
    if not tensors:
        raise FileError(path, expected="tensors by name", found="none")
    return TensorFile(path, tensors)


def torch_checksums(path: Path) -> Counter[tuple[int, int]]:
    """Return the size in bytes and the CRC-32 of each tensor's data, as the archive states them; does not need torch.

    Raises:
        FileError: if it is not a file that torch.save wrote.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise FileError(path, expected="a zip archive, as torch.save writes", found=str(error)) from error
    return Counter((entry.file_size, entry.CRC) for entry in entries if Path(entry.filename).parent.name == "data")


def _check_archive(path: Path) -> None:
    """Check that a zip has uncompressed entries and a pickle that names only tensors and containers."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            size = path.stat().st_size
            for entry in entries:
                if entry.compress_type != zipfile.ZIP_STORED or not entry.compress_size == entry.file_size <= size:
                    raise FileError(
                        path,
                        key=entry.filename,
                        expected="an uncompressed entry within the file, as torch.save writes",
                        found=f"{entry.compress_size} bytes for {entry.file_size}, compression {entry.compress_type}",
                    )
            pickles = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
            if len(pickles) != 1 or pickles[0].file_size > LARGEST_PICKLE:
                found = f"{len(pickles)}" if len(pickles) != 1 else f"one of {pickles[0].file_size}"
                raise FileError(
                    path, key="data.pkl", expected=f"one pickle of at most {LARGEST_PICKLE} bytes", found=found
                )
            content = archive.read(pickles[0])
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise FileError(
            path,
            expected="a zip archive, as torch.save writes since torch 1.6",
            found=str(error),
            hint="if an older torch wrote it, load and save it again with a newer one, best as safetensors",
        ) from error
    try:
        wanted = [(code.name, str(argument)) for code, argument, _ in pickletools.genops(content)]
    except Exception as error:  # damaged bytes can raise any exception
        raise FileError(path, key="data.pkl", expected="a pickle", found=str(error)) from error
    for code, argument in wanted:
        if code in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4") or (code == "GLOBAL" and argument not in _ALLOWED):
            raise FileError(
                path,
                key="data.pkl",
                expected="a pickle of tensors and containers only",
                found=f"one that asks for {argument.replace(' ', '.')}"
                if code == "GLOBAL"
                else f"the operation {code}",
                hint="it could run code: do not load it elsewhere",
            )


def _tensor(path: Path, name: str, value: torch.Tensor, size: int) -> Tensor:
    dtype = str(value.dtype).removeprefix("torch.")
    shape = tuple(value.shape)
    if value.numel() * value.element_size() > size:  # strides of zero make a small file a huge tensor
        raise FileError(
            path, key=name, expected=f"at most the file's {size} bytes", found=f"{dtype} of shape {list(shape)}"
        )
    return Tensor(path, name, shape, dtype, partial(_values, value))


def _values(value: Any) -> NDArray[Any]:
    import torch

    value = value.detach()
    return np.asarray((value.float() if value.dtype == torch.bfloat16 else value).numpy())
