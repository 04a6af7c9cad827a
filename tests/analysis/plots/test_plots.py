"""Pictures draw what they are given, where they are told to, in colours and words that can be read."""

import itertools
import pickle
from dataclasses import replace

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import LogNorm, to_hex
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

from msplora_analysis import (
    analyse,
    average_spectra,
    kl_difference,
    load_spectra,
    measure,
    pairwise_spectral_kl,
    plot_comparison,
    plot_effective_rank,
    plot_kl_difference,
    plot_layer_spectra,
    plot_measures,
    plot_paired_differences,
    plot_pairwise_kl,
    plot_svd_heatmaps,
)
from msplora_analysis.courses import COURSE, SHARE, courses
from msplora_analysis.measures import BY
from msplora_analysis.plots.colours import SCALE_COLOURS
from msplora_analysis.plots.layer_spectra import plot_spectra_panels
from msplora_analysis.plots.lettering import m_eff
from msplora_analysis.plots.pairwise_kl import plot_kl_panels
from msplora_analysis.plots.paper import WIDTH, offscreen
from msplora_analysis.report.pictures import saved
from msplora_core.errors import ParameterError


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def found(_one_study):
    return analyse(_one_study)


@pytest.fixture
def spectra(make_run):
    return average_spectra(load_spectra(make_run(method="msplora-8-4-2").path))


@pytest.fixture
def difference():
    random = np.random.default_rng(0)
    return kl_difference(random.gamma(1.0, size=(6, 8)), random.gamma(1.0, size=(6, 8)))


def image(ax):
    (found,) = ax.get_images()
    return found


def words(figure):
    figure.canvas.draw()
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def test_heatmaps_show_the_average_singular_values(spectra):
    axes = plot_svd_heatmaps(spectra)
    assert [ax.get_title() for ax in axes] == ["global, r=8", "mid, r=4", "layer, r=2"]
    for ax, rank in zip(axes, (8, 4, 2), strict=True):
        shown = image(ax).get_array()
        assert shown.shape == (rank, 3)  # the zero spectra of epoch 0 are left out
        rows = spectra[(spectra["scale"] == ax.get_title().split(",")[0]) & (spectra["epoch"] > 0)]
        np.testing.assert_allclose(shown, rows["sigma"].to_numpy().reshape(3, rank).T)
    heights = [ax.get_position().height for ax in axes]
    assert heights[0] == pytest.approx(2 * heights[1])  # an index is as high in all panels


def test_heatmaps_have_one_colour_scale(spectra):
    limits = {image(ax).get_clim() for ax in plot_svd_heatmaps(spectra)}
    assert limits == {(0, spectra[spectra["scale"] != "total"]["sigma"].max())}


def test_heatmaps_write_the_ratios_beneath_and_which_way_they_point(spectra):
    axes = plot_svd_heatmaps(spectra)
    last = spectra[(spectra["epoch"] == 3) & (spectra["scale"] == "global")].set_index("k")["m_eff"]
    first, second, third = (f"{m_eff(k)} {last[k]:.2f}" for k in (1, 2, 4))
    assert axes[0].get_xlabel().split("\n") == ["epoch", f"{first} {second}", third]
    assert axes[2].get_xlabel().startswith(f"epoch\n{m_eff(1)}")
    assert m_eff(2) not in axes[2].get_xlabel()  # at rank 2 it is 1 by definition
    (foot,) = [text.get_text() for text in words(axes[0].figure) if "higher" in text.get_text()]
    assert "at epoch 3: share of the k largest; higher = more concentrated" in foot.replace("\n", " ")


def test_heatmaps_leave_a_missing_epoch_open(spectra):
    axes = plot_svd_heatmaps(spectra[spectra["epoch"] != 2])
    assert image(axes[0]).get_array().mask[:, 1].all()
    assert any("hatched: no value" in text.get_text() for text in words(axes[0].figure))


def test_an_untrained_adapter_is_said_to_be_one(spectra):
    untrained = spectra[spectra["epoch"] == 0]
    for ax in (plot_svd_heatmaps(untrained)[0], plot_layer_spectra(untrained.assign(unit=0))):
        assert image(ax).get_array().mask.all()
        assert any("untrained: every update is zero (B = 0)" in text.get_text() for text in words(ax.figure))


