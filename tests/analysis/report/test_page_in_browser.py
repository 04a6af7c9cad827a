"""The page as a reader has it: opened from the disk in a real browser."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from msplora_analysis import (
    analyse,
    draw_figures,
    load_spectra,
    pairwise_spectral_kl,
    write_analysis,
    write_report,
)
from msplora_core.runs import RunDirectory
from tests.analysis.conftest import write_run

METHOD = "msplora-8-8-8"


def score(run: RunDirectory, epochs: int, value: float) -> None:
    for epoch in range(1, epochs + 1):
        run.append_metrics({"epoch": float(epoch), "eval_accuracy": value + epoch / 100})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An analysis of two tasks, two seeds and two methods over three epochs, with its page."""
    study = tmp_path_factory.mktemp("page") / "study"
    for task in ("mrpc", "stsb"):
        for seed in (0, 1):
            for method in ("lora-r8", METHOD):
                run = write_run(study / f"{task}-{method}-{seed}", method, task=task, seed=seed, layers=4)
                score(run, 3, 0.6 + seed / 20)
    write_analysis(analyse(study, draws=20))
    return study / "analysis"


@pytest.fixture
def page(visit: Any, folder: Path) -> Any:
    return visit(folder / "report.html")


def shown(value: float) -> str:
    return f"{float(f'{value:.4g}'):.10g}".replace("-", "−")


def texts(page: Any, selector: str) -> list[str]:
    return [str(text).strip() for text in page.locator(selector).all_inner_texts()]


def test_the_answer_comes_before_the_pictures_and_these_before_the_tables(page: Any) -> None:
    headings = ["What was looked at", "Verdicts", "Findings of the check-up", "Pictures", "Tables"]
    assert texts(page, "h2")[:5] == headings
    assert "4 pairs of runs" in page.locator("#verdicts").inner_text()
    assert page.locator("#verdicts .differences circle").count() >= 8


def test_findings_come_worst_first_with_what_to_do(visit: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "lora-r4", layers=5, modules=("query",))
    spectra = {f"layer/query/{layer}": np.array([2.0, 1, 1, 1 - layer / 9]) for layer in range(5)}
    spectra["layer/query/3"] *= 1e4
    spectra["layer/query/4"] *= 0
    run.write_epoch(4, step=40, spectra=spectra)
    write_analysis(analyse(run.path, draws=0))
    page = visit(run.path / "analysis" / "report.html")
    rows = [text.split("\t") for text in texts(page, "#findings tbody tr")]
    table = pd.read_csv(run.path / "analysis" / "findings.csv")
    assert rows == table[["severity", "kind", "module", "says", "advice"]].to_numpy().tolist()
    assert [row[:3] for row in rows] == [
        ["broken", "exploded", "layer/query/3"], ["doubtful", "never trained", "layer/query/4"]]  # fmt: skip


def test_the_slider_moves_the_picture_and_its_numbers_are_those_of_the_table(page: Any, folder: Path) -> None:
    mark = page.locator("#spectra .plot rect[stroke-width='2'], #spectra g[stroke-width='2'] rect").first
    last = mark.bounding_box()
    slider = page.locator("#spectra input[type=range]")
    slider.focus()
    page.keyboard.press("Home")
    assert page.locator("#spectra output").inner_text() == "1"
    assert mark.bounding_box()["x"] < last["x"]
    trajectory = pd.read_csv(folder / "trajectory.csv")
    rows = trajectory[(trajectory["method"] == METHOD) & (trajectory["time"] == 1) & (trajectory["scale"] != "total")]
    cells = [[name, shown(entropy), shown(ratio)] for name, entropy, ratio in
             rows[["scale", "entropy_rank", "m_eff_1"]].itertuples(index=False)]  # fmt: skip
    found = [row.split("\t") for row in texts(page, "#spectra tbody tr")]
    assert found == cells


def test_a_click_shows_the_pair_and_the_arrow_keys_move_on(page: Any, folder: Path) -> None:
    cells = page.locator("#matrices .plot svg[tabindex] g[aria-label=cell] rect")
    cells.nth(2 * 4 + 0).click()
    assert page.locator("#matrices h4").inner_text() == "Layer 2 and layer 0"
    table = pd.read_csv(folder / "kl-difference.csv")
    table = table[(table["method"] == METHOD) & (table["scale"] == "layer")].set_index(["layer_from", "layer_to"])
    detail = page.locator("#matrices .detail")
    for column in ("kl", "kl_baseline", "difference"):
        assert f"{shown(table.loc[(2, 0), column])} and back {shown(table.loc[(0, 2), column])}" in detail.inner_text()
    tests = pd.read_csv(folder / "cells.csv").query(
        "method == @METHOD and scale == 'layer' and row == 2 and column == 0"
    )
    p = float(f"{tests['p_corrected'].iloc[0]:.2g}")
    assert f"no interval from 4 pairs of runs, p {p:g} (corrected over the matrix): not decided" in detail.inner_text()
    assert detail.locator("g[aria-label=bar] rect").count() == 2 * 2 * 8
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.locator("#matrices h4").inner_text() == "Layer 3 and layer 1"


