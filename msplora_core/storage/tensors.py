"""Tensors on disk: name, shape and dtype are known, the values are read on demand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import FileError
from msplora_core.storage.json_file import LONGEST_NAME, is_printable_name

MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file, not read yet.

    Args:
        path: the file.
        name: its key there.
        shape: as stated in the file, checked against the file's size.
        dtype: in words: `float32`, `bfloat16`.
        load: reads the values.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], NDArray[Any]] = field(repr=False, compare=False)

    def read(self) -> NDArray[Any]:
        """Return its values; types that numpy lacks become float32.

        Raises:
            FileError: if the tensor is empty, not of a floating-point type, or holds NaN or infinity.
        """
        if not math.prod(self.shape):
            raise self.error("a tensor with values", f"an empty one of shape {list(self.shape)}")
        if "float" not in self.dtype:
            raise self.error("floating-point numbers", self.dtype)
        values = self.load()
        # The sum is not finite if a value is not; checking each value is slower.
        with np.errstate(over="ignore", invalid="ignore"):
            total = values.sum(dtype=np.float32 if values.itemsize < 4 else None)
        if not np.isfinite(total) and not np.isfinite(values).all():
            raise self.error("finite numbers", "NaN or infinity")
        return values

    def number(self) -> float:
        """Return the value of a tensor that holds one real number.

        Raises:
            FileError: if it holds several values, another type, or a value that is not finite.
        """
        if math.prod(self.shape) != 1:
            raise self.error("one number", f"a tensor of shape {list(self.shape)}")
        if not self.dtype.startswith(("float", "bfloat", "int", "uint", "bool")):
            raise self.error("a real number", self.dtype)
        value = float(self.load().reshape(()))
        if not math.isfinite(value):
            raise self.error("a finite number", value)
        return value

    def error(self, expected: str, found: object, hint: str = "") -> FileError:
        """Return an error that names the file and this tensor."""
        return FileError(self.path, key=self.name, expected=expected, found=found, hint=hint)


@dataclass(frozen=True)
class TensorFile:
    """The tensors of one file, or of several that belong together.

    Args:
        path: the file, or the index of a model in several.
        tensors: by name, in the order of the file.
        metadata: of the file, strings by name.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)


def check_name(path: Path, name: object) -> str:
    """Return a tensor's name, if it is valid.

    Raises:
        FileError: unless it is a printable string of 1 to `LONGEST_NAME` characters.
    """
    if not isinstance(name, str) or not is_printable_name(name):
        raise FileError(
            path, expected=f"tensor names of 1 to {LONGEST_NAME} printable characters", found=repr(name)[:80]
        )
    return name