def test_an_untrained_adapter_has_its_words_in_the_panel_and_no_colour_bar(spectra):
    untrained = spectra[spectra["epoch"] == 0]
    assert [text.get_text() for text in plot_svd_heatmaps(untrained)[1].texts] == ["all zero"]
    ax = plot_layer_spectra(untrained.assign(unit=0))
    assert [text.get_text() for text in ax.texts] == ["untrained: every update is zero (B = 0)"]
    assert ax.figure.axes == [ax]


def test_index_labels_of_low_panels_do_not_touch(spectra, make_run):
    for method in ("msplora-8-8-8", "lora-r8", "lora-r14"):
        study = make_run(f"study/{method}", method).path.parent
    axes = plot_svd_heatmaps(average_spectra(courses(load_spectra(study)), COURSE))
    axes[0].figure.canvas.draw()
    for ax in axes[-2:]:
        boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
        assert len(boxes) > 2
        assert all(lower.y1 <= upper.y0 for upper, lower in itertools.pairwise(boxes))


@pytest.mark.parametrize("log", [False, True])
def test_checkpoints_at_unequal_steps_have_columns_at_their_places(spectra, log):
    times = {1: 0.1, 2: 0.2, 3: 1.0}
    course = spectra[spectra["epoch"] > 0].assign(
        time=lambda rows: rows["epoch"].map(times).astype(float), clock="share of training"
    )
    ax = plot_svd_heatmaps(course, log=log)[0]
    ax.figure.canvas.draw()
    edges = image(ax)._Ax  # the only record of the edges on a PcolorImage
    np.testing.assert_allclose(edges, [0.05, 0.15, 0.6, 1.4])
    assert ax.get_xlabel().startswith("share of training")


def test_colour_scales_can_be_given(spectra, difference):
    assert {image(ax).get_clim() for ax in plot_svd_heatmaps(spectra, vmin=0.5, vmax=2)} == {(0.5, 2)}
    assert image(plot_pairwise_kl(np.abs(difference), vmin=0, vmax=3)).get_clim() == (0, 3)
    assert image(plot_kl_difference(difference, vmin=-1, vmax=3)).get_clim() == (-1, 3)


def test_heatmaps_of_plain_lora_are_one_panel(make_run):
    (ax,) = plot_svd_heatmaps(average_spectra(load_spectra(make_run().path)))
    assert ax.get_title() == "layer, r=8"


def test_methods_stand_side_by_side_with_one_colour_scale(study):
    axes = plot_svd_heatmaps(average_spectra(load_spectra(study)))
    assert [ax.get_title() for ax in axes[:3]] == ["global, r=8", "mid, r=4", "layer, r=2"]
    assert [ax.get_title(loc="left").strip() for ax in axes] == ["MSPLoRA 8/4/2", "", "", "MSPLoRA 8/8/8", "", "", ""]
    assert axes[-1].get_title() == "LoRA r=8"
    assert len({image(ax).get_clim() for ax in axes}) == 1


def test_tasks_stand_side_by_side_on_request(study):
    spectra = average_spectra(load_spectra(study).query("method == 'msplora-8-4-2'"), ["task", *BY])
    axes = plot_svd_heatmaps(spectra, by="task")
    assert [ax.get_title(loc="left").strip() for ax in axes] == ["MRPC", "", "", "STS-B", "", ""]


def test_heatmaps_of_two_models_are_refused(spectra):
    import pandas as pd

    with pytest.raises(ParameterError, match="spectra: expected one method on one model"):
        plot_svd_heatmaps(pd.concat([spectra, spectra.assign(model="other")]))


def test_difference_is_centred_at_0_and_marks_the_adjacent_band(difference):
    ax = plot_kl_difference(difference, adjacent=0.0123)
    low, high = image(ax).get_clim()
    assert low == -high == -np.abs(difference).max()
    np.testing.assert_array_equal(image(ax).get_array(), difference)
    assert any("mean +0.0123 nats" in text.get_text() for text in words(ax.figure))
    upper, lower = (line.get_xydata() for line in ax.lines)
    for layer in range(6):  # at column `layer` the band runs from one row above to one below
        assert upper[layer, 1] == min(layer + 1.5, 5.5)
        assert lower[layer, 1] == max(layer - 1.5, -0.5)


def test_difference_shows_what_is_undefined(difference):
    difference[2, 3] = np.inf
    ax = plot_kl_difference(difference, adjacent=np.nan)
    assert image(ax).get_array().mask[2, 3]
    (foot,) = [text.get_text().replace("\n", " ") for text in words(ax.figure) if "adjacent" in text.get_text()]
    assert foot == "adjacent layers (outlined): mean undefined; hatched: undefined or infinite"


