"""The benchmarks: they run, and never call a target met that is not."""

from __future__ import annotations

import doctest
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the package, which is not installed."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_row_runs_and_is_told_as_json() -> None:
    done = command("--only", "divergence", "--quick", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    (line,) = record["lines"]
    assert line["ours"] > 0
    assert line["peers"] > 0
    assert line["ratio"] == pytest.approx(line["ours"] / line["peers"])
    assert line["met"] == (line["ratio"] <= 3)
    assert record["machine"].endswith("cores")
    assert record["versions"]["numpy"]
    assert record["failed"] == {}


def test_a_row_is_shown_when_measured_and_kept_when_stopped(tmp_path: Path) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from benchmarks import __main__ as command, rows
from benchmarks.target import Line, Target

def measured(name, quick):
    if name == "folder":
        print("waiting", file=sys.stderr, flush=True)
        import signal
        signal.pause()
    return [Line("work", "peer", 1.0, 3.0, Target("faster", 2))]

command.measured = measured
command.main(only=["divergence", "folder"])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    shown = []
    for line in process.stderr:
        shown.append(line)
        if line == "waiting\n":
            break
    assert any("work: 1 s; peer: 3 s; 3.00 × faster (target at least 2 × faster: yes)" in line for line in shown)
    process.terminate()
    printed, _ = process.communicate()
    assert "1 of 1 met." in printed
    assert len(json.loads((tmp_path / ".benchmarks" / "latest.json").read_text())["lines"]) == 1


def test_an_unknown_row_is_refused() -> None:
    done = command("--only", "everything")
    assert done.returncode == 2
    assert "expected one of kernel-llama" in done.stderr


def test_every_row_names_a_function(bench: Any) -> None:
    rows, processes = bench("rows"), bench("processes")
    assert all(callable(processes.named(function)) for function in rows.ROWS.values())


@pytest.mark.parametrize(
    ("kind", "limit", "ours", "peers", "ratio", "met"),
    [
        ("at most", 3, 6.0, 2.0, 3.0, True),
        ("at most", 1, 1.01, 1.0, 1.01, False),
        ("faster", 2000, 1.0, 2000.0, 2000.0, True),
        ("faster", 1.3, 1.0, 1.2, 1.2, False),
        ("over", 300, 400.0, 100.0, 300.0, True),
        ("over", 1, 2.5, 1.0, 1.5, False),
        ("over", 10, 4.0, 0.0, 4.0, True),
    ],
)
def test_what_is_met(bench: Any, kind: str, limit: float, ours: float, peers: float, ratio: float, met: bool) -> None:
    target = bench("target")
    line = target.Line("work", "peer", ours, peers, target.Target(kind, limit))
    assert line.ratio == pytest.approx(ratio)
    assert line.met is met


def test_without_its_peer_no_target_is_met(bench: Any) -> None:
    target, table = bench("target"), bench("table")
    line = target.Line("work", "peer", 0.001, None, target.Target("faster", 2), "peer is not installed")
    assert not line.met
    text = table.as_markdown(table.Result([line], {"other": "OSError: broken"}))
    assert "| peer is not installed | at least 2 × faster | not measured |" in text
    assert "0 of 1 met." in text
    assert "other could not be measured: OSError: broken" in text


def test_what_cannot_be_installed_is_named(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = bench("peers")
    tried = []
    monkeypatch.setattr(peers.subprocess, "run", lambda command, **options: tried.append(command[-1]))
    assert peers.missing("no_such_peer") == "no_such_peer is not installed and cannot be"
    assert tried == ["no_such_peer"]
    assert peers.missing("numpy") == ""


def test_calls_take_turns(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timing = bench("timing")
    monkeypatch.setattr(timing, "_SHORTEST", 1e-9)
    called = []
    calls = {name: lambda name=name: called.append(name) for name in "ab"}
    found = timing.Bench(tmp_path).medians(calls, rounds=3)
    assert "".join(called) == "ab" + "ab" + "ba" + "ab"
    assert set(found) == {"a", "b"}
    assert all(seconds > 0 for seconds in found.values())


def test_a_process_that_fails_is_no_measurement(bench: Any, tmp_path: Path) -> None:
    processes, timing = bench("processes"), bench("timing")
    quick = timing.Bench(tmp_path, quick=True)
    cost = processes.costs(quick, {"python": [sys.executable, "-c", "bytearray(50_000_000)"]})["python"]
    assert cost.seconds > 0
    assert cost.megabytes > 50
    with pytest.raises(RuntimeError, match="exit code 3 instead of 0"):
        processes.costs(quick, {"python": [sys.executable, "-c", "raise SystemExit(3)"]})


def test_the_data_is_what_it_says(bench: Any, tmp_path: Path) -> None:
    import numpy as np

    from msplora_analysis import load_spectra
    from msplora_core.formats import read_adapter

    made, sizes = bench("made"), bench("sizes")
    size = sizes.Size(4, 96, 8)
    for dtype in ("float32", "bfloat16"):
        adapter = read_adapter(made.adapter(tmp_path / dtype, size, dtype))
        assert adapter.method == "lora-r8"
        assert {(part.shapes, part.ranks, part.dtypes) for part in adapter.modules()} == {(((96, 96),), (8,), (dtype,))}
    B, A = made.ill_conditioned(size)
    assert np.linalg.cond(B).min() > 1e11
    assert np.linalg.cond(A).min() > 1e11
    table = load_spectra(made.study(tmp_path / "study", tasks=1, epochs=2))
    assert sorted(table["method"].unique()) == ["lora-r8", "msplora-8-4-2"]
    assert set(table["epoch"]) == {0, 1, 2}


def test_the_examples_of_the_targets_hold(bench: Any) -> None:
    assert doctest.testmod(bench("target")).failed == 0
