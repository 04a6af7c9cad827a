"""Means over runs: the numbers of lines and bands, against numpy."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from msplora_analysis import analyse, courses, write_analysis
from msplora_analysis.courses import SHARE
from msplora_analysis.run_means import course_means, means_over_runs, sharing_course_means
from msplora_core.runs import RunDirectory, RunRecord


def write(folder, task, seed, epochs, ranks=(3,), shift=0.0):
    run = RunDirectory(folder / f"{task}-{seed}")
    run.write_record(RunRecord(method="lora", model="minilm", task=task, seed=seed, layers=len(ranks)))
    for epoch in epochs:
        spectra = {f"layer/q/{layer}": np.linspace(2 + shift + epoch, 1, rank) for layer, rank in enumerate(ranks)}
        run.write_epoch(epoch, step=10 * epoch, spectra=spectra)


def ends(rows, name="entropy_rank"):
    return rows[[name, f"{name}_low", f"{name}_high"]].to_numpy()


def test_of_all_tasks_and_of_each(tmp_path):
    for task in ("mrpc", "rte"):
        for seed in range(3):
            write(tmp_path, task, seed, (1, 2), shift=seed + (task == "rte") / 2)
    by_run = analyse(tmp_path, draws=0).courses
    means = course_means(by_run)
    for task in ("", "mrpc", "rte"):
        for epoch in (1, 2):
            one = means.query("task == @task and time == @epoch")
            values = by_run.loc[(by_run["time"] == epoch) & (not task or by_run["task"] == task), "entropy_rank"]
            assert one["runs"].tolist() == [3 if task else 6] == [len(values)]
            assert_allclose(ends(one), [[values.mean(), values.min(), values.max()]], rtol=1e-14)


def test_one_run_has_no_lowest_and_highest(tmp_path):
    write(tmp_path, "mrpc", 0, (1, 2))
    means = course_means(analyse(tmp_path, draws=0).courses)
    assert means["runs"].tolist() == [1, 1]
    assert means["entropy_rank"].notna().all()
    assert means[["entropy_rank_low", "entropy_rank_high"]].isna().all(axis=None)


def test_runs_without_a_common_epoch_are_not_averaged(tmp_path):
    for seed, epochs in enumerate([(1, 2, 4), (3, 6)]):
        write(tmp_path, "mrpc", seed, epochs)
    means = course_means(analyse(tmp_path, draws=0).courses)
    assert set(means["clock"]) == {SHARE}
    assert means.groupby("line")["time"].agg(list).to_dict() == {"mrpc-0": [0.25, 0.5, 1.0], "mrpc-1": [0.5, 1.0]}
    assert (means["runs"] == 1).all()


def test_ranks_stay_apart_and_zero_spectra_are_left_out(tmp_path):
    write(tmp_path, "mrpc", 0, (1, 2), ranks=(3, 5))
    write(tmp_path, "mrpc", 1, (1, 2), ranks=(3, 5), shift=1.0)
    run = RunDirectory(tmp_path / "mrpc-1")
    run.write_epoch(3, step=30, spectra={"layer/q/0": np.zeros(3), "layer/q/1": np.ones(5)})
    means = course_means(analyse(tmp_path, draws=0).courses)
    assert means.groupby(["rank", "time"])["runs"].agg(list).to_dict() == {
        (3, 1): [2], (3, 2): [2], (5, 1): [2], (5, 2): [2], (5, 3): [1],
    }  # fmt: skip


def test_sharing_is_averaged_over_modules_within_a_run_first():
    rows = [("a", "q", 1, 0.1), ("a", "v", 1, 0.3), ("b", "q", 1, 0.5), ("a", "q", 2, 0.2), ("b", "q", 2, 0.6)]
    course = pd.DataFrame(rows, columns=["run", "module", "epoch", "excess"]).assign(
        model="m", method="lora", task="rte", step=1, deviation_own=0.01
    )
    means = sharing_course_means(courses(course)).set_index(["module", "time"])
    assert_allclose(ends(means.loc[[("", 1)]], "excess"), [[0.35, 0.2, 0.5]])
    assert_allclose(ends(means.loc[[("q", 1)]], "excess"), [[0.3, 0.1, 0.5]])
    assert means.loc[("v", 1), "runs"] == 1
    assert set(means["line"]) == {""}


def test_files_hold_them(tmp_path):
    for seed in range(2):
        write(tmp_path / "study", "mrpc", seed, (1, 2), shift=seed)
        RunDirectory(tmp_path / "study" / f"mrpc-{seed}").append_metrics({"epoch": 2.0, "eval_f1": 0.8 + seed / 10})
    written = {path.name: path for path in write_analysis(analyse(tmp_path / "study", draws=0), report=False)}
    scores = pd.read_csv(written["score-means.csv"])
    assert_allclose(scores[["value", "value_low", "value_high", "runs"]], [[0.85, 0.8, 0.9, 2]])
    assert len(pd.read_csv(written["course-means.csv"])) == 2


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_an_empty_table_has_the_columns(names):
    empty = pd.DataFrame({"run": [], "a": [], "b": [], "x": []}).astype({"x": float})
    found = means_over_runs(empty, names, ["x"])
    assert list(found.columns) == [*names, "runs", "x", "x_low", "x_high"]
    assert len(found) == 0