def test_objects_bring_layers_means_and_titles(found):
    layers, pair = found.layers[0], found.comparisons[0]
    ax = plot_pairwise_kl(layers)
    np.testing.assert_array_equal(image(ax).get_array(), layers.kl)
    seen = " ".join(text.get_text().replace("\n", " ") for text in words(ax.figure))
    assert "KL between layers: LoRA r=8 (minilm, 4 runs; query, value" in seen
    ax = plot_kl_difference(pair)
    np.testing.assert_array_equal(image(ax).get_array(), pair.difference)
    seen = " ".join(text.get_text().replace("\n", " ") for text in words(ax.figure))
    assert "KL between layers: MSPLoRA 8/4/2 minus LoRA r=8 (minilm, 4 pairs of runs" in seen
    assert f"{pair.adjacent['difference']:+.3g} nats".replace("-", "−") in seen


@pytest.mark.parametrize(("plot", "kind"), [(plot_kl_difference, "Comparison"), (plot_pairwise_kl, "LayerDivergence")])
def test_other_objects_are_refused(plot, kind):
    with pytest.raises(ParameterError, match=f"expected a {kind} or a matrix of layers by layers, found dict"):
        plot({"kl": 1})


@pytest.mark.parametrize("plot", [plot_kl_difference, plot_pairwise_kl])
def test_matrices_of_nothing_but_nan_zeros_or_one_layer_are_drawn(plot):
    for matrix in (np.full((4, 4), np.nan), np.zeros((4, 4)), np.zeros((1, 1))):
        plot(matrix).figure.canvas.draw()


@pytest.mark.parametrize("plot", [plot_kl_difference, plot_pairwise_kl])
def test_layers_are_named_along_both_axes(plot):
    ax = plot(np.zeros((3, 3)), layers=[2, 5, 11])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2", "5", "11"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["2", "5", "11"]


@pytest.mark.parametrize("plot", [plot_kl_difference, plot_pairwise_kl])
def test_what_is_no_matrix_of_layers_is_refused(plot):
    with pytest.raises(ParameterError, match=r"a matrix of layers by layers, found shape \(2, 3\)"):
        plot(np.zeros((2, 3)))
    with pytest.raises(ParameterError, match="layers: expected 2 names, one for each row, found 3"):
        plot(np.zeros((2, 2)), layers=[0, 1, 2])


def test_cells_that_are_not_decided_are_pale_and_the_others_signed(difference):
    decided = difference > np.quantile(difference, 0.9)
    ax = plot_kl_difference(difference, decided=decided)
    alpha = image(ax).get_alpha()
    assert (alpha[decided] == 1).all()
    assert (alpha[~decided] < 0.5).all()
    marks = [line for line in ax.lines if line.get_marker() == "+"]
    assert len(marks[0].get_xdata()) == decided.sum()
    with pytest.raises(ParameterError, match=r"decided: expected \(6, 6\)"):
        plot_kl_difference(difference, decided=decided[:2])


def test_small_differences_have_pale_colours():
    for plot in (plot_kl_difference, plot_pairwise_kl):
        assert image(plot(np.full((3, 3), 0.002))).get_clim()[1] == 0.05


def test_a_comparison_has_its_pairs_below(found):
    pair = found.comparisons[0]
    matrix, points = plot_comparison(pair, interval=(-0.1, 0.2), reach=3.0)
    assert image(matrix).get_clim() == (-3, 3)
    found = np.concatenate([line.get_xdata() for line in points.lines if line.get_marker() == "o"])
    np.testing.assert_allclose(found, pair.pairs["difference"])
    assert [label.get_text() for label in points.get_yticklabels()] == ["MRPC", "STS-B", "mean"]
    (mean,) = [line.get_xdata()[0] for line in points.lines if line.get_marker() == "D"]
    assert mean == pytest.approx(pair.pairs["difference"].mean())


def test_a_comparison_is_drawn_on_given_axes(found):
    pair = found.comparisons[0]
    figure, axes = plt.subplots(2, 1, layout="constrained")
    matrix, points = plot_comparison(pair, interval=(-0.1, 0.2), reach=3.0, ax=axes)
    assert [matrix, points] == list(axes)
    assert plt.get_fignums() == [figure.number]
    assert image(matrix).get_clim() == (-3, 3)
    assert [label.get_text() for label in points.get_yticklabels()] == ["MRPC", "STS-B", "mean"]
    with pytest.raises(ParameterError, match="ax: expected 2 axes: the matrix and the pairs of runs, found 1"):
        plot_comparison(pair, ax=axes[:1])


