"""Several processes of one run, on the CPU with gloo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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
        "--interference",
    ]


def test_two_processes_train_as_one(tiny_model: Path, cola_files: Path, tmp_path: Path) -> None:
    one = [sys.executable, *options(tmp_path / "one", tiny_model, cola_files, 2)]
    two = [*LAUNCH, *options(tmp_path / "two", tiny_model, cola_files, 2)]
    done = [subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True) for command in (one, two)]
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
        assert left.between_layers.keys() == right.between_layers.keys()
        for key in left.between_scales:
            np.testing.assert_allclose(left.between_scales[key], right.between_scales[key], rtol=1e-2, atol=1e-3)
        for key in left.spectra:
            np.testing.assert_allclose(left.spectra[key], right.spectra[key], rtol=1e-2, atol=1e-6)


def test_a_killed_worker_ends_the_run(tiny_model: Path, cola_files: Path, tmp_path: Path) -> None:
    """The other one sees the lost connection or the launcher's signal first: it says the same of both."""
    command = [*LAUNCH, *options(tmp_path, tiny_model, cola_files, 3000)]
    run = RunDirectory(tmp_path / NAME)
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as launcher:
        try:
            assert launcher.stderr is not None
            assert any("epoch    2/3000" in line for line in launcher.stderr), "it ended before its second epoch"
            workers = psutil.Process(launcher.pid).children()
            next(worker for worker in workers if worker.environ()["RANK"] == "1").send_signal(signal.SIGKILL)
            said = launcher.stderr.read()
            launcher.wait()
        finally:
            launcher.kill()
    assert launcher.returncode != 0
    assert (
        f"error: {run.path}: ended by a signal to terminate, or because another process of the run ended; "
        "its records are kept, and --resume continues from there\n"
    ) in said
    assert run.read_record().finished is None
    epochs = [snapshot.epoch for snapshot in run.snapshots()]
    assert epochs == list(range(len(epochs)))
    assert len(epochs) > 2


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_signal_to_terminate_is_said_once_and_no_second_one_cuts_it_short(processes: str, tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from msplora_core.errors import TrainingError
from msplora_core.training.processes import told_when_terminated
try:
    with told_when_terminated(Path("runs/mine")):
        os.kill(os.getpid(), signal.SIGTERM)
except TrainingError as error:
    os.kill(os.getpid(), signal.SIGTERM)
    print(error)
    sys.exit(1)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env={**ENVIRONMENT, "WORLD_SIZE": processes}, capture_output=True, text=True
    )
    several = ", or because another process of the run ended" if processes == "2" else ""
    assert (done.returncode, done.stdout) == (
        1,
        f"runs/mine: ended by a signal to terminate{several}; "
        "its records are kept, and --resume continues from there\n",
    )


@pytest.mark.parametrize("then", ["pass", "raise ValueError('in a template')"])
def test_a_library_that_catches_errors_does_not_hide_the_signal(then: str) -> None:
    script = f"""
import os, signal
from pathlib import Path
from msplora_core.errors import TrainingError
from msplora_core.training.processes import told_when_terminated
try:
    with told_when_terminated(Path("runs/mine")):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception:
            {then}
        print("trains on")
except TrainingError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True)
    expected = "runs/mine: ended by a signal to terminate; its records are kept, and --resume continues from there"
    assert (done.returncode, done.stdout.splitlines()) == (0, [expected]), done.stderr


SHARDED = """
import sys, torch
from pathlib import Path
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import BertConfig, BertForSequenceClassification, TrainerControl, TrainerState, TrainingArguments
from msplora_core import MSPLoraConfig, SpectralSnapshotCallback
from msplora_core.adapter.factors import Factors

dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (2,))
tokens = torch.arange(12).view(4, 3)
shape = dict(hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8, vocab_size=12)
arguments = TrainingArguments(output_dir="theirs", use_cpu=True, report_to="none")
for config in (LoraConfig(r=2, target_modules=["query"]), MSPLoraConfig(ranks=(2, 1, 1), target_modules=["query"])):
    for sharded in (False, True):
        torch.manual_seed(0)
        base = BertForSequenceClassification(BertConfig(**shape, hidden_dropout_prob=0, attention_probs_dropout_prob=0))
        model = get_peft_model(base, config)
        if sharded:
            for module in model.modules():
                if isinstance(module, Factors):
                    fully_shard(module, mesh=mesh, reshard_after_forward=False)
            for layer in base.bert.encoder.layer:
                fully_shard(layer, mesh=mesh)
            fully_shard(model, mesh=mesh)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=100.0)
        run = Path(f"{config.peft_type.value.lower()}-{'sharded' if sharded else 'whole'}")
        callback = SpectralSnapshotCallback(run, every_n_steps=1)
        state, control = TrainerState(is_world_process_zero=dist.get_rank() == 0, epoch=0), TrainerControl()
        callback.on_train_begin(arguments, state, control, model=model)
        for step in range(1, 5):
            model(tokens, labels=torch.tensor([0, 1, 1, 0])).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            state.global_step, state.epoch = step, step / 2
            callback.on_step_end(arguments, state, control, model=model)
            if step % 2 == 0:
                callback.on_epoch_end(arguments, state, control, model=model)
        callback.on_train_end(arguments, state, control)
dist.destroy_process_group()
"""


def test_sharded_factors_are_recorded_whole(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SHARDED)
    done = subprocess.run([*LAUNCH, "script.py"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for method in ("lora", "msplora"):
        whole, sharded = (
            list(RunDirectory(tmp_path / f"{method}-{kind}").snapshots()) for kind in ("whole", "sharded")
        )
        assert [(snapshot.epoch, snapshot.step) for snapshot in sharded] == [(0, 0), (0.5, 1), (1, 2), (1.5, 3), (2, 4)]
        assert max(sigma[0] for sigma in sharded[-1].spectra.values()) > 0
        for one, other in zip(whole, sharded, strict=True):
            assert one.spectra.keys() == other.spectra.keys()
            for key, sigma in one.spectra.items():
                np.testing.assert_allclose(other.spectra[key], sigma, rtol=1e-3, atol=1e-6)


HALVES = """
import numpy as np, torch
import torch.distributed as dist
from peft import get_peft_model
from transformers import BertConfig, BertForSequenceClassification
from msplora_core import MSPLoraConfig
from msplora_core.training.interference import InterferenceRecorder

def gradients_of(*batches):
    torch.manual_seed(0)
    shape = dict(hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8, vocab_size=12)
    model = BertForSequenceClassification(BertConfig(**shape, hidden_dropout_prob=0, attention_probs_dropout_prob=0))
    config = MSPLoraConfig(ranks=(2, 1, 1), groups=2, target_modules=["query"], init_lora_weights=False)
    recorder = InterferenceRecorder(get_peft_model(model, config).train())
    recorder.watch()
    for tokens in batches:
        model(tokens, labels=torch.tensor([0, 1])).loss.backward()
    recorder.before_step()
    return recorder.between_layers()

halves = torch.arange(12).view(2, 2, 3)
whole, half = gradients_of(*halves), gradients_of(halves[0])
dist.init_process_group("gloo")
found = gradients_of(halves[dist.get_rank()])
assert found.keys() == whole.keys() and found
for key in found:
    np.testing.assert_allclose(found[key], whole[key], atol=1e-5)
assert any(abs(half[key] - whole[key]).max() > 1e-3 for key in whole)
dist.destroy_process_group()
"""


def test_cosines_between_layers_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(HALVES)
    done = subprocess.run([*LAUNCH, "script.py"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


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
