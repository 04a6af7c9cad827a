"""The run directory: round trips, kills at any moment, damaged and foreign files."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from msplora_core.errors import FileError
from msplora_core.runs import RunDirectory, RunRecord, Snapshot, read_snapshot

SPECTRA = {"global/query/0": np.array([3.0, 1.0]), "layer/query/1": np.array([2.0, 0.0])}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    run.write_record(RunRecord(method="msplora-2-2-2", model="minilm", task="mrpc", seed=3, layers=2))
    for epoch in range(3):
        run.write_epoch(epoch, step=10 * epoch, spectra=SPECTRA)
    return run


def test_what_is_written_is_read(run: RunDirectory) -> None:
    record = run.read_record()
    assert (record.method, record.task, record.seed, record.finished) == ("msplora-2-2-2", "mrpc", 3, None)
    snapshots = list(run.snapshots())
    assert [(snapshot.epoch, snapshot.step) for snapshot in snapshots] == [(0, 0), (1, 10), (2, 20)]
    assert {key: sigma.tolist() for key, sigma in snapshots[1].spectra.items()} == {
        key: sigma.tolist() for key, sigma in SPECTRA.items()
    }


def test_all_of_a_snapshot_is_read(tmp_path: Path) -> None:
    inner = {"query": np.array([[13.0, -1.0], [-1.0, 4.0]])}
    run = RunDirectory(tmp_path)
    scales = {"global-mid/query/3": np.array([-0.5, 0.1])}
    layers = {"mid/query/0": np.array([np.eye(2), np.zeros((2, 2))])}
    run.write_snapshot(Snapshot(2, 20, SPECTRA, SPECTRA, {"layer/query/1": np.ones(2)}, inner, scales, layers))
    found = read_snapshot(run.snapshot_path(2))
    assert (found.epoch, found.step) == (2, 20)
    between = ((found.between_scales, scales), (found.between_layers, layers))
    for read, written in ((found.spectra, SPECTRA), (found.factor_A, SPECTRA), (found.inner, inner), *between):
        assert {key: values.tolist() for key, values in read.items()} == {
            key: values.tolist() for key, values in written.items()
        }
    assert list(found.factor_B) == ["layer/query/1"]


def test_files_of_version_1_have_singular_values_alone(tmp_path: Path) -> None:
    path = tmp_path / "epoch-0001.safetensors"
    save_file(SPECTRA, path, header())
    found = read_snapshot(path)
    assert found.spectra.keys() == SPECTRA.keys()
    assert found.factor_A == found.factor_B == found.inner == {}


def test_a_snapshot_without_cosines_is_read_by_earlier_versions(tmp_path: Path) -> None:
    from safetensors import safe_open

    run, cosines = RunDirectory(tmp_path), {"global-mid/query/3": np.zeros(2)}
    for epoch, more in ((1, {}), (2, {"between_scales": cosines})):
        run.write_snapshot(Snapshot(epoch, 0, SPECTRA, **more))
        with safe_open(run.snapshot_path(epoch), "numpy") as file:
            assert file.metadata()["version"] == str(epoch + 1)


def test_snapshots_within_epochs_are_read_in_the_order_of_training(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    moments = [(0, 0), (0.001, 1), (0.9, 900), (1, 1000), (1.00001, 1001), (2, 2000), (9999, 1), (10000, 2)]
    for epoch, step in reversed(moments):
        run.write_snapshot(Snapshot(epoch, step, SPECTRA))
    assert [(snapshot.epoch, snapshot.step) for snapshot in run.snapshots()] == moments
    assert run.snapshot_paths()[2].name == "epoch-0000.step-00000900.safetensors"


def test_a_snapshot_with_a_very_long_number_in_its_name_is_read_last(run: RunDirectory) -> None:
    first = run.snapshot_paths()[0]
    long = first.with_name(f"epoch-{'9' * 20}.safetensors")
    long.write_bytes(first.read_bytes())
    assert run.snapshot_paths()[-1] == long


def test_sets_and_enums_of_configurations_become_plain_json(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_record(RunRecord("lora-r8", "m", configuration={"target_modules": {"value", "query"}}))
    assert run.read_record().configuration == {"target_modules": ["query", "value"]}


def test_a_write_leaves_nothing_beside_it(run: RunDirectory) -> None:
    assert [path for path in run.path.rglob("*") if path.name.startswith(".")] == []


def test_a_failed_write_leaves_the_old_file(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", failing)
    with pytest.raises(FileError, match=r"epoch-0002\.safetensors: .* that can be written, found No space"):
        run.write_epoch(2, step=99, spectra=SPECTRA)
    assert read_snapshot(run.snapshot_path(2)).step == 20
    assert len(list((run.path / "snapshots").iterdir())) == 3


def test_a_truncated_snapshot_is_named_and_the_others_read(run: RunDirectory) -> None:
    path = run.snapshot_path(1)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FileError, match=r"epoch-0001\.safetensors: layer/query/1: expected .* the file is cut short"):
        list(run.snapshots())
    errors: list[FileError] = []
    assert [snapshot.epoch for snapshot in run.snapshots(errors)] == [0, 2]
    assert [error.path for error in errors] == [path]


def header(**changes: str) -> dict[str, str]:
    return {"format": "msplora-snapshot", "version": "1", "epoch": "1", "step": "1"} | changes


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        (SPECTRA, None, "format: expected msplora-snapshot, found none"),
        (SPECTRA, header(format="pt"), "format: expected msplora-snapshot, found pt"),
        (SPECTRA, header(version="4"), "version: expected at most 3, found 4; update msplora"),
        (SPECTRA, header(epoch="one"), "epoch: expected a number from 0 to 100000, found one"),
        (SPECTRA, header(epoch="-1"), "epoch: expected a number from 0 to 100000, found -1"),
        (SPECTRA, header(step="1.5"), "step: expected a whole number, found 1.5"),
        ({"factor_C/layer/q/0": np.ones(2)}, header(), "factor_C/layer/q/0: expected a key scale/module/unit"),
        ({"factor_A/q": np.ones(2)}, header(), "factor_A/q: expected a key scale/module/unit, found q"),
        ({"factor_B/layer/q/0": -np.ones(2)}, header(), "factor_B/layer/q/0: expected finite float64 singular values"),
        ({"inner/q": np.ones((2, 3))}, header(), "inner/q: expected a square matrix of finite float64 inner products"),
        ({"inner/q": np.full((1, 1), np.inf)}, header(), "inner/q: expected a square matrix of finite float64"),
        ({"between_scales/q/0": np.zeros(2)}, header(), "q/0: expected a key global-mid/module/layer, found q/0"),
        ({"between_scales/mid-global/q/0": np.zeros(2)}, header(), "expected a key global-mid/module/layer"),
        ({"between_scales/global-mid/q/0": np.array([2.0, 0])}, header(), "expected mean and spread of a cosine"),
        ({"between_scales/global-mid/q/0": np.array([0, np.nan])}, header(), "expected mean and spread of a cosine"),
        ({"between_layers/q": np.zeros((2, 2, 2))}, header(), "expected a key scale/module/unit, found q"),
        ({"between_layers/mid/q/0": np.zeros((2, 2, 3))}, header(), "expected mean and spread of a square matrix"),
        ({"between_layers/mid/q/0": -np.ones((2, 2, 2))}, header(), "expected mean and spread of a square matrix"),
        (SPECTRA, header(epoch="100000.5"), "epoch: expected a number from 0 to 100000, found 100000.5"),
        (SPECTRA, header(step="9" * 11), "step: expected a whole number, found 99999999999"),
        ({"layer/q/2147483648": np.ones(2)}, header(), "layer/q/2147483648: expected a key scale/module/unit"),
        ({"layer/q/00": np.ones(2)}, header(), "layer/q/00: expected a key scale/module/unit"),
        ({"layer/q/0": np.ones(2**16 + 1)}, header(), "in descending order, 1 to 65536 of them, found (65537,)"),
        ({"layer/q/0": np.ones(0)}, header(), "layer/q/0: expected finite float64 singular values"),
        ({"layer/\x1b[2J/0": np.ones(2)}, header(), "expected tensor names of 1 to 500 printable characters"),
        ({"weight": np.ones(2)}, header(), "weight: expected a key scale/module/unit"),
        ({"layer/q/0": np.array([1.0, 2.0])}, header(), "layer/q/0: expected finite float64 singular values"),
        ({"layer/q/0": np.array([np.nan])}, header(), "layer/q/0: expected finite float64 singular values"),
        ({"layer/q/0": np.array([-1.0])}, header(), "layer/q/0: expected finite float64 singular values"),
        ({"layer/q/0": np.ones(2, np.float32)}, header(), "layer/q/0: expected finite float64 singular values"),
    ],
)
def test_foreign_snapshots_are_refused(tmp_path: Path, tensors: dict, metadata: dict | None, message: str) -> None:
    path = tmp_path / "epoch-0001.safetensors"
    save_file(tensors, path, metadata)
    with pytest.raises(FileError) as caught:
        read_snapshot(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "run.json: expected JSON in UTF-8"),
        (b"\xff\xfe", "run.json: expected JSON in UTF-8"),
        (b"[" * 100_000, "run.json: expected JSON in UTF-8"),
        (b"[]", "run.json: expected a JSON object, found list"),
        (b'{"format": "other"}', "format: expected msplora-run, found other"),
        (b'{"format": "msplora-run", "version": 2}', "version: expected at most 1, found 2; update msplora"),
        (b'{"format": "msplora-run", "version": 1, "method": "lora"}', "model: expected a name, found none"),
        (b'{"format": "msplora-run", "version": 1, "method": 7}', "method: expected a name, found 7"),
    ],
)
def test_foreign_records_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(FileError) as caught:
        RunDirectory(tmp_path).read_record()
    assert message in str(caught.value)


def test_a_last_line_of_metrics_cut_short_is_left_out_and_said(run: RunDirectory) -> None:
    run.append_metrics({"epoch": 1, "loss": 0.5})
    run.append_metrics({"epoch": 2, "loss": 0.25})
    run.metrics_path.write_text(run.metrics_path.read_text()[:-8])
    assert run.read_metrics() == [{"epoch": 1, "loss": 0.5}]
    errors: list[FileError] = []
    assert run.read_metrics(errors) == [{"epoch": 1, "loss": 0.5}]
    [error] = errors
    assert str(error) == f"{run.metrics_path}: line 2: expected a whole line, found one that was cut short"


def test_what_follows_a_line_cut_short_is_read(run: RunDirectory) -> None:
    run.metrics_path.write_text('{"epoch": 1}\n{"epoch": 2, "lo')
    run.append_metrics({"epoch": 3})
    run.append_metrics({"epoch": 4})
    errors: list[FileError] = []
    assert run.read_metrics(errors) == [{"epoch": 1}, {"epoch": 3}, {"epoch": 4}]
    assert [error.key for error in errors] == ["line 2"]


def test_metrics_that_cannot_be_written_are_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = RunDirectory(tmp_path / "file")
    with pytest.raises(FileError, match=r"metrics\.jsonl: expected a file that can be written, found "):
        run.append_metrics({"epoch": 1})
    with pytest.raises(FileError, match=r"run\.json: expected a file that can be written, found "):
        run.write_record(RunRecord("lora-r2", "m"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"nonsense", "line 2: expected a JSON object, found nonsense"),
        (b"5", "line 2: expected a JSON object, found 5"),
        (b"\xff", "line 2: expected a JSON object, found"),
        (b'{"epoch": "x"}', "line 2: epoch: expected a number from 0 to 100000, found x"),
        (b'{"epoch": null}', "line 2: epoch: expected a number from 0 to 100000, found None"),
        (b'{"epoch": 100001}', "line 2: epoch: expected a number from 0 to 100000, found 100001"),
        (b'{"step": true}', "line 2: step: expected a whole number from 0 to 9007199254740992, found True"),
        (b'{"step": 1.5}', "line 2: step: expected a whole number from 0 to 9007199254740992, found 1.5"),
        (b'{"eval_loss": NaN}', "line 2: expected a JSON object, found {"),
        (b'{"eval_loss": 1e999}', "line 2: expected a JSON object, found {"),
        (b'{"eval_loss": ' + b"9" * 400 + b"}", "line 2: expected a JSON object, found {"),
        (b'{"loss": 1, "loss": 2}', "line 2: loss: expected it once, found it twice"),
        (b'{"eval_\\u001b[2J": 1}', "line 2: expected printable names of at most 500 characters, found "),
        (b'{"a":' * 5000, "line 2: expected a JSON object, found {"),
    ],
)
def test_damaged_lines_of_metrics_are_named_and_the_others_read(run: RunDirectory, line: bytes, message: str) -> None:
    run.metrics_path.write_bytes(b'{"epoch": 1}\n' + line + b'\n\n{"epoch": 2.5, "eval_accuracy": 1}\n')
    with pytest.raises(FileError, match=r"metrics\.jsonl: line 2: "):
        run.read_metrics()
    errors: list[FileError] = []
    assert run.read_metrics(errors) == [{"epoch": 1}, {"epoch": 2.5, "eval_accuracy": 1}]
    [error] = errors
    assert message in str(error)
    assert str(error).isprintable()


def test_metrics_that_are_no_plain_file_or_too_large_are_refused(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(run.metrics_path)
    with pytest.raises(FileError, match=r"metrics\.jsonl: expected a file of JSON lines, found a FIFO or device"):
        run.read_metrics()
    run.metrics_path.unlink()
    (tmp_path / "secret").write_text("{}\n")
    run.metrics_path.symlink_to(tmp_path / "secret")
    with pytest.raises(FileError, match=r"metrics\.jsonl: expected a file in .* found a path outside it"):
        run.read_metrics()
    run.metrics_path.unlink()
    assert run.read_metrics() == []
    monkeypatch.setattr("msplora_core.storage.json_file.LARGEST_LOG", 7)
    run.metrics_path.write_text("{}\n" * 3)
    with pytest.raises(FileError, match=r"metrics\.jsonl: expected at most 7 bytes, found 9"):
        run.read_metrics()


def test_records_of_the_same_version_with_unknown_fields_are_read(run: RunDirectory) -> None:
    content = json.loads(run.record_path.read_text()) | {"colour": "green"}
    run.record_path.write_text(json.dumps(content))
    assert run.read_record().method == "msplora-2-2-2"
