"""Work in several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep

import pytest
from matplotlib.figure import Figure

from msplora_analysis.loading.parallel import beside, in_processes, while_made
from msplora_analysis.report.pictures import pictures
from msplora_core.errors import MSPLoraError, ParameterError

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only"),
    # other tests leave threads of torch in this process; commands that fork have none (Python 3.12 and later warn)
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)  # with it nothing is forked


def _touched(path: Path) -> str:
    path.touch()
    return path.name


def _appeared(path: Path) -> bool:
    waits = 0
    while waits < 3000 and not path.exists():
        sleep(0.01)
        waits += 1
    return path.exists()


def test_processes_begin_before_their_results_are_wanted(tmp_path: Path) -> None:
    found = in_processes(_touched, [tmp_path / "first", tmp_path / "second"], n_jobs=2)
    assert _appeared(tmp_path / "second")
    assert list(found) == ["first", "second"]


def test_items_are_worked_on_while_others_are_made(tmp_path: Path) -> None:
    def made() -> Iterator[Path]:
        yield tmp_path / "first"
        yield tmp_path / ("second" if _appeared(tmp_path / "first") else "the first was not begun")

    assert list(while_made(_touched, made(), n_jobs=2)) == ["first", "second"]


def test_an_error_of_another_process_arrives(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(while_made(_touched, [tmp_path / "missing" / "file"], n_jobs=2))


def _killed(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("work", [
    lambda: list(in_processes(_killed, range(4), n_jobs=2)),
    lambda: list(while_made(_killed, range(4), n_jobs=2)),
    lambda: beside(lambda: None, lambda: _killed(None)),
])  # fmt: skip
def test_a_killed_process_is_one_line(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with pytest.raises(MSPLoraError, match="was killed, probably for lack of memory: free some, or work in one"):
        work()


def test_pictures_saved_by_other_processes_are_the_same() -> None:
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([1, 2], label=r"$\sigma_1$")
    kinds = ("png", "pdf")
    assert dict(pictures([("one", figure)], 2, kinds)) == dict(pictures([("one", figure)], 1, kinds))


def test_work_is_done_beside_other_work_and_its_warnings_and_errors_arrive() -> None:
    def warned() -> tuple[int, set[str]]:
        warnings.warn("seen", UserWarning, stacklevel=1)
        return os.getpid(), {"result"}

    def wrong() -> None:
        raise ParameterError("n", expected="1", found=2)

    done = list[int]()
    with pytest.warns(UserWarning, match="seen"):
        process, result = beside(lambda: done.append(os.getpid()), warned)
    assert (done, result) == ([os.getpid()], {"result"})
    assert (process == os.getpid()) == (len(os.sched_getaffinity(0)) == 1)
    with pytest.raises(ParameterError, match="n: expected 1, found 2"):
        beside(lambda: None, wrong)


def _in_two_processes(other: str, work: str, handler: str = "default_int_handler") -> subprocess.Popen[str]:
    code = f"""
import os, signal, time
from msplora_analysis.loading.parallel import beside
os.sched_getaffinity = lambda _: {{0, 1}}
signal.signal(signal.SIGINT, signal.{handler})  # a process started in the background ignores it
beside(lambda: {other}, lambda: {work})
"""
    output = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=output, stderr=output, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def test_a_process_does_not_outlive_the_one_that_started_it() -> None:
    process = _in_two_processes("time.sleep(600)", "(print('begun', flush=True), time.sleep(600))")
    process.kill()
    process.communicate(timeout=60)  # returns when no process can write any more


@pytest.mark.parametrize("work", ["time.sleep(600)", "(print('begun', flush=True), time.sleep(600))"])
def test_an_interrupted_process_says_nothing(work: str) -> None:
    process = _in_two_processes("(print('begun', flush=True), time.sleep(600))", work)
    if "begun" in work:  # interrupted in its work, else while it begins
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors.count("Traceback") == 1  # of the process that started it


def test_work_in_the_background_is_not_interrupted() -> None:
    wait = "(print('begun', flush=True), time.sleep(1), print('done', flush=True))"
    process = _in_two_processes(wait, wait, handler="SIG_IGN")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60) == ("done\ndone\n", "")


def test_an_interrupt_while_a_process_begins_is_not_lost() -> None:
    code = """
import os, signal, time
from msplora_analysis.loading.parallel import beside
os.sched_getaffinity = lambda _: {0, 1}
signal.signal(signal.SIGINT, signal.default_int_handler)
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGINT))
beside(lambda: None, lambda: time.sleep(600))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.stderr.count("Traceback") == 1
    assert "MSPLoraError: a process of this work was killed" in ended.stderr
