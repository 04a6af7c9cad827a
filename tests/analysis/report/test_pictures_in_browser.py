"""Axes, colours, legends and keys of the page's pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from msplora_analysis import analyse, write_analysis, write_report
from msplora_analysis.plots.colours import ALL_LAYERS_ALIKE, DISTINCT
from msplora_core.runs import Snapshot
from tests.analysis.conftest import write_run
from tests.analysis.report.test_page_in_browser import METHOD, score, shown

RED = "rgb(213, 94, 0)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An analysis of ten epochs of two methods on two tasks, with cosines between scales and null models."""
    study = tmp_path_factory.mktemp("pictures") / "study"
    for task in ("mrpc", "stsb"):
        for method in ("lora-r8", METHOD):
            run = write_run(study / f"{task}-{method}", method, task=task, layers=4, epochs=10)
            score(run, 10, 0.6)
            last = list(run.snapshots())[-1]
            for epoch in (11, 12) if method == METHOD else ():
                cosines = {f"{pair}/query/0": np.array([0.25, 0.1]) for pair in ("global-mid", "global-layer")}
                factors = {key: np.sqrt(sigma) for key, sigma in last.spectra.items()}
                run.write_snapshot(Snapshot(epoch, 10 * epoch, last.spectra, factors, factors, between_scales=cosines))
    write_analysis(analyse(study, draws=20))
    return study / "analysis"


def test_the_tenth_epoch_is_called_ten(page: Any) -> None:
    for picture in ("#courses", "#scores .several", "#spectra"):
        ticks = page.locator(f"{picture} g[aria-label='x-axis tick label'] text").all_text_contents()
        assert "10" in ticks
        assert not any("e" in tick for tick in ticks)


def test_a_logarithmic_legend_has_numbers_without_prefixes(page: Any) -> None:
    page.get_by_label("log scale").check()
    ticks = page.locator("#spectra .plot > div:first-child g[aria-label*='tick'] text, #spectra svg[class*=ramp] text")
    ticks = [text for text in ticks.all_text_contents() if text]
    assert any(text.startswith("0.") for text in ticks)
    assert not [text for text in ticks if text.endswith(("m", "k", "µ"))]


def test_the_arrow_key_reaches_every_value(page: Any, folder: Path) -> None:
    page.set_viewport_size({"width": 1500, "height": 900})  # all panels in one row
    page.locator("#layers .plot svg[tabindex]").focus()
    said = list[str]()
    for _ in range(200):
        page.keyboard.press("ArrowRight")
        text = page.locator("#said").text_content()
        if said and text == said[-1]:
            break
        said.append(text)
    table = pd.read_csv(folder / "layer-spectra-means.csv").fillna({"task": "", "module": ""})
    rows = table.query("task == '' and module == '' and method == @METHOD and scale != 'total'")
    names = {"global": "global"} | {"mid": "mid {}", "layer": "layer {}"}
    expected = [f"{names[row.scale].format(row.unit)}\nσ{row.k} = {shown(row.sigma)}" for row in rows.itertuples()]
    assert said == expected


@pytest.mark.parametrize("picture", ["#scores", "#interference", "#courses"])
def test_each_legend_of_lines_filters(page: Any, picture: str) -> None:
    lines = page.locator(f"{picture} g[aria-label=line] path")
    before = lines.count()
    box = page.locator(f"{picture} .legend input").first
    box.uncheck()
    assert 0 < lines.count() < before
    assert page.locator(f"{picture} .legend input").first.evaluate("box => box === document.activeElement")
    page.locator(f"{picture} .legend input").first.check()
    assert lines.count() == before


def test_colours_are_those_of_the_figures(page: Any) -> None:
    swatch = "swatch => getComputedStyle(swatch).backgroundColor"
    assert page.locator("#scores .legend .swatch").last.evaluate(swatch) == RED
    assert DISTINCT[1] == "#D55E00"
    assert page.locator("#interference .legend .swatch").first.evaluate(swatch) in (RED, "rgb(86, 180, 233)")
    page.select_option("select[name=compare]", "method")
    assert page.locator("#courses .legend .swatch").last.evaluate(swatch) == RED


