"""Find recognised files and folders at any depth."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from msplora_core.errors import FileError
from msplora_core.storage.folder import inside
from msplora_core.wording import natural_order

Opened = TypeVar("Opened")
Recogniser = Callable[[Path], Callable[[], Opened] | None]


def _never(path: Path) -> bool:
    return False


def walk(
    root: Path,
    recognise: Recogniser[Opened],
    *,
    follow: Callable[[Path], bool] = _never,
    skip: Callable[[Path], bool] = _never,
) -> Iterator[tuple[Path, Callable[[], Opened]]]:
    """Yield the recognised files and folders at or below a path, in natural order.

    A recognised folder is not searched further, hidden entries are left out, and a link is followed only if its
    target is itself recognised.

    Args:
        root: a file or folder.
        recognise: returns a function that opens a path, or None if the path is not recognised.
        follow: whether a link may lead out of `root`; otherwise opening it raises a `FileError`.
        skip: which folders below `root` are left out.

    Raises:
        FileError: if a folder cannot be listed.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("run-10.txt", "run-9.txt"):
        ...     _ = (root / name).write_text(name)
        >>> files = walk(root, lambda path: path.read_text if path.suffix == ".txt" else None)
        >>> [opened() for _, opened in files]
        ['run-9.txt', 'run-10.txt']
    """
    opened = recognise(root)
    if opened is not None:
        yield root, opened
    elif root.is_dir():
        for path in _entries(root):
            yield from _walk(path, root, recognise, follow, skip)


def _walk(
    path: Path,
    root: Path,
    recognise: Recogniser[Opened],
    follow: Callable[[Path], bool],
    skip: Callable[[Path], bool],
) -> Iterator[tuple[Path, Callable[[], Opened]]]:
    if skip(path):
        return
    opened, link = recognise(path), path.is_symlink()
    if opened is not None:
        yield path, within(root, path, opened) if link and not follow(path) else opened
    elif not link and path.is_dir():
        for entry in _entries(path):
            yield from _walk(entry, root, recognise, follow, skip)


def _entries(folder: Path) -> list[Path]:
    try:
        names = [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise FileError(folder, expected="a folder that can be read", found=str(error)) from error
    return [folder / name for name in sorted(names, key=natural_order)]


def within(folder: Path, link: Path, opened: Callable[[], Opened]) -> Callable[[], Opened]:
    """Return a function that opens a link's target, or raises if the target lies outside the folder.

    Example:
        >>> within(Path("."), Path("adapter.safetensors"), lambda: "opened")()
        'opened'
    """

    def checked() -> Opened:
        inside(folder, str(link.relative_to(folder)))
        return opened()

    return checked
