"""Null models against dense matrices, and what they depend on."""

import numpy as np
import pytest
from scipy import stats

from msplora_analysis import effective_rank_ratio, entropy_rank, gaussian_null, mismatch_null, null_place, rotation_null
from msplora_core.errors import ParameterError
from msplora_core.linalg import LowRankUpdate


def factors(seed=0, out=30, rank=4, in_=20):
    random = np.random.default_rng(seed)
    return random.standard_normal((out, rank)) * [3, 1, 1, 0.2][:rank], random.standard_normal((rank, in_))


def spectrum(factor):
    return np.linalg.svd(factor, compute_uv=False)


def test_gaussian_null_of_roberta_size():
    spectra = gaussian_null(768, 768, rank=8, draws=20_000)
    share = effective_rank_ratio(spectra, 1)
    assert share.mean() == pytest.approx(0.1400, abs=1e-4)
    assert share.std() == pytest.approx(0.0026, abs=1e-4)
    assert entropy_rank(spectra).mean() == pytest.approx(7.977, abs=5e-4)


@pytest.mark.parametrize(("out", "in_", "rank"), [(30, 20, 4), (3, 20, 5), (20, 3, 5), (2, 3, 5), (1, 1, 1)])
def test_gaussian_null_is_distributed_as_dense_products_are(out, in_, rank):
    random = np.random.default_rng(1)
    dense = random.standard_normal((4000, out, rank)) @ random.standard_normal((4000, rank, in_))
    expected = np.linalg.svd(dense, compute_uv=False)[:, :rank]
    found = gaussian_null(out, in_, rank, draws=4000)
    assert found.shape == (4000, rank)
    assert not found[:, min(out, in_, rank) :].any()
    for k in range(min(out, in_, rank)):
        assert stats.ks_2samp(found[:, k], expected[:, k]).pvalue > 1e-3


def test_rotation_null_is_distributed_as_dense_products_are():
    B, A = factors()
    Q = stats.ortho_group.rvs(4, size=4000, random_state=np.random.default_rng(0))
    expected = np.linalg.svd(B @ Q @ A, compute_uv=False)[:, :4]
    found = rotation_null(spectrum(B), spectrum(A), draws=4000)
    for k in range(4):
        assert stats.ks_2samp(found[:, k], expected[:, k]).pvalue > 1e-3


def test_rotations_keep_the_determinant_and_the_mean_energy():
    B, A = np.array([3.0, 2.0, 0.5]), np.array([1.0, 0.4, 0.1])
    found = rotation_null(B, A, draws=20_000)
    np.testing.assert_allclose(found.prod(axis=1), (B * A).prod(), rtol=1e-12)
    assert (found**2).sum(axis=1).mean() == pytest.approx((B**2).sum() * (A**2).sum() / 3, rel=0.01)
    assert (found[:, 0] <= 3.0).all()


def test_rotation_null_depends_on_how_the_update_was_split():
    B, A = factors()
    change = stats.ortho_group.rvs(4, random_state=np.random.default_rng(2))
    same = rotation_null(spectrum(B @ change), spectrum(change.T @ A))
    np.testing.assert_allclose(same, rotation_null(spectrum(B), spectrum(A)), rtol=1e-9)
    scale = np.array([10.0, 1.0, 1.0, 0.1])
    other = rotation_null(spectrum(B * scale), spectrum(A / scale[:, None]))
    first = rotation_null(spectrum(B), spectrum(A))
    assert abs(entropy_rank(other).mean() - entropy_rank(first).mean()) > 0.5


def test_mismatch_null_depends_on_how_the_update_was_split():
    layers = [factors(seed) for seed in range(3)]
    change = stats.ortho_group.rvs(4, random_state=np.random.default_rng(2))
    first = mismatch_null([LowRankUpdate(B, A) for B, A in layers])
    same = mismatch_null([LowRankUpdate(B @ change, change.T @ A) for B, A in layers])
    np.testing.assert_allclose(same, first, rtol=1e-9)
    one_rescaled = [(layers[0][0] * 5, layers[0][1] / 5), *layers[1:]]
    assert abs(mismatch_null([LowRankUpdate(B, A) for B, A in one_rescaled]) / first - 1).max() > 1


