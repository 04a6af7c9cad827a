"""The page as a reader has it: opened from the disk in a real browser."""

from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from safetensors.numpy import save_file

from msplora_analysis import (
    analyse,
    draw_figures,
    load_spectra,
    overlap,
    plan_ranks,
    write_analysis,
    write_plan,
    write_report,
)
from msplora_analysis.report.kept_section import refresh_page
from msplora_analysis.report.overlap_files import write_overlap
from msplora_analysis.report.templates import ASSETS
from msplora_core.runs import RunDirectory, Snapshot
from tests.analysis.conftest import spectra_of, write_run

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


def shown(value: float) -> str:
    text = f"{float(f'{value:.4g}'):.10g}"
    if "e" in text and abs(value) >= 1e-6:  # JavaScript has exponents below
        text = f"{float(text):.10f}".rstrip("0")
    return text.replace("-", "−")


def texts(page: Any, selector: str) -> list[str]:
    return [str(text).strip() for text in page.locator(selector).all_inner_texts()]


def tip(page: Any, figure: str) -> str:
    """What is said beside the pointer; pictures with panels draw it in the next frame, which can be late."""
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    return "".join(page.locator(f"{figure} g[aria-label=tip] text").all_text_contents()).replace("\u200b", "")


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


@pytest.mark.parametrize(("task", "module"), [("", ""), ("mrpc", "value")])
def test_a_course_is_the_mean_of_the_runs_in_the_table(page: Any, folder: Path, task: str, module: str) -> None:
    page.select_option("select[name=task]", task)
    page.select_option("select[name=module]", module)
    plot = page.locator("#courses .plot svg")
    plot.hover(position={"x": plot.bounding_box()["width"] - 30, "y": 100})
    said = tip(page, "#courses")
    every = {"module": "", "task": ""}
    courses = pd.read_csv(folder / "courses.csv").fillna(every)
    courses = courses.query("method == @METHOD and module == @module and time == 3")
    courses = courses[courses["task"] == task] if task else courses
    values = courses.groupby("scale")["entropy_rank"].agg(["mean", "min", "max", "count"])
    scale = next(name for name in values.index if said.startswith(name))
    mean, low, high, runs = values.loc[scale]
    assert said.endswith(f"epoch 3{shown(mean)} ({shown(low)} to {shown(high)}, {runs:g} runs)")
    means = pd.read_csv(folder / "course-means.csv").fillna(every)
    means = means.query("method == @METHOD and module == @module and time == 3 and task == @task and scale == @scale")
    assert_allclose(means[["entropy_rank", "entropy_rank_low", "entropy_rank_high"]], [[mean, low, high]])


def test_the_page_averages_nothing() -> None:
    scripts = "".join(path.read_text(encoding="utf-8") for path in ASSETS.glob("*.js"))
    assert scripts
    assert not re.search(r"d3\.(mean|median|deviation|quantile)", scripts)


def test_runs_without_a_common_epoch_each_have_a_line(visit: Any, tmp_path: Path) -> None:
    for seed, epochs in enumerate([(1, 2, 3), (4, 8), (5, 7)]):
        run = write_run(tmp_path / "study" / f"mrpc-lora-r8-seed{seed}", seed=seed, epochs=-1)
        for epoch in epochs:
            run.write_epoch(
                epoch,
                step=10 * epoch,
                spectra=spectra_of("lora-r8", layers=6, modules=("query", "value"), epoch=epoch, seed=seed),
            )
    write_analysis(analyse(tmp_path / "study", draws=0))
    page = visit(tmp_path / "study" / "analysis" / "report.html")
    assert "A column averages 1 to 3 runs." in page.locator("#spectra .about").inner_text()
    assert page.locator("#courses .about").inner_text().endswith("A line for each run.")
    assert page.locator("#courses g[aria-label=line] path").count() == 3


