"""Factors whose product would overflow or vanish on the way to singular values that float64 can hold."""

import numpy as np
import pytest

from msplora_core.errors import ParameterError
from msplora_core.linalg import LowRankUpdate, low_rank_singular_values, low_rank_svd, truncate
from msplora_core.linalg.updates import DenseUpdate, HadamardUpdate, KroneckerUpdate

RANDOM = np.random.default_rng(0)
B, A = RANDOM.uniform(0.5, 1, (60, 3)), RANDOM.uniform(0.5, 1, (3, 50))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("up", "down"), [(1000, -1000), (670, 300), (1023, -1000), (-900, 900), (1000, -20)])
def test_factors_of_any_magnitude_are_exact(up, down):
    large_B, large_A = np.ldexp(B, up), np.ldexp(A, down)
    expected = np.linalg.svd(B @ A, compute_uv=False)[:3]
    for sigma in (low_rank_singular_values(large_B, large_A), low_rank_svd(LowRankUpdate(large_B, large_A))[1]):
        np.testing.assert_allclose(np.ldexp(sigma, -up - down), expected, rtol=1e-12, atol=1e-12 * expected[0])


@pytest.mark.filterwarnings("error")
def test_one_large_product_in_a_batch_leaves_the_others_as_they_are():
    batch_B, batch_A = np.stack([B, B * 1e308, 0 * B]), np.stack([A, A * 1e-300, A])
    sigma = low_rank_singular_values(batch_B, batch_A, [1.0, 1e-9, 1.0])
    plain = low_rank_singular_values(B, A)
    np.testing.assert_allclose(sigma, [plain, plain * 0.1, 0 * plain], rtol=1e-12)


def test_a_result_beyond_float64_is_an_error_and_no_infinity():
    with pytest.raises(ParameterError, match=r"B, A, scaling: expected singular values up to 1.8e\+308, found larger"):
        low_rank_singular_values(B * 1e200, A * 1e200)
    with pytest.raises(ParameterError, match="found larger ones"):
        low_rank_svd(LowRankUpdate(B * 1e200, A, scaling=1e200))
    with pytest.raises(ParameterError, match="found larger ones"):
        DenseUpdate(np.eye(2) * 1e300, scaling=1e300).singular_values()


@pytest.mark.parametrize("scaling", [np.ones(3), np.ones((2, 2)), [[1.0]]])
def test_scaling_of_another_shape_is_refused(scaling):
    with pytest.raises(ParameterError, match=r"scaling: expected one number, or shape \(\), found shape \("):
        low_rank_singular_values(B, A, scaling)
    with pytest.raises(ParameterError, match=r"expected one number, or shape \(4,\)"):
        low_rank_singular_values(np.stack([B] * 4), np.stack([A] * 4), scaling)


@pytest.mark.filterwarnings("error")
def test_products_of_other_kinds():
    large, small = LowRankUpdate(B * 1e200, A, 1e-100), LowRankUpdate(B * 1e-200, A, 1e100)
    dense = np.linalg.svd((B @ A) ** 2, compute_uv=False)
    np.testing.assert_allclose(HadamardUpdate(large, small).singular_values()[:4], dense[:4], rtol=1e-9)
    kronecker = KroneckerUpdate(DenseUpdate(np.eye(2) * 1e300), DenseUpdate(np.eye(2) * 1e300), 1e-300)
    np.testing.assert_allclose(kronecker.singular_values(), [1e300] * 4)
    with pytest.raises(ParameterError, match="found larger ones"):
        HadamardUpdate(large, large, 1e300).singular_values()


def test_truncation_of_large_updates():
    cut = truncate(LowRankUpdate(B * 1e200, A), energy=0.9999)
    plain = truncate(LowRankUpdate(B, A), energy=0.9999)
    assert (cut.update.rank, cut.error) == (plain.update.rank, pytest.approx(plain.error))
