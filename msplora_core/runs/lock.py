"""The lock of a run directory, so that one process at a time writes a run."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msplora_core.errors import LockedRunError, RunDirectoryError

NAME = "LOCK"

_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Do not follow links, and do not block on a FIFO."""

_TRIES, _PAUSE = 5, 0.05
"""Tries, and seconds between them: `is_locked` of another process holds the lock for an instant, too."""


@contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a run directory, so that no other process trains the same run.

    The lock is an operating system's `flock` on the file `LOCK`, so it ends with the process even if that is killed.
    The file names the holder for messages only and is deleted on release; a file that is left over locks nothing.
    A system without `flock` has no locks.

    Args:
        path: the run directory; created if missing, and removed again if it stays empty.

    Raises:
        LockedRunError: if another process holds the lock.
        RunDirectoryError: if the folder cannot be made, or its file not locked.
    """
    made = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(path, expected="a folder", found=error.strerror or error) from error
    file = _acquire(path)
    try:
        yield
    finally:
        (path / NAME).unlink(missing_ok=True)  # before the release, so that no other process locks this file
        os.close(file)
        if made and not any(path.iterdir()):
            path.rmdir()


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a run directory."""
    try:
        file = os.open(path / NAME, os.O_RDONLY | _PLAIN)
    except OSError:
        return False
    try:
        _lock(file, shared=True)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _acquire(path: Path) -> int:
    """The descriptor of the locked file."""
    tries = 0
    while True:
        file = _open(path / NAME)
        try:
            _lock(file)
        except BlockingIOError:
            tries += 1
            if tries < _TRIES:
                os.close(file)
                time.sleep(_PAUSE)
                continue
            holder = _holder(os.read(file, 1000))
            os.close(file)
            raise LockedRunError(
                path,
                expected="a run that no other process trains",
                found=f"one that is trained by {holder}",
                hint="wait until it ends, or choose another folder",
            ) from None
        if _is_current(path, file):
            break
        os.close(file)  # its last holder has deleted it meanwhile
    os.truncate(file, 0)
    os.write(file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
    return file


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | _PLAIN, 0o644)
    except OSError as error:
        raise RunDirectoryError(path, expected="a file that can be locked", found=error.strerror or error) from error


def _lock(file: int, *, shared: bool = False) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _is_current(path: Path, file: int) -> bool:
    try:
        return os.path.samestat((path / NAME).stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _holder(content: bytes) -> str:
    try:
        holder = json.loads(content)
        return f"process {int(holder['pid'])} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
