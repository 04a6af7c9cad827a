"""Averages for each choice of task and module type, against the same computed from the rows of the choice alone."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from msplora_analysis import analyse
from msplora_analysis.analysis import Analysis
from msplora_analysis.choices import by_choice
from msplora_analysis.comparison.difference import compare
from msplora_analysis.comparison.layers import layer_divergences
from msplora_analysis.courses import COURSE, courses
from msplora_analysis.measures import Average, average_spectra, measure
from msplora_analysis.report.csv_tables import csv_tables
from msplora_analysis.report.embedded import embedded, square
from msplora_analysis.report.packing import packed
from tests.analysis.conftest import write_run

METHOD = "msplora-4-2-2"
CHOICES = [("", ""), ("rte", ""), ("", "value"), ("rte", "value")]
Tables = dict[str, pd.DataFrame]


@pytest.fixture(scope="module", params=["spectra", "measures"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Analysis, Tables]:
    study = tmp_path_factory.mktemp("choices")
    for task in ("mrpc", "rte"):
        for method in ("lora-r2", METHOD):
            write_run(study / f"{task}-{method}", method, task=task, layers=4)
    analysis = analyse(study, draws=0, average=request.param)
    return analysis, dict(csv_tables(analysis))


def of_choice(table: pd.DataFrame, task: str, module: str) -> pd.DataFrame:
    return table[
        table["task"].isin([task] if task else table["task"])
        & table["module"].isin([module] if module else table["module"])
    ]


@pytest.mark.parametrize(("task", "module"), CHOICES)
def test_a_choice_is_averaged_from_its_own_rows(found: tuple[Analysis, Tables], task: str, module: str) -> None:
    analysis, tables = found
    average: Average = analysis.average
    timed = courses(of_choice(analysis.table, task, module))
    without_total = timed[(timed["scale"] != "total")]
    layers = ["model", "method", "stack", "scale", "unit"]
    expected = {
        "spectra-means": average_spectra(without_total, COURSE),
        "trajectory-means": measure(without_total, COURSE, average=average),
        "layer-spectra-means": average_spectra(of_choice(analysis.compared, task, module), layers),
    }
    for name, table in expected.items():
        chosen = tables[name].query("task == @task and module == @module")
        assert len(chosen) == len(table)
        for column in {"time", "unit", "k", "sigma", "share", "runs", "entropy_rank", "m_eff_1"} & set(table.columns):
            assert_allclose(chosen[column].astype(float), table[column].astype(float), err_msg=name)


@pytest.mark.parametrize(("task", "module"), CHOICES)
def test_so_is_the_kl_between_layers(found: tuple[Analysis, Tables], task: str, module: str) -> None:
    analysis, tables = found
    rows = of_choice(analysis.compared, task, module)
    chosen = tables["kl-means"].query("task == @task and module == @module")
    expected = layer_divergences(rows, average=analysis.average)
    assert_allclose(chosen["kl"], [value for one in expected for value in one.kl.ravel()], atol=1e-15)
    assert chosen["runs"].unique().tolist() == [1 if task else 2]
    (difference,) = compare(rows[rows["method"] == METHOD], rows[rows["method"] == "lora-r2"], average=analysis.average)
    chosen = tables["kl-difference-means"].query("task == @task and module == @module")
    for name in ("kl", "kl_baseline", "difference"):
        assert_allclose(chosen[name], getattr(difference, name).ravel(), atol=1e-15)


def test_the_rows_of_all_are_those_of_the_other_files(found: tuple[Analysis, Tables]) -> None:
    _, tables = found
    for name in ("spectra", "trajectory", "kl", "kl-difference"):
        every = tables[f"{name}-means"].query("`task` == '' and `module` == ''").reset_index(drop=True)
        kept = "scale == 'layer'" if name.startswith("kl") else "scale != 'total'"
        own = tables[name].query(kept).reset_index(drop=True)
        same = [column for column in own if column in every]
        assert len(same) > 8
        pd.testing.assert_frame_equal(every[same], own[same])


def test_the_page_computes_none_of_these_again(tmp_path: Path) -> None:
    write_run(tmp_path / "run", METHOD, layers=3)
    analysis = analyse(tmp_path / "run", draws=0)
    tables = dict(csv_tables(analysis))
    changed = {"trajectory-means": "entropy_rank", "layer-spectra-means": "sigma", "spectra-means": "sigma"}
    tables |= {name: tables[name].assign(**{column: 0.25}) for name, column in changed.items()}
    data = embedded(analysis, tables | {"kl-means": tables["kl-means"].assign(kl=0.25)})
    assert data["spectra"]["entropy_rank"] == {"every": 0.25}
    assert set("".join(data["layers"]["sigma"]["rows"] + data["spectra"]["sigma"]["rows"])) == set(packed(0.25) or "")
    assert [part["kl"] for part in data["matrices"][0]["chosen"]] == [square(np.full((3, 3), 0.25))] * 2


def test_choices_are_left_out_only_above_a_given_limit() -> None:
    table = pd.DataFrame({"task": np.repeat(["mrpc", "rte"], 40_000), "module": "query", "row": range(80_000)})
    rows = partial(by_choice, lambda part, by: part[["row", *by]], table, [])
    assert len(rows()) == 160_000
    assert len(rows(most=100_000)) == 80_000