def test_one_choice_applies_to_all_pictures(page: Any, folder: Path) -> None:
    for name, value in (("method", "lora-r8"), ("task", "stsb"), ("module", "value")):
        page.select_option(f"select[name={name}]", value)
    about = texts(page, "#spectra .about, #courses .about, #layers .about")
    assert [text.split(".")[0].split(", at")[0] for text in about] == ["LoRA r=8, stsb, value"] * 3
    assert page.locator("#matrices .about").inner_text().startswith("LoRA r=8, stsb, value")
    kl = pd.read_csv(folder / "kl-means.csv").query(
        "method == 'lora-r8' and task == 'stsb' and module == 'value' and scale == 'layer'"
    )
    kl = kl.set_index(["layer_from", "layer_to"])["kl"]
    assert f"{shown(kl[0, 1])} and back {shown(kl[1, 0])}" in page.locator("#matrices .detail").inner_text()
    assert len(texts(page, "#scores .plot svg")) == 1
    page.get_by_label("log scale").check()
    assert page.locator("#layers svg").count() == 1


def test_the_numbers_of_a_choice_are_those_of_its_rows(page: Any, folder: Path) -> None:
    page.select_option("select[name=task]", "mrpc")
    page.select_option("select[name=module]", "query")
    of_choice = "method == @METHOD and task == 'mrpc' and module == 'query'"
    means = {name: pd.read_csv(folder / f"{name}-means.csv").query(of_choice)
             for name in ("trajectory", "layer-spectra", "kl-difference")}  # fmt: skip
    rows = means["trajectory"].query("time == 3")
    measured = [[name, shown(entropy), shown(ratio)] for name, entropy, ratio in
                rows[["scale", "entropy_rank", "m_eff_1"]].itertuples(index=False)]  # fmt: skip
    assert [row.split("\t") for row in texts(page, "#spectra tbody tr")] == measured
    pair = means["kl-difference"].set_index(["layer_from", "layer_to"])
    detail = page.locator("#matrices .detail").inner_text()
    for column in ("kl", "kl_baseline", "difference"):
        assert f"{shown(pair.loc[(0, 1), column])} and back {shown(pair.loc[(1, 0), column])}" in detail
    assert "95% interval and p of the difference, all tasks and modules together" in detail
    page.select_option("select[name=show]", "KL of MSPLoRA 8/8/8")
    assert "95% interval\nnone: one number of all runs" in page.locator("#matrices .detail").inner_text()
    page.locator("#layers .plot svg[tabindex]").focus()
    page.keyboard.press("ArrowRight")
    first = means["layer-spectra"].query("scale == 'global' and k == 1")["sigma"].iloc[0]
    assert page.locator("#said").text_content() == f"global\nσ1 = {shown(first)}"


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
        heading.get_by_role("button").click()
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
    assert texts(page, "#pictures figcaption")[0].startswith("Singular values over training on MRPC, STS-B (minilm")
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
    assert page.locator("body script").count() == 5
    assert all(name in page.locator("main").inner_text() for name in HOSTILE)
    data = json.loads(page.locator("#data").text_content())
    assert data["titles"][method] == method


def test_a_page_of_three_tasks_two_methods_and_thirty_epochs_is_at_most_a_megabyte(tmp_path: Path) -> None:
    for task in ("mrpc", "stsb", "cola"):
        for seed in range(3):
            for method in ("lora-r8", METHOD):
                write_run(tmp_path / f"{task}-{method}-{seed}", method, task=task, seed=seed, layers=12, epochs=30)
    analysis = analyse(tmp_path, draws=0)
    path = write_report(analysis, tmp_path / "page.html", figures=draw_figures(analysis))
    assert path.stat().st_size < 950_000  # and null models


