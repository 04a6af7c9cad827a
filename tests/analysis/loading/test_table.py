"""Reading runs and studies into the spectra table."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from msplora_analysis import SkippedWarning, analyse, load_spectra, load_updates, overlap
from msplora_analysis.loading.parallel import process_count
from msplora_core.errors import AdapterFileError, FileError, MSPLoraError, ParameterError, RunDirectoryError
from msplora_core.runs import RunDirectory, RunRecord

COLUMNS = ["run", "method", "model", "task", "seed", "epoch", "step", "scale", "stack", "module", "unit", "rank", "k",
           "sigma"]  # fmt: skip


def test_a_run_becomes_one_row_a_singular_value(make_run):
    run = make_run("mine", "msplora-8-4-2")
    table = load_spectra(run.path)
    assert list(table.columns) == COLUMNS
    assert list(table["run"].unique()) == ["mine"]
    components = table.groupby(["epoch", "scale", "module", "unit"], observed=True)
    for snapshot in run.snapshots():
        for key, sigma in snapshot.spectra.items():
            scale, module, unit = key.split("/")
            rows = components.get_group((snapshot.epoch, scale, module, int(unit)))
            np.testing.assert_array_equal(rows["sigma"], sigma)
            assert list(rows["k"]) == list(range(1, len(sigma) + 1))
            assert (rows["rank"] == len(sigma)).all()
    assert len(table) == sum(sigma.size for snapshot in run.snapshots() for sigma in snapshot.spectra.values())


def test_types_are_those_that_the_docstring_names(make_run):
    table = load_spectra(make_run("a", "msplora-8-4-2", seed=None).path)
    assert all(
        isinstance(table[name].dtype, pd.CategoricalDtype) for name in ("run", "method", "model", "task", "module")
    )
    assert list(table["scale"].cat.categories) == ["global", "mid", "layer", "total"]
    assert table["scale"].cat.ordered
    assert table["seed"].dtype == "Int64"
    assert table["seed"].isna().all()
    assert {str(table[name].dtype) for name in ("unit", "rank", "k")} == {"int32"}
    assert table["epoch"].dtype == np.float64
    assert table["sigma"].dtype == np.float64
    assert table["step"].dtype == "Int64"
    assert isinstance(table["stack"].dtype, pd.CategoricalDtype)


def test_steps_are_those_of_the_snapshots(make_run):
    table = load_spectra(make_run(epochs=2).path)
    assert table.groupby("epoch")["step"].unique().map(list).to_dict() == {0: [0], 1: [10], 2: [20]}


def test_a_record_names_the_stack_of_a_component_and_an_older_one_only_its_shape(tmp_path):
    for name, more in (("new", {"stack": "encoder.layer 4x3"}), ("old", {})):
        run = RunDirectory(tmp_path / name)
        components = [{"key": f"layer/query/{unit}", "rank": 2, "shape": [4, 3], **more} for unit in range(2)]
        run.write_record(RunRecord("lora-r2", "minilm", "mrpc", 0, components=components))
        run.write_epoch(1, step=5, spectra={f"layer/query/{unit}": np.array([2.0, 1.0]) for unit in range(2)})
    stacks = load_spectra(tmp_path).groupby("run", observed=True)["stack"].unique().map(list)
    assert stacks.to_dict() == {"new": ["encoder.layer 4x3"], "old": ["4x3"]}


def test_rows_are_in_order(study):
    table = load_spectra(study)
    keys = table[["run", "epoch", "scale", "module", "unit", "k"]]
    codes = keys.assign(**{name: keys[name].cat.codes for name in ("run", "scale", "module")})
    pd.testing.assert_frame_equal(codes, codes.sort_values(list(codes.columns), ignore_index=True))


def test_modules_are_in_the_order_of_the_model(make_run):
    table = load_spectra(make_run(modules=("value", "query")).path)
    assert list(table["module"].cat.categories) == ["value", "query"]


def test_a_study_is_found_at_any_depth_and_named_by_its_folders(study):
    table = load_spectra(study)
    assert table["run"].nunique() == 12
    assert "mrpc/lora-r8/seed-0" in set(table["run"])
    one = table[table["run"] == "stsb/msplora-8-4-2/seed-1"]
    assert set(one["task"]) == {"stsb"}
    assert set(one["seed"]) == {1}


def test_runs_come_in_natural_order(make_run, tmp_path):
    for number in (10, 9, 1):
        make_run(f"study/run-{number}", epochs=0)
    assert list(load_spectra(tmp_path / "study")["run"].unique()) == ["run-1", "run-9", "run-10"]


def test_a_runs_own_folders_and_hidden_ones_are_not_searched(make_run, tmp_path):
    outer = make_run("study/outer", epochs=0)
    make_run("study/outer/checkpoints/inner", epochs=0)
    make_run("study/.trash/gone", epochs=0)
    (tmp_path / "study" / "loop").symlink_to(tmp_path / "study")
    assert list(load_spectra(tmp_path / "study")["run"].unique()) == [outer.path.name]


def test_the_runs_that_chose_learning_rates_are_no_part_of_a_study(make_run, tmp_path):
    make_run("study/run", task="mrpc")
    make_run("study/tuning/lr-0.001/run", task="rte")
    make_run("study/others/tuning/run", task="cola")
    assert set(load_spectra(tmp_path / "study")["task"]) == {"mrpc", "cola"}
    assert set(load_spectra(tmp_path / "study" / "tuning")["task"]) == {"rte"}


def test_a_link_straight_to_a_run_is_followed(make_run, tmp_path):
    run = make_run("elsewhere", epochs=0)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "linked").symlink_to(run.path)
    assert list(load_spectra(tmp_path / "study")["run"].unique()) == ["linked"]


def test_progress_is_told_after_each_run(study):
    calls = []
    load_spectra(study, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(number, 12) for number in range(1, 13)]


def test_a_truncated_snapshot_is_named_and_the_other_epochs_read(make_run):
    run = make_run()
    path = run.snapshot_path(2)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(SkippedWarning, match=r"left out: .*epoch-0002\.safetensors: .* the file is cut short"):
        table = load_spectra(run.path)
    assert list(table["epoch"].unique()) == [0, 1, 3]
    assert len(table.attrs["skipped"]) == 1
    assert table.attrs["failed"] == []


def test_a_foreign_snapshot_is_named_and_the_other_epochs_read(make_run):
    run = make_run()
    run.snapshot_path(1).write_bytes(b"no safetensors at all")
    with pytest.warns(SkippedWarning, match=r"epoch-0001\.safetensors"):
        assert list(load_spectra(run.path)["epoch"].unique()) == [0, 2, 3]


def test_the_same_epoch_twice_is_read_once(make_run):
    run = make_run(epochs=1)
    run.snapshot_path(7).write_bytes(run.snapshot_path(1).read_bytes())
    with pytest.warns(SkippedWarning, match="expected each epoch once, found epoch 1 twice"):
        table = load_spectra(run.path)
    assert not table.duplicated(["epoch", "scale", "module", "unit", "k"]).any()


def test_a_run_that_cannot_be_read_does_not_hide_the_others(make_run, tmp_path):
    make_run("study/good", epochs=0)
    bad = make_run("study/bad", epochs=0)
    bad.record_path.write_text('{"format": "msplora-run", "version": 99}')
    empty = make_run("study/empty", epochs=0)
    empty.snapshot_path(0).unlink()
    with pytest.warns(SkippedWarning) as caught:
        table = load_spectra(tmp_path / "study")
    assert list(table["run"].unique()) == ["good"]
    assert table.attrs["failed"] == ["bad", "empty"]
    messages = [str(warning.message) for warning in caught]
    assert any("expected at most 1, found 99; update msplora" in message for message in messages)
    assert any("snapshots: expected a snapshot for each epoch" in message for message in messages)


def test_a_newer_run_alone_is_an_error(make_run):
    run = make_run(epochs=0)
    run.record_path.write_text('{"format": "msplora-run", "version": 99}')
    with pytest.raises(RunDirectoryError, match=r"run\.json: version: expected at most 1, found 99; update msplora"):
        load_spectra(run.path)


def test_a_study_of_which_nothing_can_be_read_is_an_error(make_run, tmp_path):
    for name in ("a", "b"):
        make_run(f"study/{name}", epochs=0).snapshot_path(0).unlink()
    with pytest.raises(RunDirectoryError, match="expected at least one run that can be read, found 2 that cannot"):
        load_spectra(tmp_path / "study")


def test_a_run_whose_every_snapshot_is_damaged_is_an_error(make_run):
    run = make_run(epochs=0)
    run.snapshot_path(0).write_bytes(b"")
    with pytest.raises(FileError, match=r"epoch-0000\.safetensors: header: expected a safetensors file"):
        load_spectra(run.path)


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(
        RunDirectoryError, match=r"expected a run directory .* found an empty folder; .*train makes runs"
    ):
        load_spectra(tmp_path)


def test_a_folder_of_other_things_says_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(RunDirectoryError, match=r"found notes\.txt"):
        load_spectra(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(MSPLoraError, match="nowhere"):
        load_spectra(tmp_path / "nowhere")


def test_a_run_being_read_is_not_changed(make_run):
    run = make_run()
    before = {path: path.stat().st_mtime_ns for path in RunDirectory(run.path).path.rglob("*")}
    load_spectra(run.path)
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_several_processes_read_the_same_table_and_report_the_same_damage(tmp_path: Path) -> None:
    for number in range(140):
        run = RunDirectory(tmp_path / f"run-{number}")
        run.write_record(RunRecord("lora-r2", "minilm", "mrpc", number))
        run.write_epoch(1, step=1, spectra={"layer/query/0": np.array([number + 2.0, 1.0])})
    (tmp_path / "run-7" / "run.json").write_text("{")
    (tmp_path / "run-9" / "snapshots" / "epoch-0002.safetensors").write_bytes(b"cut short")
    with pytest.warns(SkippedWarning):
        one = load_spectra(tmp_path)
    with pytest.warns(SkippedWarning):
        two = load_spectra(tmp_path, n_jobs=2)
    pd.testing.assert_frame_equal(one, two)
    assert one.attrs == two.attrs
    assert two.attrs["failed"] == ["run-7"]
    assert len(two.attrs["skipped"]) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
@pytest.mark.parametrize(
    ("sources", "n_jobs", "expected"),
    [(1000, 1, 1), (1000, 3, 3), (20, 8, 1), (130, 8, 2), (1000, -1, 4), (1000, -2, 3), (1000, -4, 1), (1000, -9, 1)],
)
def test_the_number_of_processes_is_that_of_scikit_learn_but_few_sources_take_few(
    monkeypatch, sources, n_jobs, expected
):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 2, 3, 7})
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert process_count(sources, n_jobs, least=64) == expected


def test_nothing_forks_once_torch_is_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", sys)
    assert process_count(1000, 4) == 1


def test_no_processes_at_all_are_refused(make_run):
    with pytest.raises(ParameterError, match="n_jobs: expected at least 1, or from -1 down, found 0"):
        load_spectra(make_run(epochs=0).path, n_jobs=0)


@pytest.mark.parametrize("read", [load_spectra, analyse, overlap, load_updates])
def test_what_is_no_path_is_refused(read, make_run):
    table = load_spectra(make_run("lora-r2").path)
    for path, found in ((table, "DataFrame"), (["a", "b"], "list"), (None, "NoneType")):
        with pytest.raises(ParameterError, match=f"path: expected one path, or hf://owner/name, found {found}"):
            read(path)


def test_a_file_whose_singular_values_exceed_float64_is_named(tmp_path):
    tensors = {f"layers.{i}.q.lora_{part}.weight": np.full((4, 4), 1e200) for i in range(2) for part in "AB"}
    save_file(tensors, tmp_path / "large.safetensors")
    message = r"large\.safetensors: layer/q/0 and 1 more: expected singular values up to 1.8e\+308, found larger ones"
    with pytest.raises(AdapterFileError, match=message):
        load_spectra(tmp_path / "large.safetensors")