def test_small_differences_share_a_power_of_ten(found):
    pairs = found.comparisons[0].pairs
    ax = plot_paired_differences(pairs.assign(difference=pairs["difference"] * 1e-3))
    ax.figure.canvas.draw()
    assert "(nats), in units of 1e-" in ax.get_xlabel()
    assert ax.xaxis.get_offset_text().get_text() == ""
    assert all(abs(float(label.get_text().replace("−", "-"))) < 10 for label in ax.get_xticklabels())
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_pairwise_kl_starts_at_0():
    kl = pairwise_spectral_kl(np.random.default_rng(1).gamma(1.0, size=(5, 8)))
    ax = plot_pairwise_kl(kl, title="mine")
    assert image(ax).get_clim() == (0, kl.max())
    assert "mine" in [text.get_text() for text in words(ax.figure)]


def test_effective_ranks_stand_apart_by_rank(make_run):
    measured = measure(load_spectra(make_run(method="msplora-8-4-2").path))
    axes = plot_effective_rank(measured)
    assert [ax.get_ylabel() for ax in axes] == [m_eff(1), "entropy rank"] * 3  # ranks 2, 4, 8
    assert [len(ax.lines) for ax in axes] == [1] * 6
    assert axes[0].lines[0].get_color() == SCALE_COLOURS["layer"]
    last = measured[measured["scale"] == "global"]
    np.testing.assert_allclose(axes[4].lines[0].get_ydata(), last["m_eff_1"][1:])
    np.testing.assert_allclose(axes[5].lines[0].get_ydata(), last["entropy_rank"][1:])
    seen = " ".join(text.get_text().replace("\n", " ") for text in words(axes[0].figure))
    assert "higher = more concentrated" in seen
    assert "higher = broader" in seen


def test_effective_ranks_have_the_mean_and_range_of_the_runs(study):
    measured = measure(load_spectra(study), [*BY, "run"])
    one = measured[(measured["method"] == "lora-r8") & (measured["epoch"] > 0)]
    (ax,) = plot_effective_rank(one, measures=["m_eff_1"])
    by_epoch = one.groupby("epoch")["m_eff_1"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), by_epoch.mean())
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.min(), band.max()], [one["m_eff_1"].min(), one["m_eff_1"].max()])
    seen = " ".join(text.get_text().replace("\n", " ") for text in words(ax.figure))
    assert "line: mean of the runs; band: lowest to highest run" in seen


def test_methods_of_one_rank_have_lines_of_their_own(study):
    axes = plot_effective_rank(measure(load_spectra(study)))
    at_rank_8 = axes[-2]
    looks = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in at_rank_8.lines]
    assert len(set(looks)) == len(looks) == 5
    keys = [text.get_text() for text in at_rank_8.get_legend().get_texts()]
    assert keys[0] == "LoRA r=8"
    assert len(keys) == 5


