"""Several processes of one run, on the CPU with gloo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from msplora_core.errors import ParameterError
from msplora_core.runs import RunDirectory
from msplora_core.training.data.batches import LengthBatches
from msplora_core.training.processes import is_lost_connection, is_main_process
from msplora_core.training.run import _check_shares

NAME = "cola-msplora-8-4-2-seed0"
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def options(out: Path, model: Path, data: Path, epochs: int) -> list[str]:
    return [
        *("-m", "msplora_cli", "train", "--task", "cola", "--data-dir", str(data), "--out", str(out)),
        *("--model", str(model), "--dropout", "0", "--batch-size", "7", "--epochs", str(epochs)),
    ]


def test_two_processes_train_as_one(tiny_model: Path, cola_files: Path, tmp_path: Path) -> None:
    one = [sys.executable, *options(tmp_path / "one", tiny_model, cola_files, 2)]
    two = [*LAUNCH, *options(tmp_path / "two", tiny_model, cola_files, 2)]
    done = [
        subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240) for command in (one, two)
    ]
    assert [result.returncode for result in done] == [0, 0], done[1].stderr
    assert done[1].stdout == f"{tmp_path}/two/{NAME}\n"
    assert done[1].stderr.count("epoch 2/2") == 1
    alone, shared = (RunDirectory(tmp_path / name / NAME) for name in ("one", "two"))
    assert [event["step"] for event in alone.read_metrics()] == [event["step"] for event in shared.read_metrics()]
    for name in ("loss", "learning_rate", "grad_norm", "eval_loss", "eval_matthews"):
        series = [[event[name] for event in run.read_metrics() if name in event] for run in (alone, shared)]
        assert len(series[0]) == 2
        np.testing.assert_allclose(series[0], series[1], rtol=1e-4)
    for left, right in zip(alone.snapshots(), shared.snapshots(), strict=True):
        for key in left.spectra:
            np.testing.assert_allclose(left.spectra[key], right.spectra[key], rtol=1e-2, atol=1e-6)


def test_a_killed_worker_ends_the_run(tiny_model: Path, cola_files: Path, tmp_path: Path) -> None:
    command = [*LAUNCH, *options(tmp_path, tiny_model, cola_files, 3000)]
    run = RunDirectory(tmp_path / NAME)
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as launcher:
        try:
            deadline = time.monotonic() + 120
            while not run.snapshot_path(2).is_file():
                assert launcher.poll() is None, launcher.stderr.read() if launcher.stderr else ""
                assert time.monotonic() < deadline
                time.sleep(0.1)
            workers = psutil.Process(launcher.pid).children()
            next(worker for worker in workers if worker.environ()["RANK"] == "1").send_signal(signal.SIGKILL)
            _, said = launcher.communicate(timeout=60)
        finally:
            launcher.kill()
    assert launcher.returncode != 0
    assert "another process of the run ended, so this one stops at step" in said
    assert run.read_record().finished is None
    epochs = [snapshot.epoch for snapshot in run.snapshots()]
    assert epochs == list(range(len(epochs)))
    assert len(epochs) > 2


def test_every_process_needs_an_example() -> None:
    with pytest.raises(ParameterError) as caught:
        _check_shares(LengthBatches([3, 4, 5], 1, 0, 0, 2), 1)
    assert str(caught.value) == (
        "batch_size: expected batches of at least 2 examples, one a process, found 1 of 3 examples"
    )


def test_main_process_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_main_process()
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()


def test_lost_connections_are_told_from_other_errors() -> None:
    assert is_lost_connection(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]"))
    assert not is_lost_connection(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