def test_the_index_of_m_eff_is_set_lower(page: Any) -> None:
    page.select_option("select[name=measure]", "m_eff_1")
    label = page.locator("#courses .plot text", has_text="Meff-1 (higher")
    assert label.locator("tspan").all_text_contents() == ["eff-1", " (higher = more concentrated)"]
    assert page.locator("#spectra th", has_text="Meff-1").locator("sub").inner_text() == "eff-1"
    assert "M_eff" not in page.locator("main").evaluate(
        "main => [...main.querySelectorAll(':not(option, script, noscript)')].flatMap((one) => [...one.childNodes])"
        ".filter((one) => one.nodeType === 3).map((one) => one.data).join(' ')"
    )


def test_null_models_are_those_of_the_task_or_said_to_be_of_all_modules(page: Any, folder: Path) -> None:
    lines, about = page.locator("#courses g.null line"), page.locator("#courses .about")
    nulls = pd.read_csv(folder / "measure-means.csv").query(
        "method == @METHOD and measure == 'entropy_rank' and scale != 'total'"
    )
    heights = {}
    for task in ("", "mrpc"):
        page.select_option("select[name=task]", task)
        assert lines.count() == len(nulls[nulls["task"].fillna("") == task]) == 3
        heights[task] = lines.first.get_attribute("y1")
        assert "null model" in about.inner_text()
    assert heights[""] != heights["mrpc"]
    page.select_option("select[name=module]", "value")
    assert lines.count() == 0
    assert "No null model: it is of all modules together." in about.inner_text()


def test_missing_values_are_last_in_both_directions(page: Any) -> None:
    table = page.locator("table[data-name=measures-by-run]")
    heading = table.locator("th", has_text="m_eff_8")
    column = heading.evaluate("cell => cell.cellIndex + 1")
    for sign in (1, -1):
        heading.get_by_role("button").click()
        values = table.locator(f"td:nth-child({column})").all_text_contents()
        known = [float(value) for value in values if value != "–"]
        assert values[len(known) :] == ["–"] * (len(values) - len(known))
        assert 0 < len(known) < len(values)
        assert known == sorted(known, key=lambda value: sign * value)


def test_small_differences_between_layers_look_small(visit: Any, tmp_path: Path) -> None:
    """As of random factors: the colours reach as far as in the figure, not to the largest of tiny numbers."""
    random = np.random.default_rng(0)
    alike = {f"layer/query/{layer}": np.sort(8 + random.uniform(0, 0.01, 8))[::-1].copy() for layer in range(4)}
    run = write_run(tmp_path / "run", "lora-r8", layers=4, modules=("query",), epochs=1, spectra=lambda _: alike)
    page = visit(write_report(analyse(run.path, draws=0), tmp_path / "page.html"))
    legend = page.locator("#matrices .plot svg").first.locator("text")
    ticks = [float(text) for text in legend.all_text_contents() if text[:1].isdigit()]
    assert max(ticks) == ALL_LAYERS_ALIKE


def test_random_factors_are_said_to_be_like_chance(visit: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tensors = {f"base_model.model.layers.{layer}.query.lora_{factor}.weight":
               random.standard_normal((24, 4) if factor == "B" else (4, 24), dtype=np.float32)
               for layer in range(4) for factor in "AB"}  # fmt: skip
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "base_model_name_or_path": "minilm"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    page = visit(write_report(analyse(tmp_path), tmp_path / "page.html"))
    words = "o different from chance: entropy rank within 95% of the rotation null"
    assert f"n{words}" in page.locator("#runs").inner_text()
    for picture in ("#layers", "#matrices"):
        assert f"N{words}" in page.locator(f"{picture} .about").inner_text()
    assert "was trained" not in page.locator("#findings").inner_text()