def test_the_legend_filters(page: Any) -> None:
    lines = page.locator("#courses g[aria-label=line] path")
    assert lines.count() == 3
    page.get_by_label("mid", exact=True).uncheck()
    assert lines.count() == 2
    page.get_by_label("mid", exact=True).check()
    assert lines.count() == 3


def test_one_choice_applies_to_all_pictures(page: Any, folder: Path) -> None:
    for name, value in (("method", "lora-r8"), ("task", "stsb"), ("module", "value")):
        page.select_option(f"select[name={name}]", value)
    about = texts(page, "#spectra .about, #courses .about, #layers .about")
    assert [text.split(".")[0].split(", at")[0] for text in about] == ["LoRA r=8, stsb, value"] * 3
    assert page.locator("#matrices .about").inner_text().startswith("LoRA r=8, stsb, value")
    table = load_spectra(folder.parent).query(
        "method == 'lora-r8' and task == 'stsb' and module == 'value' and epoch == 3"
    )
    table = table[table["scale"] == "layer"].groupby(["unit", "k"])["sigma"].mean().unstack()
    kl = pairwise_spectral_kl(table)
    assert f"{shown(kl[0, 1])} and back {shown(kl[1, 0])}" in page.locator("#matrices .detail").inner_text()
    assert len(texts(page, "#scores .plot svg")) == 1
    page.get_by_label("log scale").check()
    assert page.locator("#layers svg").count() == 1


def test_tables_are_the_csv_files_and_can_be_copied_and_sorted(page: Any, folder: Path) -> None:
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    for name in ("measures", "pairs"):
        table = page.locator(f"table[data-name={name}]")
        table.locator("button.copy").click()
        copied = pd.read_csv(StringIO(page.evaluate("window.copied")))
        expected = pd.read_csv(folder / f"{name}.csv")[list(copied.columns)]
        pd.testing.assert_frame_equal(copied, expected, check_exact=True)
        assert not set(pd.read_csv(folder / f"{name}.csv").dropna(axis=1, how="all").columns) - set(copied.columns)
    heading = page.locator("table[data-name=measures] th", has_text="entropy_rank")
    column = heading.evaluate("cell => cell.cellIndex + 1")
    for _ in range(2):
        heading.locator("button").click()
    values = [float(text) for text in texts(page, f"table[data-name=measures] td:nth-child({column})")]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_window(visit: Any, folder: Path, width: int, scheme: str) -> None:
    page = visit(folder / "report.html", viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_without_javascript_there_are_pictures_and_tables(visit: Any, folder: Path, tmp_path: Path) -> None:
    analysis = analyse(folder.parent, draws=0)
    figures = list(draw_figures(analysis))[:2]
    page = visit(write_report(analysis, tmp_path / "page.html", figures=figures), java_script_enabled=False)
    images = page.locator("#pictures img")
    assert images.count() == 2
    assert all(images.nth(place).bounding_box()["height"] > 100 for place in range(2))
    assert page.locator("table[data-name=measures] tbody tr").count() == len(analysis.final)
    assert not page.locator("#interactive").is_visible()


HOSTILE = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "<img src=x onerror=alert(2)>")


def test_names_from_files_are_text(visit: Any, tmp_path: Path) -> None:
    task, method, module = HOSTILE
    for seed in (0, 1):
        for name in (method, "lora-r4"):
            write_run(tmp_path / "study" / f"{name.replace('/', '')}-{seed}", "lora-r4", task=task, seed=seed, layers=3,
                      modules=(module, "value"))  # fmt: skip
            run = RunDirectory(tmp_path / "study" / f"{name.replace('/', '')}-{seed}")
            record = run.read_record()
            record.method = name
            run.write_record(record)
            score(run, 1, 0.5)
    analysis = analyse(tmp_path / "study", draws=0)
    figures = list(draw_figures(analysis))[:1]
    path = write_report(analysis, tmp_path / "page.html", figures=figures, made={"command": HOSTILE[0]})
    page = visit(path)
    page.select_option("select[name=method]", method)
    assert page.locator("img").count() == 0
    assert page.locator("body script").count() == 4
    assert all(name in page.locator("main").inner_text() for name in HOSTILE)
    data = json.loads(page.locator("#data").text_content())
    assert data["titles"][method] == method


def test_a_page_of_60_runs_is_drawn(visit: Any, tmp_path: Path) -> None:
    for task in ("mrpc", "stsb", "cola", "rte"):
        for seed in range(5):
            for method in ("lora-r8", "msplora-8-4-2", METHOD):
                write_run(
                    tmp_path / "study" / f"{task}-{method}-{seed}", method, task=task, seed=seed, layers=12, epochs=6
                )
    path = write_report(analyse(tmp_path / "study", draws=0), tmp_path / "page.html")
    assert path.stat().st_size < 3_000_000
    page = visit(path)
    assert page.locator("#interactive > figure:visible").count() == 4
