"""Folders from strangers: a name in one may lead to a file in it, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from msplora_core.errors import AdapterFileError


def inside(folder: Path, name: str) -> Path:
    """The path of a file in a folder, if it lies there also when links are followed.

    The hub's cache is the exception that it needs: its snapshots are links into the `blobs` beside them.

    Args:
        folder: what the user named; may itself be a link.
        name: of the file, relative to the folder.

    Raises:
        AdapterFileError: if it leads out of the folder.
    """
    path = folder / name
    root, target = folder.resolve(), path.resolve()
    cache = root.parent.parent
    if root.parent.name == "snapshots" and (cache / "blobs").is_dir() and target.is_relative_to(cache / "blobs"):
        return path
    if not target.is_relative_to(root):
        raise AdapterFileError(path, expected=f"a file in {folder}", found="a way out of it", hint="copy it in")
    return path


def first_present(folder: Path, *names: str) -> Path | None:
    """The first of the named files that a folder has; None where it has none.

    Raises:
        AdapterFileError: if that file leads out of the folder.
    """
    for name in names:
        if (folder / name).is_file() or (folder / name).is_symlink():
            return inside(folder, name)
    return None


def check_file(path: Path, expected: str) -> None:
    """Refuse what is no plain file: a folder, or a pipe that would be waited for without end.

    Raises:
        AdapterFileError: unless it is a file.
    """
    if not path.is_file():
        raise AdapterFileError(path, expected=expected, found="no file" if path.exists() else "nothing there")
