"""Singular values from the factors, against a dense SVD of the formed product."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from msplora_core.errors import ParameterError
from msplora_core.linalg.singular_values import low_rank_singular_values


def dense(B: np.ndarray, A: np.ndarray, scaling: float = 1.0) -> np.ndarray:
    """The reference: form the product in float64 and take all its singular values; as many as the rank."""
    rank = A.shape[-2]
    sigma = np.linalg.svd(scaling * (B.astype(np.float64) @ A.astype(np.float64)), compute_uv=False)[..., :rank]
    return np.pad(sigma, [(0, 0)] * (sigma.ndim - 1) + [(0, rank - sigma.shape[-1])])


def assert_agrees(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-12) -> None:
    assert found.dtype == np.float64
    assert found.shape == expected.shape
    assert (np.diff(found, axis=-1) <= 0).all()
    assert (np.abs(found - expected) <= tolerance * expected.max(axis=-1, keepdims=True)).all()


def orthonormal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def conditioned(rng: np.random.Generator, rows: int, rank: int, decades: float) -> np.ndarray:
    """Columns that are no axes of their own, with singular values over so many decades."""
    return orthonormal(rng, rows, rank) * np.logspace(0, -decades, rank) @ orthonormal(rng, rank, rank).T


@given(
    seed=st.integers(0, 2**32 - 1),
    out=st.integers(1, 40),
    columns=st.integers(1, 40),
    rank=st.integers(1, 12),
    scaling=st.floats(-100, 100, allow_subnormal=False),
)
def test_random_factors_of_any_shape(seed: int, out: int, columns: int, rank: int, scaling: float) -> None:
    rng = np.random.default_rng(seed)
    B, A = rng.standard_normal((out, rank)), rng.standard_normal((rank, columns))
    assert_agrees(low_rank_singular_values(B, A, scaling), dense(B, A, scaling))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), decades_B=st.floats(0, 12), decades_A=st.floats(0, 12))
def test_ill_conditioned_factors(seed: int, decades_B: float, decades_A: float) -> None:
    rng = np.random.default_rng(seed)
    B, A = conditioned(rng, 96, 8, decades_B), conditioned(rng, 80, 8, decades_A).T
    assert_agrees(low_rank_singular_values(B, A), dense(B, A))


@pytest.mark.parametrize(("rows", "rank"), [(2049, 8), (1300, 40), (700, 64), (300, 100), (5000, 1)])
def test_tall_ill_conditioned_factors_are_taken_in_blocks_of_rows(rows: int, rank: int) -> None:
    rng = np.random.default_rng(7)
    B, A = conditioned(rng, rows, rank, 12), conditioned(rng, 120, rank, 12).T
    assert_agrees(low_rank_singular_values(B, A), dense(B, A))
    B[:, -1] = B[:, 0]
    assert_agrees(low_rank_singular_values(B, A), dense(B, A))


@pytest.mark.parametrize("least", [0.011, 0.009, 1.1e-4, 0.9e-4])
def test_each_side_of_the_borders_between_routes(least: float) -> None:
    """Two columns at an angle whose unit Gram matrix has just this least eigenvalue, 1 - cosine."""
    rng = np.random.default_rng(5)
    first, second = orthonormal(rng, 300, 2).T
    B = np.stack([first, (1 - least) * first + np.sqrt(1 - (1 - least) ** 2) * second], axis=1)
    A = rng.standard_normal((2, 200))
    assert_agrees(low_rank_singular_values(B, A), dense(B, A))


@pytest.mark.parametrize("rank", [8, 64])
def test_values_over_twelve_orders_of_magnitude(rank: int) -> None:
    rng = np.random.default_rng(0)
    expected = np.logspace(0, -12, rank)
    mixing = rng.standard_normal((rank, rank))
    B = orthonormal(rng, 300, rank) * expected @ mixing
    A = np.linalg.solve(mixing, orthonormal(rng, 200, rank).T)
    assert_agrees(low_rank_singular_values(B, A), expected)


def test_columns_of_very_different_length_keep_full_accuracy() -> None:
    rng = np.random.default_rng(1)
    lengths = np.logspace(8, -8, 8)
    B, A = rng.standard_normal((90, 8)) * lengths, rng.standard_normal((8, 70)) / lengths[:, None]
    assert_agrees(low_rank_singular_values(B, A), dense(B, A))


@pytest.mark.parametrize("size", [1e-250, 1e-150, 1e150])
def test_magnitudes_whose_squares_leave_float64(size: float) -> None:
    rng = np.random.default_rng(2)
    B, A = rng.standard_normal((50, 4)) * size, rng.standard_normal((4, 60))
    assert_allclose(low_rank_singular_values(B, A) / size, dense(B / size, A), rtol=1e-10)


def test_zero_and_rank_deficient_factors_are_exact() -> None:
    rng = np.random.default_rng(3)
    B, A = rng.standard_normal((30, 6)), rng.standard_normal((6, 20))
    assert (low_rank_singular_values(np.zeros_like(B), A) == 0).all()
    B[:, 3:] = B[:, :3] @ rng.standard_normal((3, 3))
    A[1] = 0
    assert_agrees(low_rank_singular_values(B, A), dense(B, A))


def test_a_batch_mixes_healthy_and_broken_products() -> None:
    rng = np.random.default_rng(4)
    B, A = rng.standard_normal((5, 40, 4)), rng.standard_normal((5, 4, 30))
    B[1] = 0
    B[2] = conditioned(rng, 40, 4, 11)
    A[3, 2] = A[3, 1]
    B[4] = conditioned(rng, 40, 4, 1.5)
    scaling = np.array([1.0, 2.0, -3.0, 0.0, 0.5])
    expected = np.stack([dense(*factors) for factors in zip(B, A, scaling, strict=True)])
    assert_agrees(low_rank_singular_values(B, A, scaling), expected)
    shaped = low_rank_singular_values(B[:4].reshape(2, 2, 40, 4), A[:4].reshape(2, 2, 4, 30), scaling[:4].reshape(2, 2))
    assert_agrees(shaped.reshape(4, 4), expected[:4])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_half_and_single_precision_factors_are_taken_as_they_are(dtype: type) -> None:
    rng = np.random.default_rng(6)
    B, A = rng.standard_normal((64, 8)).astype(dtype), rng.standard_normal((8, 48)).astype(dtype)
    assert_agrees(low_rank_singular_values(B, A), dense(B, A))


def test_the_product_is_never_formed() -> None:
    """Formed, this product would take 8 TB."""
    sigma = low_rank_singular_values(np.ones((1_000_000, 2)), np.ones((2, 1_000_000)), 0.5)
    assert_allclose(sigma, [1_000_000, 0], atol=1e-6)


def test_empty_products_have_zero_spectra() -> None:
    assert low_rank_singular_values(np.ones((0, 3)), np.ones((3, 4))).tolist() == [0, 0, 0]
    assert low_rank_singular_values(np.ones((2, 5, 0)), np.ones((2, 0, 4))).shape == (2, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name(bad: float) -> None:
    good = np.ones((4, 2))
    worse = good.copy()
    worse[1, 1] = bad
    with pytest.raises(ParameterError, match="B: expected finite numbers, found NaN or infinity"):
        low_rank_singular_values(worse, good.T)
    with pytest.raises(ParameterError, match="A: expected finite numbers, found NaN or infinity"):
        low_rank_singular_values(good, worse.T)
    with pytest.raises(ParameterError, match="scaling: expected finite numbers"):
        low_rank_singular_values(good, good.T, bad)


def test_large_finite_numbers_are_not_taken_for_infinity() -> None:
    B = np.full((3, 1), 0.9e308)
    assert_allclose(low_rank_singular_values(B, np.full((1, 3), 1e-300)), [0.9e8 * 3], rtol=1e-12)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"B, A: expected shapes \(\.\.\., out, r\) and \(\.\.\., r, in\), found"):
        low_rank_singular_values(np.ones((4, 3)), np.ones((2, 4)))
