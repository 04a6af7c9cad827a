"""Courses over training use the epochs at hand."""

import numpy as np
import pandas as pd
import pytest

from msplora_analysis import analyse, average_spectra, courses, draw_figures, load_spectra, measure, write_analysis
from msplora_analysis.courses import COURSE, SHARE
from msplora_core.runs import RunDirectory, RunRecord

TRAININGS = {"a": [9, 15], "b": range(1, 11), "c": [24, 30], "d": [1]}


@pytest.fixture
def folder(tmp_path):
    """Four trainings of one method without an epoch in common."""
    for place, (task, epochs) in enumerate(TRAININGS.items()):
        run = RunDirectory(tmp_path / "folder" / task)
        run.write_record(RunRecord(method="lora-r3", model="minilm", task=task, layers=3))
        for epoch in epochs:
            spectra = {f"layer/query/{i}": np.array([3.0 + place, 2.0, epoch / 50]) for i in range(3)}
            run.write_epoch(epoch, step=10 * epoch, spectra=spectra)
    return tmp_path / "folder"


def test_runs_without_a_common_epoch_are_put_on_the_share_of_training(folder):
    found = analyse(folder)
    assert set(found.trajectory["clock"]) == {SHARE}
    runs = found.trajectory.set_index("time")["runs"].to_dict()
    expected = {epoch / max(epochs): 0 for epochs in TRAININGS.values() for epoch in epochs}
    for epochs in TRAININGS.values():
        for epoch in epochs:
            expected[epoch / max(epochs)] += 1
    assert runs == expected
    assert runs[1.0] == 4
    at_0_6 = found.spectra[found.spectra["time"] == 0.6].set_index("k")["sigma"]
    np.testing.assert_allclose(at_0_6, [(3.0 + 4.0) / 2, 2.0, (9 + 6) / 2 / 50])
    assert any("no epoch is common to all runs" in note for note in found.notes)


def test_final_measures_need_no_common_epoch(folder):
    final = analyse(folder).final
    assert list(final["runs"]) == [4]
    assert list(final["components"]) == [12]
    mean = np.mean([[3.0 + place, 2.0, max(epochs) / 50] for place, epochs in enumerate(TRAININGS.values())], axis=0)
    assert final["m_eff_1"].item() == pytest.approx(mean[0] / mean.sum())


def test_they_are_drawn_and_written(folder, tmp_path):
    found = analyse(folder)
    names = {path.name for path in write_analysis(found, tmp_path / "out", figures=draw_figures(found))}
    assert {"fig3.png", "m-eff.png", "trajectory.csv"} <= names
    assert {"clock", "time", "runs"} <= set(pd.read_csv(tmp_path / "out" / "trajectory.csv").columns)


def test_a_run_cut_short_keeps_the_epochs(make_run, tmp_path):
    make_run("study/a", epochs=3)
    make_run("study/b", epochs=1, seed=1)
    measured = measure(courses(load_spectra(tmp_path / "study")), COURSE)
    layer = measured[measured["scale"] == "layer"]
    assert set(layer["clock"]) == {"epoch"}
    assert dict(zip(layer["time"], layer["runs"], strict=True)) == {0: 2, 1: 2, 2: 1, 3: 1}


def test_each_method_has_its_own_clock(folder, make_run):
    table = pd.concat([load_spectra(folder), load_spectra(make_run("other", "msplora-8-4-2").path)])
    clocks = courses(table).groupby("method")["clock"].unique().map(list)
    assert dict(clocks) == {"lora-r3": [SHARE], "msplora-8-4-2": ["epoch"]}


def rows(**columns):
    return pd.DataFrame({"model": "m", "method": "lora-r1", "scale": "layer", "stack": "", "module": "q", "unit": 0,
                         "rank": 1, "k": 1, "sigma": 1.0, **columns})  # fmt: skip


@pytest.mark.parametrize(
    ("epochs", "steps", "clock", "times"),
    [
        ([1.0, 2.0, 1.0], [10, 20, 10], "epoch", [1, 2, 1]),
        ([0.07, 0.32, 0.07], [3, 12, 3], "epoch", [0.07, 0.32, 0.07]),
        ([np.nan] * 3, [10, 20, 10], "step", [10, 20, 10]),
        ([np.nan] * 3, [10, 20, 5], SHARE, [0.5, 1, 1]),
        ([1.0, 2.0, np.nan], [10, 20, None], SHARE, [0.5, 1, 1]),
        ([0.0, 0.0, 0.0], [None] * 3, "epoch", [0, 0, 0]),
    ],
)
def test_the_clock_is_the_first_that_fits(epochs, steps, clock, times):
    table = rows(run=["a", "a", "b"], epoch=epochs, step=pd.array(steps, dtype="Int64"))
    timed = courses(table)
    assert set(timed["clock"]) == {clock}
    np.testing.assert_allclose(timed["time"], times)


@pytest.mark.parametrize(
    ("finished", "planned", "times"),
    [(False, 100.0, [0.02, 0.04, 1]), (False, np.nan, [0.5, 1, 1]), (False, 3.0, [0.5, 1, 1]),
     (True, 100.0, [0.5, 1, 1])],
)  # fmt: skip
def test_an_unfinished_run_has_done_a_share_of_what_was_planned(finished, planned, times):
    table = rows(run=["a", "a", "b"], epoch=[2.0, 4.0, 9.0], step=pd.array([20, 40, 90], dtype="Int64"))
    runs = pd.DataFrame({"run": ["a"], "finished": [finished], "planned": [planned]})
    np.testing.assert_allclose(courses(table, runs)["time"], times)


def test_where_only_the_end_is_known_there_is_no_time():
    timed = courses(rows(run=["a", "b"], epoch=np.nan, step=pd.array([None, None], dtype="Int64")))
    assert timed["time"].isna().all()
    assert list(average_spectra(timed, COURSE)["runs"]) == [2]
