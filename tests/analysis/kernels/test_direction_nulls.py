"""Null models of directions against rotations drawn and formed in full."""

import numpy as np
import pytest

from msplora_analysis import (
    common_subspace,
    common_subspace_null,
    cosine_bound,
    sharing_null,
    sharing_shares,
    subspace_null,
    subspace_similarity,
    update_cosines,
    update_inner_products,
)
from msplora_analysis.kernels import direction_nulls
from msplora_core.linalg import LowRankUpdate

OUT, IN, RANK, LAYERS = 20, 24, 3, 6
SPECTRA = np.sort(np.random.default_rng(1).gamma(1.0, size=(LAYERS, RANK)))[:, ::-1]


def frame(random, size, rank):
    return np.linalg.qr(random.standard_normal((size, rank))).Q


@pytest.fixture(scope="module")
def rotated():
    random = np.random.default_rng(0)
    return [
        [LowRankUpdate(frame(random, OUT, RANK) * sigma, frame(random, IN, RANK).T) for sigma in SPECTRA]
        for _ in range(400)
    ]


@pytest.mark.parametrize("groups", [2, (1, 3)])
def test_shares_of_rotated_layers(rotated, groups):
    drawn = np.array([sharing_shares(update_inner_products(updates), groups) for updates in rotated])
    null = sharing_null(np.linalg.norm(SPECTRA, axis=1), (OUT, IN), groups)
    np.testing.assert_allclose(drawn.mean(axis=0), null.mean, atol=5 * null.deviation.max() / 20)
    np.testing.assert_allclose(drawn.std(axis=0), null.deviation, rtol=0.15)
    np.testing.assert_allclose(null.mean.sum(), 1)


def test_shares_of_updates_of_which_one_is_zero():
    null = sharing_null([1.0, 0.0, 2.0, 1.0], (8, 8), 2)
    np.testing.assert_allclose(null.mean, sharing_shares(np.diag([1.0, 0.0, 4.0, 1.0]), 2))
    assert np.isnan(sharing_null([0.0, 0.0], (8, 8)).mean).all()


def test_the_bound_on_cosines_holds_in_19_of_20_draws(rotated):
    largest = [abs(update_cosines(updates)[np.triu_indices(LAYERS, 1)]).max() for updates in rotated]
    exceeded = np.mean(np.array(largest) > cosine_bound(SPECTRA, (OUT, IN)))
    assert 0.01 < exceeded < 0.07
    assert np.isnan(cosine_bound([[1.0], [0.0]], (OUT, IN)))


@pytest.mark.parametrize("size", [1e-250, 1e250])
def test_a_bound_does_not_depend_on_the_size_of_the_updates(size):
    assert cosine_bound([SPECTRA[0] * size, *SPECTRA[1:]], (OUT, IN)) == pytest.approx(cosine_bound(SPECTRA, (OUT, IN)))


def test_tails_are_heavier_at_rank_one():
    assert cosine_bound(np.ones((6, 1)), (99, 99)) > 1.2 * cosine_bound(np.ones((6, 8)), (99, 99))


def test_similarity_of_random_subspaces():
    random = np.random.default_rng(3)
    drawn = [subspace_similarity(frame(random, 24, 3), frame(random, 24, 5))[-1, -1] for _ in range(2000)]
    null = subspace_null(24, 3, 5)
    np.testing.assert_allclose([np.mean(drawn), np.std(drawn)], null, rtol=0.05)
    np.testing.assert_allclose(subspace_null(4, 4, 2), (1.0, 0.0))


@pytest.mark.parametrize(("side", "size"), [("left", OUT), ("right", IN)])
def test_common_energy_of_rotated_layers(rotated, side, size):
    drawn = [common_subspace(updates, side, RANK).energy.mean() for updates in rotated[:100]]
    null = common_subspace_null(SPECTRA, size, RANK, draws=100)
    np.testing.assert_allclose(null.mean(), np.mean(drawn), rtol=0.03)
    np.testing.assert_allclose(null.std(), np.std(drawn), rtol=0.3)


def test_common_energy_where_the_space_is_smaller_than_a_layer():
    np.testing.assert_allclose(common_subspace_null([[3.0, 2.0, 0.0]] * 2, 2, rank=2, draws=3), 1)
    assert common_subspace_null(np.zeros((3, 2)), 8, 2).size == 0


@pytest.mark.parametrize("ranks", [(40,) * 16, (64, 8) * 9, (128,) + (16,) * 39])
def test_a_null_of_many_directions_is_drawn_with_fewer(monkeypatch, ranks):
    spectra = [np.geomspace(1, 10.0 ** -(layer % 4), rank) for layer, rank in enumerate(ranks)]
    thinned = common_subspace_null(spectra, 700, rank=41, draws=20)
    monkeypatch.setattr(direction_nulls, "MOST_DIRECTIONS", 10_000)
    full = common_subspace_null(spectra, 700, rank=41, draws=10)
    np.testing.assert_allclose(thinned.mean(), full.mean(), atol=0.002)
    assert 0.5 < thinned.std() / full.std() < 2


def test_a_null_in_few_dimensions_is_not_thinned(monkeypatch):
    spectra = [np.geomspace(1, 0.1, rank) for rank in (64, *(16,) * 39)]
    drawn = common_subspace_null(spectra, 256, rank=64, draws=2)
    monkeypatch.setattr(direction_nulls, "MOST_DIRECTIONS", 10_000)
    np.testing.assert_array_equal(drawn, common_subspace_null(spectra, 256, rank=64, draws=2))


def test_fewer_directions_keep_the_energy_and_the_layers():
    sigma = np.sqrt(np.random.default_rng(0).random((6, 8)))
    thinned = direction_nulls._thinned(sigma, 4)
    assert thinned.shape == (6, 2)
    np.testing.assert_allclose(4 * np.square(thinned).sum(), np.square(sigma).sum())
    assert direction_nulls._thinned(sigma[:, :1], 4).shape == (2, 1)