@pytest.mark.parametrize("highest", [10.0, 10.001])
def test_ticks_at_the_upper_edge_do_not_touch_the_key(highest, study):
    measured = measure(load_spectra(study)).query("method != 'lora-r8' and rank == 8 and epoch > 0")
    ends = measured["entropy_rank"].agg(["min", "max"])
    scaled = 5 + (highest - 5) / 1.05 * (measured["entropy_rank"] - ends["min"]) / (ends["max"] - ends["min"])
    ax = plot_effective_rank(measured.assign(entropy_rank=scaled))[1]
    ax.figure.canvas.draw()
    low, high = ax.get_ylim()
    ticks = [label for label in ax.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert max(label.get_window_extent().y1 for label in ticks) <= ax.get_window_extent().y1 + 1


def test_runs_without_common_times_have_a_line_each(study):
    course = courses(load_spectra(study)).query("method == 'lora-r8'").assign(clock=SHARE)
    course["time"] = course["time"] / 3
    (ax,) = plot_effective_rank(measure(course, [*COURSE, "run"]), measures=["m_eff_1"])
    assert len(ax.lines) == 4
    assert not ax.collections


def nulls(by_run):
    kinds = by_run[["method", "scale", "rank"]].drop_duplicates()
    return kinds.assign(measure="m_eff_1", null="rotation", null_low=0.2, null_high=0.3)


def test_points_are_hollow_where_not_all_runs_have_them(make_run, tmp_path):
    for seed, epochs in enumerate((2, 3)):
        make_run(f"study/{seed}", "lora-r4", seed=seed, epochs=epochs)
    course = courses(load_spectra(tmp_path / "study"))
    (ax,) = plot_effective_rank(measure(course, [*COURSE, "run"]), measures=["entropy_rank"])
    mean, hollow = ax.lines
    assert mean.get_xdata().tolist() == [1, 2, 3]
    assert ax.collections[0].get_paths()[0].vertices[:, 0].max() == 2  # one run has no range
    assert (hollow.get_xdata().tolist(), hollow.get_markerfacecolor(), hollow.get_linestyle()) == ([3], "white", "None")
    assert any("hollow: fewer runs, down to 1" in text.get_text().replace("\n", " ") for text in words(ax.figure))


def test_measures_have_a_point_a_run_and_a_band_for_the_null(found):
    by_run = found.by_run
    axes = plot_measures(by_run, nulls=nulls(by_run), measures=["m_eff_1"])
    ranks = [ax.get_title(loc="left") for ax in axes]
    assert ranks == ["rank 2", "rank 4", "rank 8", "rank 14", "rank 24"]
    at_rank_8 = axes[2]
    names = [label.get_text() for label in at_rank_8.get_yticklabels()]
    assert names == ["LoRA r=8", "MSPLoRA 8/4/2, global", *(f"MSPLoRA 8/8/8, {s}" for s in SCALE_COLOURS)][:5]
    (points,) = at_rank_8.collections
    expected = by_run.query("method == 'lora-r8' and scale == 'layer'")["m_eff_1"]
    in_row_0 = np.abs(points.get_offsets()[:, 1]) < 0.5
    np.testing.assert_allclose(points.get_offsets()[in_row_0, 0], expected)
    assert {to_hex(colour) for colour in points.get_facecolors()[in_row_0]} == {SCALE_COLOURS["layer"].lower()}
    assert {(patch.get_x(), round(patch.get_width(), 9)) for patch in at_rank_8.patches} == {(0.2, 0.1)}
    assert any("grey: 95% of the rotation null" in text.get_text().replace("\n", " ") for text in words(axes[0].figure))


def test_measures_show_means_with_their_intervals(found):
    by_run = found.by_run.query("method == 'lora-r8'")
    means = by_run[["method", "scale", "rank"]].drop_duplicates()
    means = means.assign(measure="m_eff_1", mean=0.5, low=0.4, high=0.6)
    (ax,) = plot_measures(by_run, means=means, measures=["m_eff_1"])
    assert [list(line.get_xdata()) for line in ax.lines] == [[0.4, 0.6], [0.5]]


def test_measures_name_their_tasks_only_where_a_row_has_several(found):
    (ax,) = plot_measures(found.by_run.query("method == 'lora-r8'"), measures=["m_eff_1"])
    assert any("its task from top to bottom MRPC, STS-B" in text.get_text() for text in words(ax.figure))
    alone = found.by_run.query("method == 'lora-r8' and task == 'mrpc' or method == 'msplora-8-4-2' and task == 'stsb'")
    assert not any("its task" in text.get_text() for text in words(plot_measures(alone)[0].figure))


def test_long_names_of_measures_are_not_cut_off(found):
    long = found.by_run.assign(method=found.by_run["method"].astype(str) + "-random-labels")
    ax = plot_measures(long)[0]
    for text in words(ax.figure):
        assert text.get_window_extent().x0 >= 0
    labels = plot_measures(long)[-2].get_yticklabels()
    assert "MSPLoRA 8/8/8, random labels,\ntotal" in [label.get_text() for label in labels]


def test_measures_need_their_columns(found):
    with pytest.raises(ParameterError, match="by_run: expected a column m_eff_3"):
        plot_measures(found.by_run, measures=["m_eff_3"])


def test_layer_spectra_have_a_row_for_each_component(make_run):
    table = load_spectra(make_run(method="msplora-8-4-2").path).query("epoch == 3")
    by_unit = average_spectra(table, ["scale", "unit"])
    ax = plot_layer_spectra(by_unit)
    shown = image(ax).get_array()
    assert shown.shape == (1 + 3 + 6, 8)
    np.testing.assert_allclose(shown[0], by_unit.query("scale == 'global'")["sigma"])
    assert shown[-1].mask[2:].all()
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["global 0", "mid 0", "mid 1", "mid 2", "0", "1", "2", "3", "4", "5"]
    assert f"{shown[0, 0]:.1f}" in [text.get_text() for text in ax.texts]


def test_layer_spectra_of_several_moments_are_refused(make_run):
    spectra = average_spectra(load_spectra(make_run().path), ["epoch", "scale", "unit"])
    with pytest.raises(ParameterError, match="spectra: expected one spectrum for each scale and unit"):
        plot_layer_spectra(spectra)


def test_effective_rank_needs_its_columns(make_run):
    measured = measure(load_spectra(make_run().path))
    with pytest.raises(ParameterError, match="measured: expected a column m_eff_3"):
        plot_effective_rank(measured, measures=["m_eff_3"])


LONG = (
    "MSPLoRA 8/4/2 minus LoRA r=8 on stable-diffusion-v1-5\n"
    "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q, unet.mid_block.to_k and 30 more; 12 runs"
)


def draw(name, spectra, measured, ax=None):
    """Three panels at most: of the lists, as many as there are axes to draw on."""
    one = ax[0] if ax else None
    pairs = measured.assign(difference=0.1 * measured["m_eff_1"], task="mrpc", run="a")
    return {
        "svd": lambda: plot_svd_heatmaps(spectra, title=LONG, ax=ax),
        "difference": lambda: plot_kl_difference(np.eye(4), decided=np.eye(4), adjacent=0.5, title=LONG, ax=one),
        "pairwise": lambda: plot_pairwise_kl(np.eye(4), title=LONG, ax=one),
        "effective": lambda: plot_effective_rank(measured, measures=["m_eff_1"], title=LONG, ax=ax),
        "layers": lambda: plot_layer_spectra(spectra[spectra["epoch"] == 3].assign(unit=0), title=LONG, ax=one),
        "measures": lambda: plot_measures(
            pairs[(pairs["epoch"] == 3) & (pairs["scale"] != "total")], measures=["entropy_rank"], title=LONG, ax=ax
        ),
        "pairs": lambda: plot_paired_differences(pairs, title=LONG, ax=one),
    }[name]()


PLOTS = ["svd", "difference", "pairwise", "effective", "layers", "measures", "pairs"]


@pytest.mark.parametrize("name", PLOTS)
def test_given_axes_are_drawn_on_and_their_style_left_alone(name, make_run):
    table = load_spectra(make_run(method="msplora-8-4-2").path)
    figure, axes = plt.subplots(1, 3)
    returned = draw(name, average_spectra(table), measure(table), list(axes))
    drawn = returned if isinstance(returned, list) else [returned]
    assert drawn == list(axes)[: len(drawn)]
    assert (
        drawn[0].xaxis.label.get_fontsize() == FontProperties(size=mpl.rcParams["axes.labelsize"]).get_size_in_points()
    )
    assert plt.get_fignums() == [figure.number]


def grid_of_matrices(found, *, columns=2):
    """A plain grid with the matrices of a study, whose titles and notes have several lines."""
    figure, axes = plt.subplots(2, columns, figsize=(5 * columns, 9))
    for ax, one in zip(axes.flat, found.comparisons * columns, strict=False):
        plot_kl_difference(one, ax=ax)
    return figure, list(axes.flat)


def test_plots_in_a_plain_grid_keep_their_text_beside_their_own_axes(found):
    figure, axes = grid_of_matrices(found)
    figure.canvas.draw()
    assert figure.get_tightbbox().y0 >= 0  # the notes of the last row are not cut off
    boxes = {ax: ax.get_window_extent() for ax in figure.axes}
    bars = [ax for ax in figure.axes if ax not in axes]
    for ax, bar in zip(axes, bars, strict=True):
        assert boxes[bar].y0 == pytest.approx(boxes[ax].y0)
        assert boxes[bar].height == pytest.approx(boxes[ax].height)
    for ax in figure.axes:
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
            box = text.get_window_extent()
            assert not text.get_text() or not any(box.overlaps(other) for other in boxes.values())


def test_tight_layout_finds_room_for_colour_bars_and_notes(found, recwarn):
    figure, axes = grid_of_matrices(found, columns=3)
    heights = [ax.get_position().height for ax in axes]
    figure.tight_layout()
    assert not [one for one in recwarn if "tight_layout" in str(one.message)]
    figure.canvas.draw()
    assert all(ax.get_position().height > 0.6 * height for ax, height in zip(axes, heights, strict=True))
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    assert not any(one.padded(-1).overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_a_row_of_panels_in_a_plain_figure_has_one_colour_bar_in_its_grid(make_run, recwarn):
    spectra = average_spectra(load_spectra(make_run(method="msplora-8-4-2").path))
    figure, axes = plt.subplots(1, 3, figsize=(9, 3))
    plot_svd_heatmaps(spectra, ax=axes, title="mine")
    figure.tight_layout()
    assert not [one for one in recwarn if "tight_layout" in str(one.message)]
    assert len(figure.axes) == 4
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    assert not any(one.padded(-1).overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert len({round(ax.get_window_extent().y0) for ax in axes}) == 1


@pytest.mark.parametrize("name", PLOTS)
def test_new_figures_are_pyplots_and_one_column_wide_with_text_that_can_be_read(name, make_run):
    table = load_spectra(make_run(method="msplora-8-4-2").path)
    before = dict(mpl.rcParams)
    returned = draw(name, average_spectra(table), measure(table))
    figure = (returned[0] if isinstance(returned, list) else returned).figure
    assert plt.get_fignums() == [figure.number]
    assert figure.get_figwidth() == WIDTH == 3.3
    assert min(text.get_fontsize() for text in words(figure)) >= 6
    box, width, height = figure.get_tightbbox(), figure.get_figwidth(), figure.get_figheight()
    assert box.x0 >= -0.01
    assert box.y0 >= -0.01
    assert box.x1 <= width + 0.01
    assert box.y1 <= height + 0.01
    assert dict(mpl.rcParams) == before


def test_the_readers_style_is_obeyed():
    with mpl.rc_context({"font.size": 14, "figure.facecolor": "black", "axes.titlesize": 20}):
        ax = plot_pairwise_kl(np.eye(4), title="mine")
        assert ax.figure.get_figwidth() == 2 * WIDTH
        assert ax.figure.get_facecolor() == (0, 0, 0, 1)
        assert ax.xaxis.label.get_fontsize() == 14
        assert ax.title.get_fontsize() == 20


def test_offscreen_figures_are_not_pyplots(difference):
    with offscreen():
        plot_kl_difference(difference)
    assert plt.get_fignums() == []


def test_a_wrong_number_of_axes_is_refused(spectra):
    with pytest.raises(ParameterError, match="ax: expected 3 axes, for global, r=8, mid, r=4, "):
        plot_svd_heatmaps(spectra, ax=[plt.figure().add_subplot()])


def test_one_axes_and_grids_of_subplots_are_taken(spectra, make_run):
    _, grid = plt.subplots(3, 1)
    assert plot_svd_heatmaps(spectra, ax=grid) == list(grid)
    _, grid = plt.subplots(1, 2)
    measured = measure(load_spectra(make_run("one", "lora-r8").path))
    assert plot_effective_rank(measured, ax=grid[None]) == list(grid)
    assert plot_effective_rank(measured, measures=["entropy_rank"], ax=grid[0]) == [grid[0]]
    with pytest.raises(ParameterError, match=r"ax: expected 3 axes, for .*, found 1"):
        plot_svd_heatmaps(spectra, ax=grid[0])


def test_figures_of_tiny_values_can_be_sent_to_another_process():
    figure = plot_pairwise_kl(np.full((3, 3), 1e-7), vmax=2e-7).figure
    figure.canvas.draw()
    assert [label.get_text() for label in figure.axes[1].get_xticklabels() + figure.axes[1].get_yticklabels()]
    pickle.dumps(figure)


def test_names_of_layers_do_not_overlap_in_the_callers_axes():
    figure, axes = plt.subplots(2, 3, figsize=(12, 7), layout="constrained")
    plot_pairwise_kl(np.zeros((30, 30)), ax=axes[0, 0])
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axes[0, 0].get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


@pytest.mark.parametrize("name", PLOTS)
def test_a_grid_with_constrained_layout_holds_all_of_it(name, make_run):
    table = load_spectra(make_run(method="msplora-8-4-2").path)
    figure, axes = plt.subplots(2, 3, figsize=(9, 6), layout="constrained")
    for row in axes:
        draw(name, average_spectra(table), measure(table), list(row))
    figure.canvas.draw()
    box = figure.get_tightbbox()
    assert min(box.x0, box.y0) >= -0.01
    assert box.x1 <= 9.01
    assert box.y1 <= 6.01
    above, below = axes[0, 0].get_tightbbox(), axes[1, 0].get_tightbbox()
    assert below.y1 <= above.y0 + 1


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_saving_leaves_the_figure_as_it_was(kind):
    figure, ax = plt.subplots()
    text = ax.set_title("efficient")
    text.set_fontfeatures(["+smcp"])
    saved(figure, kind)
    assert list(text.get_fontfeatures()) == ["+smcp"]
    assert not ax.xaxis.label.get_fontfeatures()


def test_long_spectra_show_their_leading_values_and_how_many_there_are(make_run):
    spectra = average_spectra(load_spectra(make_run(method="msplora-64-32-16").path))
    seen = [image(ax).get_array().shape[0] for ax in plot_svd_heatmaps(spectra)]
    assert seen == [8, 8, 8]
    ax = plot_svd_heatmaps(spectra)[0]
    assert ax.get_title() == "global, r=64"
    assert any("8 of 64 singular values shown" in text.get_text() for text in words(ax.figure))
    assert [image(ax).get_array().shape[0] for ax in plot_svd_heatmaps(spectra, top=None)] == [64, 32, 16]


def test_layer_spectra_of_many_values_show_the_leading_ones_as_numbers(make_run):
    table = load_spectra(make_run(method="lora-r16").path).query("epoch == 3")
    ax = plot_layer_spectra(average_spectra(table, ["scale", "unit"]))
    assert image(ax).get_array().shape == (6, 8)
    assert len(ax.texts) == 6 * 8
    assert any("8 of 16 singular values shown" in text.get_text() for text in words(ax.figure))


def test_spectra_of_one_value_are_bars(make_run):
    table = load_spectra(make_run(method="lora-r1").path).query("epoch == 3 and scale == 'layer'")
    by_unit = average_spectra(table, ["scale", "unit"])
    ax = plot_layer_spectra(by_unit)
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], by_unit["sigma"])
    assert ax.figure.axes == [ax]  # no colours, no colour bar
    first, _ = plot_spectra_panels([("a", by_unit), ("b", by_unit.assign(sigma=by_unit["sigma"] * 100))])
    assert first.get_xlim()[1] < 2 * by_unit["sigma"].max()
    assert any("each panel has its own axis" in text.get_text() for text in words(first.figure))


def test_spectra_that_would_be_dark_are_logarithmic(make_run):
    table = load_spectra(make_run(method="lora-r4").path).query("epoch == 3")
    by_unit = average_spectra(table, ["scale", "unit"])
    assert not isinstance(image(plot_layer_spectra(by_unit)).norm, LogNorm)
    dark = by_unit.assign(sigma=by_unit["sigma"].where(by_unit["unit"] == 0, by_unit["sigma"] / 100))
    ax = plot_layer_spectra(dark)
    assert isinstance(image(ax).norm, LogNorm)
    assert any("mean singular value, logarithmic" in text.get_text() for text in words(ax.figure))
    assert not isinstance(image(plot_layer_spectra(dark, log=False)).norm, LogNorm)


def test_courses_that_would_be_dark_are_logarithmic(spectra):
    assert not isinstance(image(plot_svd_heatmaps(spectra)[0]).norm, LogNorm)
    steep = spectra.assign(sigma=spectra["sigma"] / 2.0 ** spectra["k"])
    assert isinstance(image(plot_svd_heatmaps(steep)[0]).norm, LogNorm)
    assert not isinstance(image(plot_svd_heatmaps(steep, log=False)[0]).norm, LogNorm)


@pytest.mark.parametrize("low", [1e-9, 1e-3, 0.02, 0.09])
def test_labels_of_a_logarithmic_colour_bar_do_not_touch(low, spectra):
    ax = plot_svd_heatmaps(spectra, log=True, vmin=low, vmax=0.9)[0]
    bar = ax.figure.axes[-1]
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in bar.get_xticklabels()]
    assert len(boxes) > 2
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    assert boxes[-1].x1 < ax.figure.bbox.x1


def test_the_number_at_the_end_of_a_colour_bar_is_not_cut_off(found):
    alike = replace(found.layers[0], kl=found.layers[0].kl * 1e-6)  # the bar then ends at a number, 0.05
    figure = plot_kl_panels([("one", alike), ("two", alike)])[0].figure
    figure.canvas.draw()
    numbers = [text.get_window_extent() for text in figure.axes[-1].get_xticklabels() if text.get_text() == "0.05"]
    assert [box.x1 <= figure.bbox.x1 for box in numbers] == [True]
