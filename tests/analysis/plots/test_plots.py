"""Pictures draw what they are given, where they are told to, in colours and words that can be read."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

from msplora_analysis import (
    analyse,
    average_spectra,
    kl_difference,
    load_spectra,
    measure,
    pairwise_spectral_kl,
    plot_effective_rank,
    plot_kl_difference,
    plot_layer_spectra,
    plot_pairwise_kl,
    plot_svd_heatmaps,
)
from msplora_analysis.courses import COURSE, SHARE, courses
from msplora_analysis.measures import BY
from msplora_analysis.plots.canvas import M_EFF, WIDTH, offscreen
from msplora_analysis.plots.colours import SCALE_COLOURS
from msplora_analysis.report.writing import saved
from msplora_core.errors import ParameterError


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


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
    assert [ax.get_title() for ax in axes] == ["global (rank 8)", "mid (rank 4)", "layer (rank 2)"]
    for ax, rank in zip(axes, (8, 4, 2), strict=True):
        shown = image(ax).get_array()
        assert shown.shape == (8, 3)  # the zero spectra of epoch 0 are left out
        rows = spectra[(spectra["scale"] == ax.get_title().split()[0]) & (spectra["epoch"] > 0)]
        np.testing.assert_allclose(shown[:rank], rows["sigma"].to_numpy().reshape(3, rank).T)
        assert shown.mask[rank:].all()
        assert not shown.mask[:rank].any()


def test_heatmaps_have_one_colour_scale(spectra):
    limits = {image(ax).get_clim() for ax in plot_svd_heatmaps(spectra)}
    assert limits == {(0, spectra[spectra["scale"] != "total"]["sigma"].max())}


def test_heatmaps_write_the_ratios_beneath_and_which_way_they_point(spectra):
    axes = plot_svd_heatmaps(spectra)
    last = spectra[(spectra["epoch"] == 3) & (spectra["scale"] == "global")].set_index("k")["m_eff"]
    expected = [f"{M_EFF}-{k}: {last[k]:.2f}" for k in (1, 2, 4)]
    assert axes[0].get_xlabel().split("\n") == ["epoch", *expected]
    assert axes[2].get_xlabel().endswith(f"{M_EFF}-2: -\n{M_EFF}-4: -")
    (foot,) = [text.get_text() for text in words(axes[0].figure) if "higher" in text.get_text()]
    assert foot.replace("\n", " ") == (f"{M_EFF} at epoch 3: higher = more concentrated; hatched: beyond the rank")


def test_heatmaps_leave_a_missing_epoch_open(spectra):
    axes = plot_svd_heatmaps(spectra[spectra["epoch"] != 2])
    assert image(axes[0]).get_array().mask[:, 1].all()
    assert any("hatched: no value" in text.get_text() for text in words(axes[0].figure))


def test_heatmaps_of_zeros_alone_are_drawn(spectra):
    axes = plot_svd_heatmaps(spectra[spectra["epoch"] == 0])
    assert image(axes[0]).get_array().max() == 0


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
    assert ax.get_title() == "layer (rank 8)"


def test_heatmaps_of_two_methods_are_refused(study):
    with pytest.raises(ParameterError, match="spectra: expected one method on one model"):
        plot_svd_heatmaps(average_spectra(load_spectra(study)))


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


def test_objects_bring_layers_means_and_titles(study):
    found = analyse(study)
    layers, pair = found.layers[0], found.comparisons[0]
    ax = plot_pairwise_kl(layers)
    np.testing.assert_array_equal(image(ax).get_array(), layers.kl)
    seen = " ".join(text.get_text() for text in words(ax.figure))
    assert "LoRA r=8 on minilm" in seen
    assert "4 runs" in seen
    ax = plot_kl_difference(pair)
    np.testing.assert_array_equal(image(ax).get_array(), pair.difference)
    seen = " ".join(text.get_text() for text in words(ax.figure))
    assert "MSPLoRA 8/4/2 minus LoRA r=8 on minilm" in seen
    assert f"{pair.adjacent['difference']:+.3g} nats" in seen


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


def test_pairwise_kl_starts_at_0():
    kl = pairwise_spectral_kl(np.random.default_rng(1).gamma(1.0, size=(5, 8)))
    ax = plot_pairwise_kl(kl, title="mine")
    assert image(ax).get_clim() == (0, kl.max())
    assert "mine" in [text.get_text() for text in words(ax.figure)]


def test_effective_rank_draws_a_line_for_each_scale_with_a_value(make_run):
    measured = measure(load_spectra(make_run(method="msplora-8-4-2").path))
    axes = plot_effective_rank(measured)
    assert [ax.get_title() for ax in axes] == [f"{M_EFF}-{k}" for k in (1, 2, 4)]
    assert [len(ax.lines) for ax in axes] == [3, 2, 1]
    assert "higher =" in axes[0].get_ylabel()
    first = measured[measured["scale"] == "global"]["m_eff_1"].to_numpy()
    np.testing.assert_allclose(axes[0].lines[0].get_ydata(), first[1:])
    assert axes[0].lines[0].get_color() == SCALE_COLOURS["global"]


def test_effective_rank_draws_mean_and_range_of_the_runs(study):
    measured = measure(load_spectra(study), [*BY, "run"])
    one = measured[(measured["method"] == "lora-r8") & (measured["epoch"] > 0)]
    (ax,) = plot_effective_rank(one, ks=[1])
    by_epoch = one.groupby("epoch")["m_eff_1"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), by_epoch.mean())
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.min(), band.max()], [one["m_eff_1"].min(), one["m_eff_1"].max()])
    seen = [text.get_text() for text in words(ax.figure)]
    assert "LoRA r=8, 4 runs" in seen
    assert "line: mean of the runs; band: lowest to highest run" in seen


def test_runs_without_common_times_have_a_line_each(study):
    course = courses(load_spectra(study)).query("method == 'lora-r8'").assign(clock=SHARE)
    course["time"] = course["time"] / 3
    (ax,) = plot_effective_rank(measure(course, [*COURSE, "run"]), ks=[1])
    assert len(ax.lines) == 4
    assert not ax.collections


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
        plot_effective_rank(measured, ks=[3])


LONG = (
    "MSPLoRA 8/4/2 minus LoRA r=8 on stable-diffusion-v1-5\n"
    "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q, unet.mid_block.to_k and 30 more; 12 runs"
)


def draw(name, spectra, measured, ax=None):
    return {
        "svd": lambda: plot_svd_heatmaps(spectra, title=LONG, ax=ax),
        "difference": lambda: plot_kl_difference(np.eye(4), adjacent=0.5, title=LONG, ax=ax[0] if ax else None),
        "pairwise": lambda: plot_pairwise_kl(np.eye(4), title=LONG, ax=ax[0] if ax else None),
        "effective": lambda: plot_effective_rank(measured, title=LONG, ax=ax),
        "layers": lambda: plot_layer_spectra(
            spectra[spectra["epoch"] == 3].assign(unit=0), title=LONG, ax=ax[0] if ax else None
        ),
    }[name]()


@pytest.mark.parametrize("name", ["svd", "difference", "pairwise", "effective", "layers"])
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


@pytest.mark.parametrize("name", ["svd", "difference", "pairwise", "effective", "layers"])
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


def test_offscreen_figures_are_not_pyplots(difference):
    with offscreen():
        plot_kl_difference(difference)
    assert plt.get_fignums() == []


def test_a_wrong_number_of_axes_is_refused(spectra):
    with pytest.raises(ParameterError, match="ax: expected 3 axes, for global, mid, layer, found 1"):
        plot_svd_heatmaps(spectra, ax=[plt.figure().add_subplot()])


@pytest.mark.parametrize("name", ["svd", "difference", "pairwise", "effective", "layers"])
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
