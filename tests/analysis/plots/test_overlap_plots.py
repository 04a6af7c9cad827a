"""Pictures of directions draw the numbers that they are given, and leave open what is undefined."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from msplora_analysis import update_cosines
from msplora_analysis.plots.cosine_courses import plot_interference
from msplora_analysis.plots.energy_shares import plot_energy_shares
from msplora_analysis.plots.intruder_cosines import plot_intruders
from msplora_analysis.plots.layer_cosines import plot_layer_cosines
from msplora_analysis.plots.sharing_course import plot_sharing_course
from msplora_analysis.plots.subspace_grid import plot_subspace_similarity
from msplora_core.errors import ParameterError
from msplora_core.linalg.updates import LowRankUpdate


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def words(ax):
    return " ".join(text.get_text().replace("\n", " ") for text in ax.figure.findobj(Text) if text.get_visible())


def inside(figure):
    """Whether no text is cut off at the edge of the figure; ticks beyond an axis' limits are not drawn."""
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    drawn = [box for box in boxes if box.x1 > 0 and box.x0 < figure.bbox.x1]
    return all(box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1 for box in drawn)


def cells(ax):
    (image,) = ax.get_images()
    return image.get_array()


def test_few_cosines_have_their_numbers_unless_all_are_small():
    cosines = np.array([[1.0, -0.35, np.nan], [-0.35, 1.0, 0.004], [np.nan, 0.004, 1.0]])
    assert [text.get_text() for text in plot_layer_cosines(cosines).texts] == ["−0.35", "−0.35", "0.00", "0.00"]
    assert not plot_layer_cosines(cosines / 10).texts
    assert not plot_layer_cosines(np.full((9, 9), 0.5)).texts


def test_cosines_of_zero_updates_are_left_open():
    random = np.random.default_rng(0)
    updates = [LowRankUpdate(random.normal(size=(6, 2)), random.normal(size=(2, 6))) for _ in range(3)]
    updates.append(LowRankUpdate(np.zeros((6, 2)), random.normal(size=(2, 6))))
    cosines = update_cosines(updates)
    ax = plot_layer_cosines(cosines, bound=0.01, title="LoRA r=2")
    shown = cells(ax)
    assert shown.mask[3, :3].all()
    assert shown.mask[:3, 3].all()
    np.testing.assert_allclose(shown[0, 1], cosines[0, 1])
    assert not np.diag(shown)[:3].any()
    assert "hatched: undefined or infinite" in words(ax)
    assert inside(ax.figure)


def test_cosines_have_a_scale_that_reaches_the_bound_and_shows_it():
    ax = plot_layer_cosines([[1.0, 0.02], [0.02, 1.0]], bound=0.05, layers=["4", "9"], name="adapter")
    (image,) = ax.get_images()
    assert image.get_clim() == (-0.05, 0.05)
    bar = ax.figure.axes[-1]
    assert sorted(line.get_ydata()[0] for line in bar.lines) == [-0.05, 0.05]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4", "9"]
    assert (ax.get_ylabel(), bar.get_ylabel()) == ("adapter", "cosine")
    assert plot_layer_cosines(np.full((3, 3), np.nan)).get_images()[0].get_clim() == (-1, 1)


SHARES = pd.DataFrame(
    {"shared_by_all": [0.4, np.nan], "shared_by_groups": [0.35, np.nan], "own": [0.25, np.nan],
     "null_shared_by_all": [0.25, 0.25], "null_shared_by_groups": [0.5, 0.5], "null_own": [0.25, 0.25]}
)  # fmt: skip


def test_shares_are_bars_side_by_side_with_the_null_below():
    labels = ["MSPLoRA 8/8/8, total, query", "MSPLoRA 8/8/8, random labels, total, query"]
    ax = plot_energy_shares(SHARES, labels, title="What layers share")
    widths = {container.get_label(): [bar.get_width() for bar in container] for container in ax.containers[:3]}
    assert {name: values[0] for name, values in widths.items()} == {"all layers": 0.4, "groups": 0.35, "own": 0.25}
    assert [container[0].get_x() for container in ax.containers[:3]] == [0.0, 0.4, 0.75]
    assert [container[1].get_width() for container in ax.containers[3:]] == [0.25, 0.5, 0.25]
    assert all(container[0].get_y() > 0 for container in ax.containers[3:])
    assert "no bar: every update is zero" in words(ax)
    shown = [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()]
    assert shown == labels  # whole: what tells two rows apart stands in the middle
    assert inside(ax.figure)


def test_the_last_number_of_the_axis_of_shares_is_not_cut_off():
    assert inside(plot_energy_shares(SHARES, ["a", "b"]).figure)


def test_shares_need_a_label_for_each_row():
    with pytest.raises(ParameterError, match="labels: expected 2, one for each row, found 1"):
        plot_energy_shares(SHARES, ["a"])


