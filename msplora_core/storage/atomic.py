"""Writing a file so that it is complete or absent."""

from __future__ import annotations

import os
from pathlib import Path

from msplora_core.errors import FileError


def write_atomically(path: Path, data: bytes) -> None:
    """Write a temporary file and rename it, so that a kill at any moment leaves the old file or the new.

    Args:
        path: the file; its folder is created if missing.
        data: the whole content.

    Raises:
        FileError: if it cannot be written: the disk is full, the folder is read-only.
    """
    beside = path.with_name(f".{path.stem[:100]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritten(path, error) from error


def append_line(path: Path, line: str) -> None:
    """Append a line to a file and wait until it is on the disk. A last line without line break is completed first.

    Raises:
        FileError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else f"\n{line}"
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> FileError:
    return FileError(path, expected="a file that can be written", found=error.strerror or str(error))
