"""Means over runs: the numbers of lines and bands, against numpy."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from msplora_analysis import analyse, courses, draw_figures, write_analysis
from msplora_analysis.courses import SHARE
from msplora_analysis.run_means import course_means, means_over_runs, sharing_course_means
from msplora_analysis.statistics.flips import sign_flip_interval
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


@pytest.fixture
def six_runs(make_run, tmp_path):
    """Three seeds of two tasks, with components whose shape is known, so that they have a null."""
    for task in ("mrpc", "rte"):
        for seed in range(3):
            run = make_run(f"study/{task}-{seed}", "lora-r4", task=task, seed=seed)
            record = run.read_record()
            keys = [f"layer/{module}/{layer}" for module in record.modules for layer in range(record.layers)]
            record.components = [{"key": key, "shape": [64, 32], "stack": "layers 64x32"} for key in keys]
            run.write_record(record)
    return tmp_path / "study"


def test_measures_of_runs_have_their_mean_its_interval_and_the_nulls_of_single_runs(six_runs):
    found = analyse(six_runs, draws=40)
    for task in ("", "mrpc", "rte"):
        runs = found.by_run[(not task or found.by_run["task"] == task) & (found.by_run["scale"] == "layer")]
        nulls = found.run_nulls[found.run_nulls["run"].isin(runs["run"]) & (found.run_nulls["scale"] == "layer")]
        nulls = nulls[nulls["measure"] == "entropy_rank"]
        assert len(runs) == len(nulls) == (3 if task else 6)
        means = found.measure_means.query("task == @task and scale == 'layer' and measure == 'entropy_rank'")
        values = runs["entropy_rank"].to_numpy()
        interval = (np.nan, np.nan) if task else sign_flip_interval(values)
        assert_allclose(means[["mean", "low", "high"]], [[values.mean(), *interval]], rtol=1e-14)
        names = ["null_mean", "null_low", "null_high"]
        assert_allclose(means[names], [nulls[names].mean()], rtol=1e-14)
        outside = (nulls["value"] < nulls["null_low"]) | (nulls["value"] > nulls["null_high"])
        assert means["outside"].tolist() == [outside.sum()]


def test_what_the_picture_of_measures_draws_is_in_the_tables(six_runs, tmp_path):
    found = analyse(six_runs, draws=40)
    write_analysis(found, tmp_path / "out", report=False)
    written = pd.read_csv(tmp_path / "out" / "measure-means.csv").query("scale == 'layer' and measure == 'm_eff_1'")
    ax = dict(draw_figures(found))["measures"].axes[0]
    (interval, diamond), bands = [line.get_xdata() for line in ax.lines], [bar.get_bbox() for bar in ax.patches]
    whole, each = written[written["task"].isna()], written[written["task"].notna()]
    assert_allclose([[*diamond, *interval]], whole[["mean", "low", "high"]], rtol=1e-12)
    assert_allclose([[band.x0, band.x1] for band in bands], each[["null_low", "null_high"]], rtol=1e-12)
    points = ax.collections[0].get_offsets()
    for place, band in zip((slice(0, 3), slice(3, 6)), bands, strict=True):
        assert (points[place, 1] > band.y0).all()
        assert (points[place, 1] < band.y1).all()  # a band is behind the points of its task alone
    foot = " ".join(found_text.get_text().replace("\n", " ") for found_text in ax.figure.texts)
    assert "diamond: mean over the runs, with its 95% interval about these tasks" in foot
    assert "of one run, mean over the runs of a task" in foot
    assert "points outside the null of their own run: 12 of 12" in foot


def test_measures_without_nulls_or_training_have_means_without_them(make_run):
    found = analyse(make_run(epochs=1).path, draws=0).measure_means
    assert found["mean"].notna().all()
    assert found[["low", "null_low", "outside"]].isna().all(axis=None)
    untrained = analyse(make_run("zero", epochs=0).path)
    assert untrained.measure_means.empty
    assert list(untrained.measure_means) == list(found)


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
