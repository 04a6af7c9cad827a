"""The lock of a run directory, held by processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from msplora_core.errors import RunDirectoryError
from msplora_core.runs.lock import is_locked, run_lock

HOLD = """
import sys
from pathlib import Path
from msplora_core.runs.lock import run_lock

with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its standard input ends or it is killed."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "run") as process:
        with pytest.raises(RunDirectoryError) as caught, run_lock(tmp_path / "run"):
            pass
        assert str(caught.value).startswith(
            f"{tmp_path}/run: expected a run that no other process trains, "
            f"found one that is trained by process {process.pid} on "
        )
        assert is_locked(tmp_path / "run")
        assert process.communicate()[0] == ""
    assert not is_locked(tmp_path / "run")
    with run_lock(tmp_path / "run"):
        pass


def test_a_lock_ends_with_a_killed_process(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        process.kill()
        process.wait()
    assert (tmp_path / "LOCK").is_file()
    assert not is_locked(tmp_path)
    with run_lock(tmp_path):
        pass


def test_the_folder_is_left_as_it_was(tmp_path: Path) -> None:
    with run_lock(tmp_path / "new" / "run"):
        assert (tmp_path / "new" / "run" / "LOCK").is_file()
    assert not (tmp_path / "new" / "run").exists()
    (tmp_path / "run.json").touch()
    with pytest.raises(ZeroDivisionError), run_lock(tmp_path):
        _ = 1 / 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "run.json"]


def test_a_lock_is_not_taken_twice_in_one_process(tmp_path: Path) -> None:
    with run_lock(tmp_path), pytest.raises(RunDirectoryError, match="trained by process"), run_lock(tmp_path):
        pass


def test_a_file_that_is_no_lock_of_ours(tmp_path: Path) -> None:
    (tmp_path / "LOCK").write_bytes(b"\xff{")
    with run_lock(tmp_path):
        pass
    (tmp_path / "LOCK").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunDirectoryError, match="expected a file that can be locked"), run_lock(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()
