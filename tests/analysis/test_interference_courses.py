"""Recorded cosines: from snapshots to a table, intervals and a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from msplora_analysis import (
    SkippedWarning,
    analyse,
    draw_figures,
    interference_by_epoch,
    interference_by_method,
    interference_courses,
    load_interference,
    plot_interference,
    write_analysis,
)
from msplora_core.errors import ParameterError
from msplora_core.runs import RunDirectory, RunRecord, Snapshot

MATRIX = np.array([[1.0, 0.5, -0.3], [0.5, 1.0, 0.1], [-0.3, 0.1, 1.0]])


def write_run(folder: Path, task: str, seed: int, shift: float, *, recorded: bool = True) -> RunDirectory:
    run = RunDirectory(folder / f"{task}-{seed}")
    components = [{"key": "mid/q/0", "rank": 2, "shape": [6, 6], "layers": [2, 3, 5]}]
    run.write_record(RunRecord("msplora-2-2-2", "minilm", task, seed, components=components))
    spectra = {key: np.array([2.0, 1.0 + seed / 10]) for key in ("global/q/0", "mid/q/0", "layer/q/2", "layer/q/3")}
    for epoch in range(3):
        scales = {
            f"{pair}/q/{layer}": np.array([shift + epoch / 10 + layer / 100, 0.05])
            for pair in ("global-mid", "mid-layer")
            for layer in (2, 3)
        }
        layers = {"mid/q/0": np.array([MATRIX, np.zeros((3, 3))])}
        more = {"between_scales": scales, "between_layers": layers} if recorded and epoch else {}
        run.write_snapshot(Snapshot(epoch, 10 * epoch, spectra, **more))
    return run


@pytest.fixture
def study(tmp_path: Path) -> Path:
    shifts = iter([-0.4, -0.3, -0.5, -0.2, -0.3, -0.1])
    for task in ("cola", "mrpc"):
        for seed in range(3):
            write_run(tmp_path, task, seed, next(shifts))
    write_run(tmp_path, "rte", 0, 0.0, recorded=False)
    return tmp_path


def test_one_row_a_cosine(study: Path) -> None:
    table = load_interference(study / "cola-1")
    assert len(table) == 2 * (4 + 3)
    one = table[(table["epoch"] == 2) & (table["pair"] == "mid-layer") & (table["unit"] == 3)].iloc[0]
    assert (one["between"], one["module"], one["step"]) == ("scales", "q", 20)
    assert_allclose([one["cosine"], one["spread"]], [-0.3 + 0.2 + 0.03, 0.05])
    layers = table[(table["between"] == "layers") & (table["epoch"] == 1)]
    assert layers[["first", "second"]].to_numpy().tolist() == [[2, 3], [2, 5], [3, 5]]
    assert_allclose(layers["cosine"], [0.5, -0.3, 0.1])


def test_runs_without_records_have_no_rows(study: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert load_interference(study)["run"].nunique() == 6
    other = tmp_path_factory.mktemp("plain")
    write_run(other, "rte", 0, 0.0, recorded=False)
    empty = load_interference(other)
    assert len(interference_by_method(interference_courses(empty))) == 0
    assert len(interference_by_epoch(interference_courses(empty))) == 0


def test_a_damaged_snapshot_is_named_and_the_others_read(study: Path) -> None:
    path = RunDirectory(study / "cola-1").snapshot_path(1)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(SkippedWarning, match="epoch-0001"):
        table = load_interference(study / "cola-1")
    assert set(table["epoch"]) == {2}


def test_intervals_are_over_runs(study: Path) -> None:
    courses = interference_courses(load_interference(study))
    by_epoch = interference_by_epoch(courses).set_index(["pair", "epoch"])
    shifts = np.array([-0.4, -0.3, -0.5, -0.2, -0.3, -0.1])
    values = shifts + 0.2 + 0.025
    low, high = stats.t.interval(0.95, 5, values.mean(), stats.sem(values))
    found = by_epoch.loc[("global-mid", 2)]
    assert_allclose([found["cosine"], found["low"], found["high"], found["runs"]], [values.mean(), low, high, 6])
    method = interference_by_method(courses).set_index("pair").loc["global-mid"]
    over_training = shifts + 0.15 + 0.025
    assert_allclose(method["cosine"], over_training.mean())
    assert_allclose([method["first"], method["last"]], [(shifts + 0.125).mean(), (shifts + 0.225).mean()])
    assert (method["runs"], method["tasks"], method["least_p"]) == (6, 2, 2 / 64)
    assert method["negative"] == (over_training < 0).mean()
    assert method["low"] < method["cosine"] < method["high"]


def test_one_run_has_no_interval(study: Path) -> None:
    courses = interference_courses(load_interference(study / "cola-1"))
    assert interference_by_epoch(courses)["low"].isna().all()
    assert interference_by_method(courses)["low"].isna().all()


def test_the_picture_shows_the_numbers(study: Path) -> None:
    by_epoch = interference_by_epoch(interference_courses(load_interference(study)))
    scales, layers = plot_interference(by_epoch, title="MSPLoRA")
    assert [text.get_text() for text in scales.get_legend().get_texts()] == ["global and mid", "mid and layer"]
    line = next(line for line in scales.lines if line.get_label() == "mid and layer")
    wanted = by_epoch[by_epoch["pair"] == "mid-layer"]
    assert_allclose(line.get_ydata(), wanted["cosine"])
    assert [text.get_text() for text in layers.get_legend().get_texts()] == ["of mid"]
    with pytest.raises(ParameterError, match="courses: expected cosines of one method"):
        plot_interference(by_epoch.iloc[:0])


def test_an_analysis_holds_it(study: Path) -> None:
    from msplora_analysis import summarise

    analysis = analyse(study, draws=0)
    assert analysis.interference["run"].nunique() == 6
    assert len(summarise(analysis)["interference"]) == 3
    written = write_analysis(analysis, study / "out", figures=draw_figures(analysis))
    assert {"interference.csv", "interference-by-run.csv", "interference-msplora-2-2-2.png"} <= {
        p.name for p in written
    }
    table = pd.read_csv(study / "out" / "interference.csv").fillna({"task": ""}).query("pair == 'global-mid'")
    runs = analysis.interference.query("pair == 'global-mid'")
    for task, count in (("", 6), ("cola", 3), ("mrpc", 3)):
        values = runs.loc[(runs["epoch"] == 2) & (not task or runs["task"] == task), "cosine"]
        low, high = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
        one = table.query("task == @task and epoch == 2")
        assert_allclose(one[["runs", "cosine", "low", "high"]], [[count, values.mean(), low, high]])
