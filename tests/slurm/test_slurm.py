"""A study on a real Slurm: see one-node.sh beside this file for a cluster of one machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from msplora_core.runs import RunDirectory

answers = shutil.which("sbatch") and subprocess.run(["sinfo", "--noheader"], capture_output=True).stdout
pytestmark = pytest.mark.skipif(not answers, reason="no Slurm here: sh tests/slurm/one-node.sh sets one up")

STUDY = """\
tasks = ["acceptability"]
seeds = [0, 1]
[settings]
model = "{model}"
epochs = 6
batch_size = 8
max_train_examples = 64
[[methods]]
method = "lora"
rank = 2
"""


def start(path: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "msplora_cli", "study", "run", str(path), "--jobs", "2", *options]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def spectra(out: Path) -> dict[str, list[dict[str, np.ndarray]]]:
    runs = {path.parent.name: RunDirectory(path.parent) for path in out.glob("*/run.json")}
    return {name: [dict(snapshot.spectra) for snapshot in run.snapshots()] for name, run in runs.items()}


def first_epoch_finished(out: Path, launcher: subprocess.Popen[str]) -> Path:
    """Wait for the second epoch's snapshot, which follows the first one's checkpoint; return the first one's."""
    snapshots = out / "acceptability-lora-r2-seed0" / "snapshots"
    while not (snapshots / "epoch-0002.safetensors").is_file():
        assert launcher.poll() is None
        time.sleep(0.1)
    return snapshots / "epoch-0001.safetensors"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    from transformers import AutoTokenizer, BertConfig, BertModel, set_seed

    from msplora_core.training.models import packaged_model

    set_seed(0)
    model = tmp_path / "tiny-bert"
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=30522, **size)).save_pretrained(model)
    AutoTokenizer.from_pretrained(packaged_model()).save_pretrained(model)
    path = tmp_path / "study.toml"
    path.write_text(STUDY.format(model=model))
    return path


def test_cancelled_killed_and_started_again_it_ends_as_an_undisturbed_local_run(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "slurm"
    options = ("--out", str(out), "--launcher", "slurm", "--slurm", "time=30:00")
    first = start(study, *options)
    snapshot = first_epoch_finished(out, first)
    ids = json.loads((out / "logs" / "jobs.json").read_text())
    first.send_signal(signal.SIGKILL)  # the launcher: its jobs go on
    subprocess.run(["scancel", ids[str(out / "acceptability-lora-r2-seed0")]], check=True)
    first.communicate()
    done = snapshot.read_bytes()

    second = start(study, *options)
    said = second.communicate()[1]
    if second.returncode:  # the cancelled job was still there when it began, and then left the queue
        assert "left the queue before it was finished" in said
        third = start(study, *options)
        said = third.communicate()[1]
        assert third.returncode == 0, said
    assert snapshot.read_bytes() == done  # no finished epoch is trained again
    assert list(out.joinpath("logs").glob("*_log.out"))

    local = start(study, "--out", str(tmp_path / "local"))
    assert local.wait() == 0
    expected = spectra(tmp_path / "local")
    assert set(expected) == {f"acceptability-lora-r2-seed{seed}" for seed in (0, 1)}
    found = spectra(out)
    for name, epochs in expected.items():
        assert len(epochs) == 7
        for one, other in zip(found[name], epochs, strict=True):
            assert one.keys() == other.keys()
            for key in one:
                np.testing.assert_array_equal(one[key], other[key])


def test_preempted_jobs_are_requeued_and_lose_no_epoch(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "slurm"
    launcher = start(study, "--out", str(out), "--launcher", "slurm")
    snapshot = first_epoch_finished(out, launcher)
    done = snapshot.read_bytes()
    urgent = ["sbatch", "--partition=urgent", "--exclusive", "--wait", "--output=/dev/null", "--wrap=sleep 5"]
    subprocess.run(urgent, check=True)
    said = launcher.communicate()[1]
    assert launcher.returncode == 0, said
    assert snapshot.read_bytes() == done
    logs = "".join(path.read_text() for path in out.joinpath("logs").glob("*_log.out"))
    assert "PREEMPTION" in logs
    assert {name: len(epochs) for name, epochs in spectra(out).items()} == dict.fromkeys(spectra(out), 7)


def test_what_slurm_refuses_is_one_line(study: Path, tmp_path: Path) -> None:
    launcher = start(study, "--launcher", "slurm", "--slurm", "partition=nowhere")
    said = launcher.communicate()[1]
    assert launcher.returncode == 1
    assert said.splitlines()[-1].startswith("error: Slurm did not take the jobs: ")
    assert "nvalid partition" in said.splitlines()[-1]