def test_a_course_has_the_mean_and_the_range_of_its_runs():
    rows = [("lora-r8", run, epoch, epoch * shift, 0.01) for run, shift in (("a", 0.1), ("b", 0.3)) for epoch in (1, 2)]
    rows.append(("lora-r8", "a", 0, np.nan, np.nan))  # before the first step
    course = pd.DataFrame(rows, columns=["method", "run", "epoch", "excess", "deviation_own"])
    ax = plot_sharing_course(course)
    line = ax.get_lines()[0]
    assert line.get_xydata().tolist() == [[1.0, pytest.approx(0.2)], [2.0, pytest.approx(0.4)]]
    band = ax.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (pytest.approx(0.1), pytest.approx(0.6))
    assert ax.patches[0].get_height() == pytest.approx(0.04)  # two deviations on each side of 0
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["LoRA r=8, 2 runs"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "shared beyond chance")
    assert inside(ax.figure)


def test_over_shares_of_training_each_run_has_its_own_line():
    times = {"a": (0.5, 1.0), "b": (0.3, 0.6, 1.0)}
    rows = [("lora-r8", run, "share of training", time, time / 10, 0.01) for run in times for time in times[run]]
    ax = plot_sharing_course(pd.DataFrame(rows, columns=["method", "run", "clock", "time", "excess", "deviation_own"]))
    assert [len(line.get_xdata()) for line in ax.get_lines() if len(line.get_xdata())] == [2, 3]
    assert not ax.collections
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["LoRA r=8, 2 runs"]


def test_subspaces_have_a_panel_a_side_with_one_colour_scale():
    inputs, outputs = np.full((8, 8), 0.0812), np.full((8, 8), 0.0104)
    outputs[0, 0] = np.nan
    axes = plot_subspace_similarity({"inputs": inputs, "outputs": outputs}, names=("i", "j of the next"))
    assert [ax.get_title() for ax in axes] == ["inputs", "outputs"]
    assert {ax.get_images()[0].get_clim() for ax in axes} == {(0.0, 0.0812)}
    assert cells(axes[1]).mask.sum() == 1
    assert [label.get_text() for label in axes[0].get_xticklabels()] == list("12345678")
    assert axes[0].get_ylabel() == "i"
    assert axes[1].get_xlabel() == "j of the next"
    assert inside(axes[0].figure)
    with pytest.raises(ParameterError, match="grids: expected a matrix for each side"):
        plot_subspace_similarity({"inputs": np.zeros(3)})


def test_intruders_are_points_by_layer_below_a_line():
    directions = pd.DataFrame(
        {"module": ["query", "query", "value", "value"], "layer": [0, 1, 0, 1], "cosine": [0.9, 0.2, 0.8, np.nan]}
    )
    ax = plot_intruders(directions, epsilon=0.5)
    heights = np.concatenate([points.get_offsets()[:, 1] for points in ax.collections])
    assert sorted(heights[np.isfinite(heights)].tolist()) == [0.2, 0.8, 0.9]
    assert ax.lines[-1].get_ydata()[0] == 0.5
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["query", "value"]
    assert inside(ax.figure)


def test_the_legend_of_many_modules_is_inside_and_apart_from_the_note():
    names = [f"down_blocks.{block}.{name}" for block in range(7) for name in ("conv1", "to_q")]
    ax = plot_intruders(pd.DataFrame({"module": names, "layer": 0, "cosine": 0.5}))
    assert inside(ax.figure)
    ax.figure.draw_without_rendering()
    legend, (_, note) = ax.get_legend(), ax.figure.texts
    assert legend.get_window_extent().y0 >= note.get_window_extent().y1
    assert len({tuple(handle.get_markerfacecolor()) for handle in legend.legend_handles}) == 14


def test_interference_has_a_line_a_pair_and_a_band_over_runs():
    rows = [("scales", "global-mid", epoch, 0.1 * epoch, 0.05, 0.4, 3) for epoch in (1, 2)]
    rows += [("layers", "mid", epoch, -0.1, np.nan, np.nan, 3) for epoch in (1, 2)]
    columns = ["between", "pair", "epoch", "cosine", "low", "high", "runs"]
    courses = pd.DataFrame(rows, columns=columns).assign(method="msplora-8-4-2")
    scales, layers = plot_interference(courses)
    assert scales.get_lines()[1].get_ydata().tolist() == [0.1, 0.2]
    vertices = scales.collections[0].get_paths()[0].vertices
    assert (vertices[:, 1].min(), vertices[:, 1].max()) == (0.05, 0.4)
    labels = [ax.get_legend().get_texts()[0].get_text() for ax in (scales, layers)]
    assert labels == ["global and mid", "of mid"]
    assert "line: mean of 3 runs; band: its 95% interval about these tasks" in words(scales)
    assert inside(scales.figure)
    with pytest.raises(ParameterError, match="courses: expected cosines of one method"):
        plot_interference(courses.iloc[:0])
