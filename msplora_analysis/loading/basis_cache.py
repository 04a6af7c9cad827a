"""Left singular vectors of base weights, kept in the user's cache for the next adapter on the same base."""

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
"""Bytes kept in all; the bases that were not used for longest go first."""

_VERSION = b"left-basis-1"


def cache_folder() -> Path:
    """Return the folder of kept bases: `msplora/bases` in $XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msplora" / "bases"


def kept_basis(W: NDArray[Any]) -> tuple[LeftBasis, bool]:
    """Return the left basis of a weight in float32, from the cache where it is there, and keep it where it is not.

    Files are found by a hash of the weight's content, so that copies and other adapters on the same base find them. A
    folder that cannot be written to, or a damaged file, costs time only.

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
    U, squares = left_basis(W)
    basis = LeftBasis(U.astype(np.float32), squares)
    data = save({"U": np.ascontiguousarray(basis.U), "squares": squares})
    with contextlib.suppress(OSError, FileError):
        if len(data) <= LARGEST:
            _make_room(path.parent, len(data))
            write_atomically(path, data)
    return basis, False


def _read(path: Path, shape: tuple[int, ...]) -> LeftBasis | None:
    """A kept basis; None if there is none, or one that is damaged."""
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
    """Remove the files that were not used for longest until so many bytes fit."""
    if not folder.is_dir():
        return
    files = sorted((file.stat().st_mtime, file.stat().st_size, file) for file in folder.glob("*.safetensors"))
    used = sum(bytes_ for _, bytes_, _ in files)
    for _, bytes_, file in files:
        if used + size <= LARGEST:
            return
        file.unlink(missing_ok=True)
        used -= bytes_
