"""What `overlap` found, in the page: what layers share over training, and their leading directions."""

import json
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from safetensors.numpy import save_file

from msplora_analysis import analyse, overlap, write_report
from msplora_analysis.plots.colours import SCALE_COLOURS
from msplora_analysis.report.kept_section import refresh_page
from msplora_analysis.report.overlap_files import write_overlap
from msplora_analysis.report.overlap_pictures import draw_overlap
from msplora_analysis.report.packing import packed
from tests.analysis.report.test_page_in_browser import shown, texts, tip

NAME = "base_model.model.encoder.layer.{}.self.{}.lora_{}.weight"
LAYERS, MODULES = range(4), ("query", "value")


def train(folder: Path, rank: int, seed: int, steps: tuple[int, ...]) -> None:
    """Checkpoints of a training in which the layers come to share their directions."""
    random = np.random.default_rng(seed)
    keys = [(layer, module, side) for layer in LAYERS for module in MODULES for side in "AB"]
    shapes = {"A": (rank, 24), "B": (24, rank)}
    own, shared = ({key: random.standard_normal(shapes[key[2]]) for key in keys} for _ in range(2))
    for step in steps:
        place, weight = folder / f"checkpoint-{step}", step / 50
        place.mkdir(parents=True)
        tensors = {NAME.format(*key): own[key] + weight * shared[0, *key[1:]] for key in keys}
        save_file(tensors, place / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "base_model_name_or_path": "minilm"}
        (place / "adapter_config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods, of which `overlap` measured the one with the higher rank."""
    folder = tmp_path_factory.mktemp("directions") / "study"
    for seed, task in enumerate(("mrpc", "rte")):
        train(folder / "wide" / f"{task}-r4", 4, seed, (10, 50))
        train(folder / "narrow" / f"{task}-r2", 2, seed, (50,))
    found = overlap(folder / "wide")
    write_overlap(found, folder / "analysis" / "overlap", figures=islice(draw_overlap(found), 2))
    write_report(analyse(folder, draws=0), folder / "analysis" / "report.html")
    return folder / "analysis"


def test_the_method_that_was_measured_is_shown_first_and_others_say_where(visit: Any, study: Path) -> None:
    page = visit(study / "report.html")
    assert page.locator("select[name=method]").input_value() == "lora-r4"
    assert page.locator("#directions > figure:visible").count() == 4
    assert not page.locator("#elsewhere").is_visible()
    page.select_option("select[name=method]", "lora-r2")
    assert page.locator("#directions > figure:visible").count() == 0
    assert "It measured LoRA r=4" in page.locator("#elsewhere").inner_text()


def test_shares_have_the_colours_of_scales_as_in_the_figure(visit: Any, study: Path) -> None:
    page = visit(study / "report.html")
    swatches = page.locator("#sharing .swatch")
    colours = [swatches.nth(place).evaluate("one => getComputedStyle(one).backgroundColor") for place in (0, 1)]
    expected = [tuple(bytes.fromhex(SCALE_COLOURS[scale][1:])) for scale in ("global", "mid")]
    assert colours == [f"rgb{one}" for one in expected]


def test_leading_directions_are_those_of_the_file(visit: Any, study: Path) -> None:
    page = visit(study / "report.html")
    summary = json.loads((study / "overlap" / "summary.json").read_text())
    cells = page.locator("#grids g[aria-label=rect] rect")
    assert cells.count() == len(MODULES) * 2 * 16
    page.select_option("select[name=module]", "value")
    for task in ("", "rte"):
        page.select_option("select[name=task]", task)
        assert cells.count() == 2 * 16
        grids = [one["phi"] for one in summary["grids"]
                 if one["module"] == "value" and one["side"] == "inputs" and task in one["run"]]  # fmt: skip
        assert len(grids) == (1 if task else 2)
        cells.nth(1 * 4 + 2).hover()
        phi = np.mean(grids, axis=0)[1, 2]
        means = pd.read_csv(study / "overlap" / "phi-means.csv").fillna({"task": ""})
        one = means.query("task == @task and module == 'value' and side == 'inputs' and i == 2 and j == 3")
        assert_allclose(one["phi"], [phi])
        assert f"φ(2, 3) = {shown(phi)}; random {shown(3 / 24)}" in tip(page, "#grids")


def test_the_arrow_keys_reach_the_values_of_each_picture(visit: Any, study: Path) -> None:
    page = visit(study / "report.html")
    pictures = page.locator(".plot svg[aria-label]:visible, .differences svg[aria-label]:visible")
    assert pictures.count() >= 8
    assert all(pictures.nth(place).get_attribute("tabindex") == "0" for place in range(pictures.count()))
    page.select_option("select[name=module]", "value")
    page.locator("#grids .plot svg[tabindex]").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    summary = json.loads((study / "overlap" / "summary.json").read_text())
    phi = np.mean([one["phi"] for one in summary["grids"]
                   if one["module"] == "value" and one["side"] == "inputs"], axis=0)[1, 2]  # fmt: skip
    said = page.locator("#said").text_content()
    assert said == f"value, inputs\nφ(2, 3) = {shown(phi)}; random {shown(3 / 24)}"
    assert f"φ(2, 3) = {shown(phi)}" in tip(page, "#grids")
    page.keyboard.press("Escape")
    assert tip(page, "#grids") == ""
    page.locator("#subspaces .plot svg[tabindex]").focus()
    page.keyboard.press("ArrowRight")
    table = pd.read_csv(study / "overlap" / "subspaces.csv").query("module == 'value' and side == 'inputs'")
    assert f"φ of neighbours {shown(table['neighbours'].mean())}" in page.locator("#said").text_content()


def test_cosines_are_the_means_of_the_table(visit: Any, study: Path) -> None:
    page = visit(study / "report.html")
    table = pd.read_csv(study / "overlap" / "cosine-means.csv").fillna({"task": ""}).set_index("task")
    cosines, sharing = (pd.read_csv(study / "overlap" / f"{name}.csv") for name in ("cosines", "sharing"))
    bounds = sharing.set_index(["run", "module"])["cosine_bound"]
    page.select_option("select[name=show]", "cosines of query")
    for task in ("", "rte"):
        page.select_option("select[name=task]", task)
        runs = [run for run in ("mrpc-r4", "rte-r4") if task in run]
        pair = cosines.query("run in @runs and module == 'query' and layer == 1 and other_layer == 2")
        one = table.loc[task].query("module == 'query' and layer == 1 and other_layer == 2").iloc[0]
        bound = np.mean([bounds[run, "query"] for run in runs]) / len(runs) ** 0.5
        assert_allclose(one[["cosine", "bound", "runs"]].astype(float), [pair["cosine"].mean(), bound, len(runs)])
        said = page.locator("#matrices .about").inner_text()
        assert f"none lies beyond ±{float(f'{bound:.2g}'):g} (with" in said


def test_without_javascript_the_pictures_of_overlap_are_there_with_their_titles(visit: Any, study: Path) -> None:
    page = visit(study / "report.html", java_script_enabled=False)
    images = page.locator("#directions img")
    assert images.count() == 2
    assert all(images.nth(place).bounding_box()["height"] > 100 for place in range(2))
    captions = texts(page, "#directions figcaption")
    assert captions[0].startswith("Cosines between layers: LoRA r=4 on MRPC, RTE")
    assert images.first.get_attribute("alt") == captions[0]


@pytest.mark.parametrize("name", ["../outside.svg", "cosines-lora-r4-layer-query.png", "absent.svg", 3])
def test_only_pictures_that_overlap_wrote_are_shown(study: Path, tmp_path: Path, name: Any) -> None:
    folder = shutil.copytree(study, tmp_path / "analysis")
    (folder / "outside.svg").write_text("<svg/>")
    summary = json.loads((folder / "overlap" / "summary.json").read_text())
    (folder / "overlap" / "summary.json").write_text(json.dumps(summary | {"pictures": [name]}))
    assert refresh_page(folder / "overlap")
    assert "<img" not in (folder / "report.html").read_text()


def test_cosines_of_layers_without_shapes_have_no_bound(visit: Any, study: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(study, tmp_path / "analysis")
    summary = json.loads((folder / "overlap" / "summary.json").read_text())
    for row in summary["sharing"]:
        row["cosine_bound"] = None
    (folder / "overlap" / "summary.json").write_text(json.dumps(summary))
    assert refresh_page(folder / "overlap")
    page = visit(folder / "report.html")
    page.select_option("select[name=show]", "cosines of query")
    assert page.locator("#matrices .about").inner_text().endswith("cosines between updates.")
    cosines = pd.read_csv(study / "overlap" / "cosines.csv").query(
        "module == 'query' and layer == 0 and other_layer == 1"
    )
    assert f"cosine of query\n{shown(cosines['cosine'].mean())}," in page.locator("#matrices .detail").inner_text()


def test_the_course_is_that_of_the_table(visit: Any, study: Path) -> None:
    page = visit(study / "report.html")
    course, means = (pd.read_csv(study / "overlap" / f"{name}.csv") for name in ("course", "course-means"))
    data = json.loads(page.locator("#kept-data").text_content())["summary"]["course"]
    assert data["excess"] == {"numbers": packed(means["excess"])}
    all_runs = means[means["task"].isna() & means["module"].isna()].set_index("time")
    of_runs = course.groupby(["run", "step"])["excess"].mean().groupby("step").agg(["mean", "min", "max", "size"])
    assert_allclose(all_runs[["excess", "excess_low", "excess_high", "runs"]], of_runs)
    assert page.locator("#sharing-course g[aria-label=line] path").count() == len(MODULES)
    assert page.locator("#sharing-course g[aria-label=rect] rect").count() == 1
    page.select_option("select[name=shared]", "task")
    assert texts(page, "#sharing-course .legend > label") == ["mrpc", "rte"]
    page.get_by_label("mrpc", exact=True).uncheck()
    assert page.locator("#sharing-course g[aria-label=line] path").count() == 1
    page.select_option("select[name=task]", "rte")
    page.select_option("select[name=shared]", "module")
    page.locator("#sharing-course .plot svg").hover(position={"x": 1000, "y": 60})
    here = tip(page, "#sharing-course")
    assert "step 50" in here
    last = course[(course["run"] == "rte-r4") & (course["step"] == 50)].set_index("module")["excess"]
    assert any(shown(value) in here for value in last)


def test_a_course_without_the_end_of_its_runs_is_left_out(study: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(study, tmp_path / "analysis")
    summary = json.loads((folder / "overlap" / "summary.json").read_text())
    (folder / "overlap" / "summary.json").write_text(json.dumps(summary | {"sharing": []}))
    assert refresh_page(folder / "overlap")
    assert '"course":{}' in (folder / "report.html").read_text()
