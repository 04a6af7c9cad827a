"""A cache of left singular vectors of base weights, for further adapters on the same base model."""

from __future__ import annotations

import contextlib
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from msplora_analysis.kernels.intruders import LeftBasis, left_basis
from msplora_core.errors import FileError
from msplora_core.storage.atomic import write_atomically
from msplora_core.storage.safetensors_file import read_safetensors

LARGEST = 4 * 2**30
"""Largest size of the cache in bytes; the least recently used files are deleted first."""

_VERSION = b"left-basis-2"


def cache_folder() -> Path:
    """Return the folder of the cache: `msplora/bases` in $XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msplora" / "bases"


def kept_basis(W: NDArray[Any]) -> tuple[LeftBasis, bool]:
    """Return the left basis of a weight, through the cache.

    Files are named by a hash of the weight's content, so that copies of a base model share them. If the folder cannot
    be written, or a file is damaged, the basis is computed.

    Args:
        W: (out, in) base weight.

    Returns:
        The basis, and whether it came from the cache.
    """
    content = np.ascontiguousarray(W)
    name = blake2b(_VERSION + f"{W.shape}{W.dtype.str}".encode() + content.data, digest_size=16).hexdigest()
    path = cache_folder() / f"{name}.safetensors"
    found = _read(path, W.shape)
    if found is not None:
        return found, True
    basis = left_basis(W)
    data = save({"U": np.ascontiguousarray(basis.U), "squares": basis.squares})
    with contextlib.suppress(OSError, FileError):
        if len(data) <= LARGEST:
            _make_room(path.parent, len(data))
            write_atomically(path, data)
    return basis, False


def _read(path: Path, shape: tuple[int, ...]) -> LeftBasis | None:
    """A cached basis; None if there is none, or it is damaged."""
    if not path.is_file():
        return None
    try:
        tensors = read_safetensors(path).tensors
        U, squares = tensors["U"].read(), tensors["squares"].read()
        os.utime(path)
    except (FileError, KeyError, OSError):
        return None
    size = min(shape)
    return LeftBasis(U, squares) if U.shape == (shape[0], size) and squares.shape == (size,) else None


def _make_room(folder: Path, size: int) -> None:
    """Delete the least recently used files until `size` bytes fit."""
    if not folder.is_dir():
        return
    files = sorted((file.stat().st_mtime, file.stat().st_size, file) for file in folder.glob("*.safetensors"))
    used = sum(bytes_ for _, bytes_, _ in files)
    for _, bytes_, file in files:
        if used + size <= LARGEST:
            return
        file.unlink(missing_ok=True)
        used -= bytes_
