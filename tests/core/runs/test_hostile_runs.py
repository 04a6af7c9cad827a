"""Run directories from untrusted sources: pipes, links, sizes, control characters."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msplora_core.errors import FileError
from msplora_core.runs import RunDirectory, RunRecord


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    run.write_record(RunRecord("lora-r2", "minilm", "mrpc", 0))
    run.write_epoch(1, step=1, spectra={"layer/q/0": np.ones(2)})
    return run


def change(run: RunDirectory, **fields: Any) -> None:
    run.record_path.write_text(json.dumps(json.loads(run.record_path.read_text()) | fields))


def component(**fields: Any) -> dict[str, Any]:
    return {"key": "layer/q/0", "rank": 2, "shape": [4, 4], "layers": [0]} | fields


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": None}, "method: expected a name, found none"),
        ({"method": "\x1b\x07"}, "method: expected a name, found"),
        ({"task": 7}, "task: expected a text, found 7"),
        ({"seed": True}, "seed: expected a whole number or null, found True"),
        ({"seed": 1.5}, "seed: expected a whole number or null, found 1.5"),
        ({"seed": 2**63}, "expected JSON in UTF-8, found 9223372036854775808 is beyond 64 bits"),
        ({"layers": -1}, "layers: expected a whole number, found -1"),
        ({"layers": 2**31}, "layers: expected a whole number, found 2147483648"),
        ({"modules": ["q", "v\x1b[2J"]}, "modules: expected names, found ['q', 'v\\x1b[2J']"),
        ({"modules": ["q" * 501]}, "modules: expected names, found "),
        ({"modules": [["q"]]}, "modules: expected names, found [['q']]"),
        ({"components": [7]}, "components: expected components, each with its key"),
        ({"components": [component(key="layer/q/-1")]}, "components: expected components, each with its key"),
        ({"components": [component(key=["layer/q/0"])]}, "components: expected components, each with its key"),
        ({"components": [component(shape=[4])]}, "components: expected components, each with its key"),
        ({"components": [component(shape=[4, 0])]}, "components: expected components, each with its key"),
        ({"components": [component(shape="44")]}, "components: expected components, each with its key"),
        ({"components": [component(stack="encoder\x1b[2J")]}, "components: expected components, each with its key"),
        ({"versions": []}, "versions: expected an object, found []"),
        ({"metric": "f1\x1b"}, "metric: expected a printable text, found f1?"),
        ({"constant_score": "1"}, "constant_score: expected a number or null, found 1"),
        ({"started": "soon"}, "started: expected a time with time zone in ISO 8601, found soon"),
        ({"finished": 0}, "finished: expected a time with time zone in ISO 8601, or null, found 0"),
        ({"finished": "2025-01-01T00:00:00"}, "finished: expected a time with time zone"),
        ({"version": True}, "version: expected at most 1, found True"),
        ({"version": -1}, "version: expected at most 1, found -1"),
    ],
)
def test_records_with_other_values_are_refused(run: RunDirectory, fields: dict[str, Any], message: str) -> None:
    change(run, **fields)
    with pytest.raises(FileError, match=r"run\.json: ") as caught:
        run.read_record()
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_names_in_records_are_read_as_what_is_printable(run: RunDirectory) -> None:
    change(run, method="lora\x1b[2J-r2", model="mini\nlm\u202e", task="\x07mrpc" + "x" * 1000)
    record = run.read_record()
    assert (record.method, record.model) == ("lora[2J-r2", "mini lm")
    assert record.task == "mrpc" + "x" * 196


def test_pipes_are_refused_without_waiting(run: RunDirectory) -> None:
    path = run.snapshot_path(2)
    os.mkfifo(path)
    errors: list[FileError] = []
    assert [snapshot.epoch for snapshot in run.snapshots(errors)] == [1]
    assert [str(error) for error in errors] == [f"{path}: expected a safetensors file, found a FIFO or device"]
    run.record_path.unlink()
    os.mkfifo(run.record_path)
    assert RunDirectory.is_run(run.path)
    with pytest.raises(FileError, match=r"run\.json: expected a JSON file, found a FIFO or device"):
        run.read_record()


def test_links_out_of_the_run_are_refused(run: RunDirectory, tmp_path: Path) -> None:
    for path in (run.record_path, run.snapshot_path(1)):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    with pytest.raises(FileError, match=r"run\.json: expected a file in .*, found a path outside it"):
        run.read_record()
    with pytest.raises(FileError, match=r"epoch-0001\.safetensors: expected a file in .*, found a path outside it"):
        list(run.snapshots())
    run.snapshot_path(1).unlink()
    run.snapshot_path(1).parent.rmdir()
    (tmp_path / "snapshots").mkdir()
    run.snapshot_path(1).parent.symlink_to(tmp_path / "snapshots")
    with pytest.raises(FileError, match=r"snapshots: expected a file in .*, found a path outside it"):
        run.snapshot_paths()


def test_a_run_behind_a_link_and_links_within_it_are_read(run: RunDirectory, tmp_path: Path) -> None:
    run.snapshot_path(1).rename(run.path / "kept")
    run.snapshot_path(1).symlink_to("../kept")
    (tmp_path / "link").symlink_to(run.path)
    linked = RunDirectory(tmp_path / "link")
    assert linked.read_record().method == "lora-r2"
    assert [snapshot.epoch for snapshot in linked.snapshots()] == [1]


def test_links_in_a_circle_are_refused(run: RunDirectory) -> None:
    run.record_path.unlink()
    run.record_path.symlink_to("run.json")
    with pytest.raises(FileError, match=r"run\.json: expected "):
        run.read_record()


def test_files_that_are_too_large_are_refused(run: RunDirectory) -> None:
    for path, size in ((run.record_path, 2**25 + 1), (run.metrics_path, 2**27 + 1)):
        with path.open("wb") as file:
            file.truncate(size)
    with pytest.raises(FileError, match=r"run\.json: expected at most 33554432 bytes, found 33554433"):
        run.read_record()
    with pytest.raises(FileError, match=r"metrics\.jsonl: expected at most 134217728 bytes, found 134217729"):
        run.read_metrics()
    content = run.snapshot_path(1).read_bytes()
    size = 2**27
    header = content[8 : 8 + int.from_bytes(content[:8], "little")].decode()
    longer = header.replace('"data_offsets":[0,16]', f'"data_offsets":[0,{size}]').replace("[2]", f"[{size // 8}]")
    with run.snapshot_path(1).open("wb") as file:
        file.write(len(longer).to_bytes(8, "little") + longer.encode())
        file.truncate(8 + len(longer) + size)
    with pytest.raises(FileError, match=r"expected a snapshot of at most 134217728 bytes, found"):
        list(run.snapshots())


def test_other_files_beside_the_snapshots_are_no_snapshots(run: RunDirectory) -> None:
    for name in ("epoch-x.safetensors", "epoch-0001 (1).safetensors", "epoch-1.safetensors", ".epoch-0002.tmp"):
        (run.path / "snapshots" / name).write_bytes(b"")
    run.write_epoch(10_000, step=9, spectra={"layer/q/0": np.ones(2)})
    assert [path.name for path in run.snapshot_paths()] == ["epoch-0001.safetensors", "epoch-10000.safetensors"]
