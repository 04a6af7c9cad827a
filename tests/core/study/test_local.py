"""The launcher for this machine, with workers that only pretend to train."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest

import msplora_core.study.local as local
from msplora_core.runs.lock import run_lock
from msplora_core.study.entries import Failure, failure_of, log_path
from msplora_core.study.launcher import Event
from msplora_core.study.worker import train_one
from msplora_core.training import RunConfig

PRETENDER = """\
import json, os, signal, sys, time
from pathlib import Path
for line in sys.stdin:
    run = json.loads(line)
    if run["seed"] == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    Path(run["out"], f"threads-{run['seed']}").write_text(os.environ["OMP_NUM_THREADS"] + f" {os.getpid()}")
    while run["seed"] == 99:
        time.sleep(0.1)
    for step in (1, 2):
        print(json.dumps({"kind": "step", "step": step, "steps": 2}), flush=True)
    if run["seed"] == 7:
        print(json.dumps({"kind": "failed", "error": "bad luck"}), flush=True)
    else:
        print(json.dumps({"kind": "epoch", "epoch": 1, "metric": "accuracy", "score": 0.5}), flush=True)
        print(json.dumps({"kind": "finished"}), flush=True)
"""


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Runs with these seeds, launched: run seed -> the kinds of its events."""
    script = tmp_path / "pretender.py"
    script.write_text(PRETENDER)
    monkeypatch.setattr(local, "_COMMAND", (sys.executable, str(script)))
    monkeypatch.setattr(local, "cores", lambda: 4)

    def launch(seeds: list[int], jobs: int) -> dict[int, list[str]]:
        events: defaultdict[int, list[str]] = defaultdict(list)

        def watch(event: Event) -> None:
            events[event.config.seed].append(event.kind + (f": {event.error}" if event.error else ""))

        configs = [RunConfig(task="mrpc", seed=seed, out=tmp_path) for seed in seeds]
        local.LocalLauncher(jobs)(configs, watch)
        return dict(events)

    return launch


WHOLE = ["started", "step", "step", "epoch", "finished"]


def test_every_run_is_trained_once_with_its_share_of_the_cores(pretend, tmp_path: Path) -> None:
    assert pretend([0, 1, 2, 3, 4], 2) == dict.fromkeys(range(5), WHOLE)
    said = [(tmp_path / f"threads-{seed}").read_text().split() for seed in range(5)]
    assert {threads for threads, _ in said} == {"2"}
    assert len({worker for _, worker in said}) <= 2
    assert pretend([5], 2)[5] == WHOLE
    assert (tmp_path / "threads-5").read_text().split()[0] == "4"


def test_a_run_that_fails_and_a_worker_that_is_killed_do_not_stop_the_others(pretend, tmp_path: Path) -> None:
    events = pretend([0, 7, 13, 1, 2], 1)
    assert {seed: events[seed] for seed in (0, 1, 2)} == dict.fromkeys((0, 1, 2), WHOLE)
    assert events[7] == ["started", "step", "step", "failed: bad luck"]
    assert events[13][1].startswith("failed: its process was killed by SIGKILL; ")
    killed = RunConfig(task="mrpc", seed=13, out=tmp_path)
    assert "its process was killed by SIGKILL" in str(failure_of(killed))


def test_it_works_where_an_event_loop_runs_as_in_a_notebook(pretend) -> None:
    async def cell() -> dict[int, list[str]]:
        return pretend([0, 7, 1], 2)

    assert asyncio.run(cell()) == {0: WHOLE, 7: ["started", "step", "step", "failed: bad luck"], 1: WHOLE}


LAUNCH = """\
import asyncio
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process started in the background lacks
import msplora_core.study.local as local
from msplora_core.training import RunConfig
local._COMMAND = (sys.executable, sys.argv[1])
async def cell():
    local.LocalLauncher(2)([RunConfig(task="mrpc", seed=99, out=sys.argv[2])], lambda event: print("-", flush=True))
try:
    if sys.argv[3] == "notebook":
        asyncio.new_event_loop().run_until_complete(cell())
    else:
        cell().send(None)
except KeyboardInterrupt:
    sys.exit(77)
"""


@pytest.mark.parametrize(
    ("number", "where"),
    [(signal.SIGTERM, "script"), (signal.SIGINT, "script"), (signal.SIGKILL, "script"), (signal.SIGINT, "notebook")],
)
def test_workers_end_with_their_launcher(pretend, tmp_path: Path, number: int, where: str) -> None:
    script = tmp_path / "launch.py"
    script.write_text(LAUNCH)
    # A worker that hears of the end of its input, as the real one does.
    listening = PRETENDER.replace("for line in sys.stdin:", "for line in [sys.stdin.readline()]:").replace(
        "time.sleep(0.1)", "sys.exit() if not sys.stdin.readline() else None"
    )
    (tmp_path / "listening.py").write_text(listening)
    command = [sys.executable, str(script), str(tmp_path / "listening.py"), str(tmp_path), where]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        launcher.stdout.readline()
        while not (said := tmp_path / "threads-99").exists() or len(said.read_text().split()) < 2:
            assert launcher.poll() is None
        worker = int(said.read_text().split()[1])
        launcher.send_signal(number)
        launcher.wait()
        assert launcher.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 77)
    with suppress(FileNotFoundError, ProcessLookupError):  # until it is gone, however busy the machine
        while Path(f"/proc/{worker}/stat").read_text().split()[2] != "Z":
            time.sleep(0.05)


def test_a_failure_is_one_line_and_the_log_has_the_traceback(tmp_path: Path) -> None:
    config = RunConfig(task="mrpc", data_dir=tmp_path / "nowhere", out=tmp_path)
    end = train_one(config)
    error = end["error"]
    assert end["kind"] == "failed"
    assert error.startswith(f"{tmp_path}/nowhere/MRPC/train.tsv: expected a data file of MRPC, found no such file")
    assert failure_of(config) == Failure(error)
    assert "Traceback" in log_path(config).read_text()


def test_a_reason_of_any_length_reaches_the_launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It reads lines of at most 64 KiB."""
    monkeypatch.setattr("msplora_core.study.worker._train", Mock(side_effect=ValueError("x " * 100_000)))
    end = train_one(RunConfig(task="mrpc", out=tmp_path))
    assert end["error"].startswith("ValueError: x x x")
    assert len(end["error"]) == 2000
    worker = f"import json, sys; sys.stdin.readline(); print({json.dumps(end)!r}); sys.stdin.readline()"
    monkeypatch.setattr(local, "_COMMAND", (sys.executable, "-c", worker))
    events: list[Event] = []
    local.LocalLauncher(1)([RunConfig(task="mrpc", out=tmp_path)], events.append)
    assert [event.kind for event in events] == ["started", "failed"]


def test_what_another_process_trains_is_left_to_it(pretend, tmp_path: Path) -> None:
    config = RunConfig(task="acceptability", seed=1, out=tmp_path)
    with run_lock(config.path):
        assert train_one(config) == {"kind": "taken"}  # taken between the launcher's look and the worker's start
    assert failure_of(config) is None
    assert log_path(config).read_text() == ""
    with run_lock(RunConfig(task="mrpc", seed=1, out=tmp_path).path):
        assert pretend([0, 1, 2], 1) == {0: WHOLE, 1: ["taken"], 2: WHOLE}
