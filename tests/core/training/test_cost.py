"""The measured cost of a training, on systems other than this one, too."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from msplora_core.training.cost import CostMeter


@pytest.fixture
def no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", fail)
    monkeypatch.setattr(Path, "write_text", fail)


@pytest.mark.parametrize(("platform", "size"), [("darwin", 5), ("freebsd14", 5 * 1024)])
def test_peak_without_proc(no_proc: None, monkeypatch: pytest.MonkeyPatch, platform: str, size: int) -> None:
    """`ru_maxrss` is in bytes on macOS, in kilobytes elsewhere."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=5))
    assert CostMeter(torch.nn.Linear(2, 1)).read()["peak_bytes"] == size


def test_windows_has_no_peak(no_proc: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    cost = CostMeter(torch.nn.Linear(2, 1)).read()
    assert cost.keys() == {"trained_parameters", "seconds", "cpu_seconds"}
    assert cost["trained_parameters"] == 3


def test_the_peak_of_cuda_is_that_of_this_training(monkeypatch: pytest.MonkeyPatch) -> None:
    peak = [7]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: peak.__setitem__(0, 0))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peak[0])
    meter = CostMeter(torch.nn.Linear(2, 1))
    peak[0] += 3
    assert meter.read()["peak_bytes"] == 3