def test_mismatch_null_against_dense_products():
    layers = [factors(seed, in_=20 + seed) for seed in range(3)]
    updates = [LowRankUpdate(B.astype(np.float16), A.astype(np.float16), 0.5 + i) for i, (B, A) in enumerate(layers)]
    found = mismatch_null(updates)
    pairs = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert found.shape == (6, 4)
    for row, (i, j) in zip(found, pairs, strict=True):
        dense = updates[i].scaling * updates[i].B.astype(float) @ updates[j].A.astype(float)
        np.testing.assert_allclose(row, spectrum(dense)[:4], atol=1e-12 * row[0])


def test_components_are_drawn_apart_and_from_the_seed():
    sigma = np.array([[2.0, 1.0, 0.5]] * 3).reshape(3, 1, 3)
    found = rotation_null(sigma, sigma, draws=5, seed=3)
    assert found.shape == (3, 1, 5, 3)
    assert not np.allclose(found[0], found[1])
    np.testing.assert_array_equal(found, rotation_null(sigma, sigma, draws=5, seed=3))
    np.testing.assert_array_equal(found[:2], rotation_null(sigma[:2], sigma[:2], draws=5, seed=3))
    assert not np.allclose(found, rotation_null(sigma, sigma, draws=5, seed=4))
    np.testing.assert_array_equal(gaussian_null(9, 8, 2, 3, seed=1), gaussian_null(9, 8, 2, 3, seed=1))


def test_zero_deficient_and_undefined_factors():
    sigma_B = [[0, 0, 0], [2, 1, 0], [np.nan, 1, 1], [5, 1, 1]]
    found = rotation_null(sigma_B, np.ones((4, 3)), draws=10)
    assert not found[0].any()
    np.testing.assert_allclose(found[1], np.tile([2.0, 1.0, 0.0], (10, 1)), atol=1e-15)
    assert np.isnan(found[2]).all()
    np.testing.assert_allclose(found[3], np.tile([5.0, 1.0, 1.0], (10, 1)))
    assert rotation_null(np.ones((0, 3)), np.ones((0, 3))).shape == (0, 200, 3)


def test_the_place_is_the_share_of_draws_below():
    draws = np.random.default_rng(0).normal(size=(5, 101))
    observed = np.median(draws, axis=1)
    np.testing.assert_allclose(null_place(observed, draws), 0.5)
    expected = [stats.percentileofscore(row, 0.3, kind="mean") / 100 for row in draws]
    np.testing.assert_allclose(null_place(np.full(5, 0.3), draws), expected)
    assert null_place(9.0, draws[0]) == 1
    assert null_place(-9.0, draws[0]) == 0


def test_an_undefined_value_has_no_place():
    assert np.isnan(null_place(np.nan, [1.0, 2.0]))
    assert np.isnan(null_place(1.0, [1.0, np.nan]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_null(0, 3, 2), "out: expected a whole number, at least 1, found 0"),
        (lambda: gaussian_null(4, 3, 2.0), "rank: expected a whole number"),
        (lambda: rotation_null(["a"], [1.0]), "sigma_B: expected real numbers"),
        (lambda: gaussian_null(4, 3, 2, draws=0), "draws: expected a whole number, at least 1"),
        (lambda: rotation_null([1, 2], [1]), r"sigma_B, sigma_A: expected equal shapes"),
        (lambda: rotation_null(1.0, 1.0), r"sigma_B, sigma_A: expected equal shapes"),
        (lambda: rotation_null([1, -2], [1, 1]), "sigma_B: expected singular values: finite, at least 0, found -2.0"),
        (lambda: rotation_null([1, 1], [1, np.inf]), "sigma_A: .*inf"),
        (lambda: mismatch_null([LowRankUpdate(*factors())]), "updates: expected at least two, of one rank"),
        (lambda: mismatch_null([LowRankUpdate(*factors()), LowRankUpdate(*factors(rank=2))]), "updates: .*of ranks"),
        (lambda: null_place(1.0, []), "null_values: expected"),
        (lambda: null_place([1.0, 2.0], [[1.0]]), "null_values: expected shape .*2, 'draws'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call()
