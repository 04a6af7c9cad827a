"""Files in untrusted folders: each must lie in its folder, be a regular file and not exceed a size."""

from __future__ import annotations

import os
from pathlib import Path

from msplora_core.errors import FileError

_POINTER = b"version https://git-lfs"


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file in a folder, if it stays inside the folder when links are followed.

    The hub's cache is an exception: its snapshots are links to the `blobs` folder beside them.

    Args:
        folder: the folder that the user named; may itself be a link.
        name: of the file, relative to the folder.

    Raises:
        FileError: if it leads out of the folder.
    """
    path = folder / name
    if name == path.name != ".." and not path.is_symlink():  # resolving takes as long as reading a small file
        return path
    try:
        root, target = folder.resolve(), path.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise FileError(path, expected=f"a file in {folder}", found=str(error)) from error
    cache = root.parent.parent
    if root.parent.name == "snapshots" and (cache / "blobs").is_dir() and target.is_relative_to(cache / "blobs"):
        return path
    if not target.is_relative_to(root):
        raise FileError(path, expected=f"a file in {folder}", found="a path outside it", hint="copy it in")
    return path


def first_present(folder: Path, *names: str) -> Path | None:
    """Return the first of the named files that a folder has; None if it has none.

    Raises:
        FileError: if that file leads out of the folder.
    """
    for name in names:
        if (folder / name).is_file() or (folder / name).is_symlink():
            return inside(folder, name)
    return None


def refuse_pointer(path: Path, start: bytes) -> None:
    """Refuse a Git LFS pointer, which stands for a file that was not fetched.

    Raises:
        FileError: if it is such a pointer.
    """
    if len(start) >= 8 and _POINTER.startswith(start[: len(_POINTER)]):
        raise FileError(
            path, expected="the file itself", found="a Git LFS pointer to it", hint="fetch it with git lfs pull"
        )


def check_file(path: Path, expected: str) -> None:
    """Refuse a path that is not a regular file: a folder, or a FIFO, which would block.

    Raises:
        FileError: unless it is a file.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "a FIFO or device" if path.exists() else "nothing there"
        raise FileError(path, expected=expected, found=found)


def read_file(path: Path, expected: str, largest: int) -> bytes:
    """Return the content of a regular file of limited size.

    Args:
        path: the file.
        expected: what it should be, for the error.
        largest: maximum size in bytes.

    Raises:
        FileError: if it is not a regular file, too large, or cannot be read.
    """
    check_file(path, expected)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(size) if size <= largest else b""
    except OSError as error:
        raise FileError(path, expected=expected, found=error.strerror or str(error)) from error
    if size > largest:
        raise FileError(path, expected=f"at most {largest} bytes", found=size)
    refuse_pointer(path, content[: len(_POINTER)])
    return content