def test_where_all_choices_are_too_many_a_task_or_a_module_can_be_chosen(
    visit: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msplora_analysis.report.embedded._MOST", 2500)
    monkeypatch.setattr("msplora_analysis.report.embedded._MOST_OF_RUN", 0)
    page = visit(write_report(analyse(folder.parent, draws=0), tmp_path / "page.html"))
    assert "A task or a module" in page.locator("#choices").inner_text()
    page.select_option("select[name=task]", "mrpc")
    page.select_option("select[name=module]", "value")
    assert page.locator("select[name=task]").input_value() == ""
    figures = page.locator("#interactive > figure:visible")
    assert figures.count() == 5
    assert texts(page, "#spectra output") == ["3"]  # the last epoch is kept


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


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of an adapter, with the page that svd wrote before overlap and plan ran."""
    folder = tmp_path_factory.mktemp("kept") / "adapters"
    name = "base_model.model.encoder.layer.{}.self.{}.lora_{}.weight"
    for seed in (0, 1):
        random, place = np.random.default_rng(seed), folder / f"mrpc-seed{seed}"
        place.mkdir(parents=True)
        tensors = {
            name.format(layer, module, factor): random.standard_normal((24, 4) if factor == "B" else (4, 24))
            for layer in range(4) for module in ("query", "value") for factor in "AB"
        }  # fmt: skip
        save_file(tensors, place / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "base_model_name_or_path": "minilm"}
        (place / "adapter_config.json").write_text(json.dumps(config))
    write_analysis(analyse(folder, draws=0))
    refresh_page(write_overlap(overlap(folder))[-1].parent)
    refresh_page(write_plan(plan_ranks(load_spectra(folder), mean_rank=2), folder / "analysis" / "plan")[0].parent)
    return folder / "analysis"


def test_what_overlap_and_plan_found_is_put_into_the_page_and_stays(visit: Any, adapters: Path) -> None:
    page = visit(adapters / "report.html")
    before = page.locator("#directions").inner_text() + page.locator("#plan").inner_text()
    summary = json.loads((adapters / "overlap" / "summary.json").read_text())
    planned = json.loads((adapters / "plan" / "plan.json").read_text())
    assert all(text in before for text in [*summary["findings"], *planned["findings"]])
    assert page.locator("#sharing g.bar rect, #sharing g[aria-label=bar] rect").count() == 4
    assert page.locator("#ranks g[aria-label=bar] rect").count() == 8
    write_analysis(analyse(adapters.parent, draws=0))
    again = visit(adapters / "report.html")
    assert again.locator("#directions").inner_text() + again.locator("#plan").inner_text() == before


def test_cosines_are_in_the_matrices_and_are_those_of_the_file(visit: Any, adapters: Path) -> None:
    page = visit(adapters / "report.html")
    page.select_option("select[name=module]", "value")
    page.select_option("select[name=show]", "cosines of value")
    table = pd.read_csv(adapters / "overlap" / "cosines.csv").query(
        "module == 'value' and layer == 0 and other_layer == 1"
    )
    low, mean, high = (shown(value) for value in (table["cosine"].min(), table["cosine"].mean(), table["cosine"].max()))
    assert f"{mean}, {low} to {high} over 2 runs" in page.locator("#matrices .detail").inner_text()
    page.locator("#matrices .plot svg[tabindex]").focus()
    page.keyboard.press("ArrowLeft")
    assert "1 by definition" in page.locator("#matrices .detail").inner_text()


def test_tables_of_overlap_and_plan_are_the_csv_files(visit: Any, adapters: Path) -> None:
    page = visit(adapters / "report.html")
    for name in ("overlap/sharing", "overlap/subspaces"):
        expected = pd.read_csv(adapters / f"{name}.csv")
        rows = page.locator(f"table[data-name='{name}'] tbody tr")
        assert rows.count() == len(expected)
        header = texts(page, f"table[data-name='{name}'] th")
        column = header.index("null_common" if "sub" in name else "shared_by_all") + 1
        found = page.locator(f"table[data-name='{name}'] td:nth-child({column})")
        values = [float(found.nth(place).get_attribute("data-value")) for place in range(len(expected))]
        np.testing.assert_array_equal(values, expected[header[column - 1]])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"format": "msplora-overlap", "version": 9}', "'version': 9"),
        ('{"format": "msplora-overlap", "version": 1, "sharing": 3}', "expected a list of objects, found int"),
        ("<script>alert(1)</script>", "expected JSON in UTF-8"),
    ],
)
def test_results_that_cannot_be_read_are_named_and_the_page_is_written(
    visit: Any, tmp_path: Path, content: str, said: str
) -> None:
    run = write_run(tmp_path / "run", "lora-r4", layers=3)
    (run.path / "analysis" / "overlap").mkdir(parents=True)
    (run.path / "analysis" / "overlap" / "summary.json").write_text(content)
    page = visit(write_report(analyse(run.path, draws=0), tmp_path / "page.html"))
    assert said in page.locator("main").inner_text()
    assert page.locator("#directions").count() == 0


def test_cosines_between_scales_are_drawn_where_trainings_recorded_them(visit: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "study" / "mrpc", METHOD, task="mrpc", layers=4)
    write_run(tmp_path / "study" / "rte", METHOD, task="rte", layers=4)
    last = list(run.snapshots())[-1]
    for epoch in (4, 5):
        cosines = {"global-mid/query/0": np.array([-0.25, 0.1]), "mid-layer/query/0": np.array([0.125, 0.1])}
        run.write_snapshot(Snapshot(epoch, 10 * epoch, last.spectra, between_scales=cosines))
    page = visit(write_report(analyse(tmp_path / "study", draws=0), tmp_path / "page.html"))
    assert page.locator("#interference .plot g[aria-label=line] path").count() == 2
    assert "global and mid" in page.locator("#interference .legend").inner_text()
    page.select_option("select[name=task]", "rte")  # which recorded none
    assert page.locator("#interference").is_visible()
    assert ", all tasks," in page.locator("#interference .about").inner_text()


def test_on_paper_there_are_no_controls_and_tables_are_open(page: Any, folder: Path) -> None:
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("select:visible, input:visible, button.copy:visible, nav a:visible").count() == 0
    assert page.locator("#courses .legend .swatch:visible").count() == 3
    rows = page.locator("table[data-name=measures-by-run] tbody tr:visible").count()
    assert rows == len(pd.read_csv(folder / "measures-by-run.csv")) > 15


def test_on_paper_pictures_are_drawn_for_its_width(page: Any) -> None:
    width = "document.querySelector('#courses .plot svg').getAttribute('width')"
    wide = float(page.evaluate(width))
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert float(page.evaluate(width)) < 680 < wide
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert float(page.evaluate(width)) == wide


def test_a_table_goes_on_with_its_headings_on_the_next_sheet(page: Any) -> None:
    assert page.locator("thead button, thead input, thead select").count() == 0  # Chromium does not repeat these
    page.locator("table[data-name=measures] thead [role=button]").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("table[data-name=measures] th").first.get_attribute("aria-sort") == "ascending"


def test_what_all_rows_have_in_common_is_said_once(page: Any) -> None:
    table = page.locator("table[data-name=measures]")
    assert "model" not in texts(page, "table[data-name=measures] th")
    assert "In all rows: model minilm; runs 4." in table.locator("..").inner_text()


def test_the_axis_of_a_verdict_is_inside_its_card_on_paper(page: Any) -> None:
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    labels = page.locator("#verdicts .differences svg g[aria-label='x-axis label'] text")
    assert labels.count() > 0
    for place in range(labels.count()):
        card = labels.nth(place).locator("xpath=ancestor::*[local-name()='svg']").bounding_box()
        label = labels.nth(place).bounding_box()
        assert card["x"] <= label["x"]
        assert label["x"] + label["width"] <= card["x"] + card["width"] + 1


def test_on_a_phone_every_value_of_runs_and_findings_is_on_the_screen(visit: Any, tmp_path: Path) -> None:
    zero = {f"layer/query/{layer}": np.zeros(4) for layer in range(9)}
    run = write_run(tmp_path / "run", "lora-r4", layers=9, modules=("query",), epochs=1, spectra=lambda _: zero)
    path = write_report(analyse(run.path, draws=0), tmp_path / "page.html")
    page = visit(path, viewport={"width": 360, "height": 800})
    values = page.locator("#runs td, #findings td")
    boxes = [values.nth(place).bounding_box() for place in range(values.count())]
    assert len(boxes) == 8 + 5
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 360 for box in boxes)
    assert all(box["width"] > 250 for box in boxes)


def test_the_seed_of_the_null_models_is_with_where_the_page_comes_from(adapters: Path, tmp_path: Path) -> None:
    path = write_report(analyse(adapters.parent, draws=20), tmp_path / "page.html")
    assert "20 draws of the rotation null, seed 0" in path.read_text()


def test_an_untrained_adapter_has_no_empty_picture(visit: Any, tmp_path: Path) -> None:
    zero = {f"layer/query/{layer}": np.zeros(4) for layer in range(4)}
    run = write_run(tmp_path / "run", "lora-r4", layers=4, modules=("query",), epochs=1, spectra=lambda epoch: zero)
    page = visit(write_report(analyse(run.path, draws=0), tmp_path / "page.html"))
    assert texts(page, "#findings tbody td")[:3] == ["broken", "never trained", "all modules"]
    assert page.locator("#interactive > figure:visible").count() == 0
    assert page.locator("#nothing").is_visible()
