"""Spread between seeds and tests of cells, against values computed here."""

import itertools

import numpy as np
import pytest

from msplora_analysis import analyse, last_epochs, load_spectra, spectral_kl
from msplora_analysis.comparison.cells import cell_tests
from msplora_analysis.comparison.spread import replicate_spread


def layers_of(table, run):
    rows = table[(table["run"] == run) & (table["scale"] == "layer")]
    return rows.groupby(["unit", "k"])["sigma"].mean().unstack().to_numpy()


def test_the_spread_is_the_kl_of_the_same_layer_in_two_seeds(make_run, tmp_path):
    for seed in (0, 1, 2):
        make_run(f"study/{seed}", seed=seed)
    make_run("study/other", task="stsb")
    table = last_epochs(load_spectra(tmp_path / "study"))
    found = replicate_spread(table)
    assert found[["method", "scale", "task", "pairs"]].to_numpy().tolist() == [["lora-r8", "layer", "mrpc", 3]]
    pairs = itertools.permutations([layers_of(table, str(seed)) for seed in (0, 1, 2)], 2)
    assert found["kl"].item() == pytest.approx(np.mean([spectral_kl(one, other) for one, other in pairs]))


def test_shared_scales_have_a_spread_of_their_total_too(study):
    found = analyse(study).spread
    assert set(zip(found["method"], found["scale"], strict=True)) == {
        ("lora-r8", "layer"), *((method, scale) for method in ("msplora-8-4-2", "msplora-8-8-8")
                                for scale in ("layer", "total"))}  # fmt: skip
    assert set(found["pairs"]) == {1}


def test_unknown_seeds_and_single_runs_have_no_spread(make_run, tmp_path):
    make_run("study/a", seed=None)
    make_run("study/b", seed=None)
    assert replicate_spread(last_epochs(load_spectra(tmp_path / "study"))).empty


def test_cells_are_corrected_over_the_matrix_and_undefined_ones_left_out():
    random = np.random.default_rng(0)
    differences = random.normal(0, 0.1, (9, 4, 4))
    differences[:, 0, 1] += 1
    differences[3, 2, 3] = np.inf
    cells = cell_tests(differences, np.array([3, 5, 7, 9])).set_index(["row", "column"])
    assert len(cells) == 12
    assert cells.loc[(3, 5), "decided"]
    assert cells.loc[(3, 5), "p"] == 2**-8
    assert cells.loc[(3, 5), "p_corrected"] == pytest.approx(11 * 2**-8)
    assert np.isnan(cells.loc[(7, 9), ["p", "low", "p_corrected"]].astype(float)).all()
    assert not cells.loc[(7, 9), "decided"]
    assert (cells["low"].dropna() <= cells["difference"][cells["low"].notna()]).all()


def test_few_pairs_decide_nothing(study):
    for one in analyse(study).comparisons:
        assert len(one.cells) == 30
        assert not one.cells["decided"].any()
        matrix = one.cells.pivot(index="row", columns="column", values="difference").fillna(0).to_numpy()
        np.testing.assert_allclose(matrix, one.difference, atol=1e-12)
