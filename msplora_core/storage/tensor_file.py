"""A file of tensors, safetensors or torch, by its first bytes."""

from __future__ import annotations

from pathlib import Path

from msplora_core.errors import FileError
from msplora_core.storage.folder import check_file, refuse_pointer
from msplora_core.storage.safetensors_file import read_safetensors
from msplora_core.storage.tensors import TensorFile
from msplora_core.storage.torch_file import is_torch_file, read_torch_file


def read_tensor_file(path: Path) -> TensorFile:
    """Open a file of tensors, whose first bytes tell its format; no values are read.

    Raises:
        FileError: if it is missing, damaged, or of no known kind.
    """
    check_file(path, "a file of weights")
    try:
        with path.open("rb") as file:
            start = file.read(24)
    except OSError as error:
        raise FileError(path, expected="a file of weights", found=error.strerror or str(error)) from error
    refuse_pointer(path, start)
    if is_torch_file(path, start):
        return read_torch_file(path)
    return read_safetensors(path)
