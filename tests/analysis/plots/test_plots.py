"""Pictures draw what they are given, where they are told to, in colours and words that can be read."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

from msplora_analysis import (
    average_spectra,
    kl_difference,
    load_spectra,
    measure,
    pairwise_spectral_kl,
    plot_effective_rank,
    plot_kl_difference,
    plot_pairwise_kl,
    plot_svd_heatmaps,
)
from msplora_analysis.plots.canvas import WIDTH, offscreen
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
    assert [ax.get_title() for ax in axes] == ["global", "mid", "layer"]
    for ax, rank in zip(axes, (8, 4, 2), strict=True):
        shown = image(ax).get_array()
        assert shown.shape == (8, 4)
        rows = spectra[spectra["scale"] == ax.get_title()]
        np.testing.assert_allclose(shown[:rank], rows["sigma"].to_numpy().reshape(4, rank).T)
        assert shown.mask[rank:].all()
        assert not shown.mask[:rank].any()


def test_heatmaps_have_one_colour_scale(spectra):
    limits = {image(ax).get_clim() for ax in plot_svd_heatmaps(spectra)}
    assert limits == {(0, spectra[spectra["scale"] != "total"]["sigma"].max())}


def test_heatmaps_write_the_ratios_beneath_and_which_way_they_point(spectra):
    axes = plot_svd_heatmaps(spectra)
    texts = [text.get_text() for text in words(axes[0].figure)]
    last = spectra[(spectra["epoch"] == 3) & (spectra["scale"] == "global")].set_index("k")["m_eff"]
    for k in (1, 2, 4):
        assert f"M_eff-{k}" in texts
        assert f"{last[k]:.2f}" in texts
    assert "at epoch 3; higher = more concentrated" in texts
    beneath = [text.get_text() for text in axes[2].texts]
    assert beneath[1:] == ["-", "-", "-"]


def test_heatmaps_name_what_is_beyond_the_rank(spectra):
    axes = plot_svd_heatmaps(spectra)
    (label,) = axes[-1].get_legend().get_texts()
    assert label.get_text() == "beyond the rank"


def test_heatmaps_leave_a_missing_epoch_open(spectra):
    axes = plot_svd_heatmaps(spectra[spectra["epoch"] != 2])
    assert image(axes[0]).get_array().mask[:, 2].all()
    (label,) = axes[-1].get_legend().get_texts()
    assert label.get_text() == "no value"


def test_heatmaps_of_plain_lora_are_one_panel(make_run):
    (ax,) = plot_svd_heatmaps(average_spectra(load_spectra(make_run().path)))
    assert ax.get_title() == "layer (rank 8)"


def test_heatmaps_of_two_methods_are_refused(study):
    with pytest.raises(ParameterError, match="spectra: expected one method on one model"):
        plot_svd_heatmaps(average_spectra(load_spectra(study)))


def test_difference_is_centred_at_0_and_marks_the_adjacent_band(difference):
    mean = np.mean([difference[i, i + 1] + difference[i + 1, i] for i in range(5)]) / 2
    ax = plot_kl_difference(difference, adjacent=mean)
    low, high = image(ax).get_clim()
    assert low == -high == -np.abs(difference).max()
    np.testing.assert_array_equal(image(ax).get_array(), difference)
    assert f"mean {mean:+.3g} nats" in ax.texts[0].get_text()
    upper, lower = (line.get_xydata() for line in ax.lines)
    for layer in range(6):  # at column `layer` the band runs from one row above to one below
        assert upper[layer, 1] == min(layer + 1.5, 5.5)
        assert lower[layer, 1] == max(layer - 1.5, -0.5)


def test_difference_shows_what_is_undefined(difference):
    difference[2, 3] = np.inf
    ax = plot_kl_difference(difference, adjacent=np.nan)
    assert image(ax).get_array().mask[2, 3]
    assert ax.get_legend().get_texts()[0].get_text() == "undefined or infinite"
    assert "undefined" in ax.texts[0].get_text()


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
    with pytest.raises(ParameterError, match=r"expected a matrix of layers by layers, found shape \(2, 3\)"):
        plot(np.zeros((2, 3)))
    with pytest.raises(ParameterError, match="layers: expected 2 names, one for each row, found 3"):
        plot(np.zeros((2, 2)), layers=[0, 1, 2])


def test_pairwise_kl_starts_at_0():
    kl = pairwise_spectral_kl(np.random.default_rng(1).gamma(1.0, size=(5, 8)))
    ax = plot_pairwise_kl(kl, title="mine")
    assert image(ax).get_clim() == (0, kl.max())
    assert ax.get_title() == "mine"


def test_effective_rank_draws_a_line_for_each_scale_that_says_something(make_run):
    measured = measure(load_spectra(make_run(method="msplora-8-4-2").path))
    axes = plot_effective_rank(measured)
    assert [ax.get_title() for ax in axes] == ["M_eff-1", "M_eff-2", "M_eff-4"]
    visible = [[line for line in ax.lines if np.isfinite(line.get_ydata()).any()] for ax in axes]
    assert [len(lines) for lines in visible] == [3, 2, 1]
    assert "higher =" in axes[0].get_ylabel()
    first = measured[measured["scale"] == "global"]["m_eff_1"]
    np.testing.assert_array_equal(visible[0][0].get_ydata(), first)


def test_effective_rank_needs_its_columns(make_run):
    measured = measure(load_spectra(make_run().path))
    with pytest.raises(ParameterError, match="measured: expected a column m_eff_3"):
        plot_effective_rank(measured, ks=[3])


def draw(name, spectra, measured, ax=None):
    return {
        "svd": lambda: plot_svd_heatmaps(spectra, ax=ax),
        "difference": lambda: plot_kl_difference(np.eye(4), ax=ax[0] if ax else None),
        "pairwise": lambda: plot_pairwise_kl(np.eye(4), ax=ax[0] if ax else None),
        "effective": lambda: plot_effective_rank(measured, ax=ax),
    }[name]()


@pytest.mark.parametrize("name", ["svd", "difference", "pairwise", "effective"])
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


@pytest.mark.parametrize("name", ["svd", "difference", "pairwise", "effective"])
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
