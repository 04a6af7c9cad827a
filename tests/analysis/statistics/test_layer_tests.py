"""Tests of a layers × layers matrix against enumeration and planted structures."""

import itertools
import tracemalloc

import numpy as np
import pytest

from msplora_analysis import mantel_test, thirds_test
from msplora_core.errors import ParameterError


def noise(layers, seed=0):
    values = np.random.default_rng(seed).gamma(2.0, size=(layers, layers))
    np.fill_diagonal(values, 0)
    return values


def enumerated(matrix, near):
    """Effect and exact two-sided p, by every permutation of the layers."""
    matrix = (matrix + matrix.T) / 2
    off = ~np.eye(len(matrix), dtype=bool)

    def effect(order):
        permuted = matrix[np.ix_(order, order)]
        return permuted[~near & off].mean() - permuted[near & off].mean()

    all_effects = np.array([effect(order) for order in itertools.permutations(range(len(matrix)))])
    observed = all_effects[0]
    tails = [(all_effects >= observed - 1e-12).mean(), (all_effects <= observed + 1e-12).mean()]
    return observed, min(1.0, 2 * min(tails))


def test_adjacent_layers_against_enumeration():
    matrix, depth = noise(6), np.arange(6)
    effect, p = enumerated(matrix, abs(depth[:, None] - depth) == 1)
    outcome = mantel_test(matrix)
    assert outcome.effect == pytest.approx(effect)
    assert outcome.p == pytest.approx(p)
    assert outcome.test == "all 720 permutations of the layers"
    assert outcome.least_p == pytest.approx(4 / 720)


def test_thirds_against_enumeration():
    matrix, group = noise(6, seed=3), np.array([0, 0, 1, 1, 2, 2])
    effect, p = enumerated(matrix, group[:, None] == group)
    outcome = thirds_test(matrix)
    assert outcome.effect == pytest.approx(effect)
    assert outcome.p == pytest.approx(p)
    assert outcome.least_p == pytest.approx(2 / 15)


@pytest.mark.parametrize("test", [mantel_test, thirds_test])
def test_planted_structure_is_found_and_its_reverse_too(test):
    depth = np.arange(12)
    near = depth[:, None] // 4 == depth // 4 if test is thirds_test else abs(depth[:, None] - depth) == 1
    matrix = noise(12) / 10 + ~near
    found = test(matrix, seed=3)
    assert 0.8 < found.effect < 1.2
    assert found.p <= 0.001
    assert "seed 3" in str(found)
    assert repr(found) == repr(test(matrix, seed=3))  # NaN is not equal to itself
    reverse = test(noise(12) / 10 + near)
    assert reverse.effect < 0
    assert reverse.p <= 0.001


@pytest.mark.parametrize("test", [mantel_test, thirds_test])
def test_without_structure_one_in_twenty_is_found(test):
    found = sum(test(noise(6, seed)).p <= 0.15 for seed in range(200))
    assert found / 200 <= 0.2


@pytest.mark.parametrize("distance", [0.0, 0.1, 1.0, 1e300])
def test_equal_distances_are_no_effect_whatever_their_rounding(distance):
    outcome = mantel_test(np.full((5, 5), distance))
    assert (outcome.effect, outcome.p) == (0.0, 1.0)


def test_the_transpose_and_the_diagonal_do_not_matter():
    matrix = noise(7)
    found = repr(mantel_test(matrix))
    assert found == repr(mantel_test(matrix.T)) == repr(mantel_test(matrix + np.diag([np.nan] * 7)))


def test_a_layer_without_distances_is_left_out_and_the_others_keep_their_depth():
    matrix = noise(7)
    matrix[3] = matrix[:, 3] = np.nan
    kept = [0, 1, 2, 4, 5, 6]
    near = abs(np.subtract.outer(kept, kept)) == 1
    effect, p = enumerated(matrix[np.ix_(kept, kept)], near)
    outcome = mantel_test(matrix)
    assert (outcome.n, outcome.effect, outcome.p) == (6, pytest.approx(effect), pytest.approx(p))
    assert "left out without a distance: 1 of 7 layers" in str(outcome)


@pytest.mark.parametrize("matrix", [np.zeros((1, 1)), np.zeros((2, 2)), np.full((6, 6), np.nan), np.zeros((0, 0))])
def test_too_few_layers_give_no_p(matrix):
    outcome = mantel_test(matrix)
    assert np.isnan([outcome.effect, outcome.p]).all()
    assert "no near or no far pairs of layers" in outcome.note


def test_one_group_or_groups_of_one_give_no_p():
    assert np.isnan(thirds_test(noise(4), groups=1).p)
    assert np.isnan(thirds_test(noise(4), groups=4).p)
    assert thirds_test(noise(6), groups=[1, 5]).n == 6


@pytest.mark.parametrize(
    ("matrix", "found"),
    [(np.ones((2, 3)), r"\(2, 3\)"), ([[0, np.inf, 1]] * 3, "inf"), ([[0, -1, 1]] * 3, "-1.0")],
)
def test_what_is_no_matrix_of_distances_is_refused(matrix, found):
    with pytest.raises(ParameterError, match=f"matrix: .*{found}"):
        mantel_test(matrix)


def test_a_single_undefined_cell_is_refused():
    matrix = noise(5)
    matrix[1, 2] = np.nan
    with pytest.raises(ParameterError, match=r"matrix: .*nan"):
        mantel_test(matrix)


def test_memory_does_not_grow_with_the_square_of_the_layers():
    matrix = noise(64)
    tracemalloc.start()
    try:
        thirds_test(matrix)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6  # all permutations at once take 300 MB
