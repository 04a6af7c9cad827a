"""Decompositions and truncations against dense numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msplora_core.errors import ParameterError
from msplora_core.linalg.truncation import low_rank_svd, truncate
from msplora_core.linalg.updates import LowRankUpdate

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 6), st.integers(0, 2**32 - 1))


def random_update(sizes: tuple[int, int, int, int], scaling: float = 1.0) -> LowRankUpdate:
    out, in_, rank, seed = sizes
    rng = np.random.default_rng(seed)
    return LowRankUpdate(rng.standard_normal((out, rank)), rng.standard_normal((rank, in_)), scaling)


def dense(update: LowRankUpdate) -> np.ndarray:
    return update.scaling * update.B.astype(np.float64) @ update.A.astype(np.float64)


@given(SIZES, st.sampled_from([1.0, -0.5, 3.0]))
def test_the_decomposition_is_one(sizes: tuple[int, int, int, int], scaling: float) -> None:
    update = random_update(sizes, scaling)
    U, sigma, Vt = low_rank_svd(update)
    matrix = dense(update)
    assert np.allclose(U * sigma @ Vt, matrix, atol=1e-12 * (1 + abs(matrix).max()))
    kept = min(update.rank, *matrix.shape)
    assert U.shape == (matrix.shape[0], kept)
    assert np.allclose(U.T @ U, np.eye(kept), atol=1e-12)
    assert np.allclose(Vt @ Vt.T, np.eye(kept), atol=1e-12)
    assert np.all(np.diff(sigma) <= 0)
    assert np.allclose(sigma, np.linalg.svd(matrix, compute_uv=False)[:kept], atol=1e-12 * (1 + sigma[0]))


@given(SIZES, st.integers(1, 8))
def test_a_truncation_is_the_best_of_its_rank(sizes: tuple[int, int, int, int], rank: int) -> None:
    update = random_update(sizes, 2.0)
    cut = truncate(update, rank=rank)
    matrix, sigma = dense(update), np.linalg.svd(dense(update), compute_uv=False)
    kept = min(rank, update.rank, *matrix.shape)
    assert cut.update.rank == kept
    assert np.allclose(cut.update.singular_values(), sigma[:kept], atol=1e-12 * sigma[0])
    best = np.linalg.norm(sigma[kept:])
    assert np.isclose(np.linalg.norm(matrix - dense(cut.update)), best, atol=1e-12 * sigma[0])
    assert np.isclose(cut.error, best / np.linalg.norm(sigma), atol=1e-12)


@given(SIZES, st.floats(0.01, 1.0))
def test_energy_keeps_the_least_rank_that_reaches_it(sizes: tuple[int, int, int, int], energy: float) -> None:
    update = random_update(sizes)
    cut = truncate(update, energy=energy)
    squares = np.cumsum(update.singular_values() ** 2)
    shares = squares / squares[-1]
    assert shares[cut.update.rank - 1] >= energy - 1e-9
    assert cut.update.rank == 1 or shares[cut.update.rank - 2] < energy + 1e-9
    assert cut.error**2 <= 1 - energy + 1e-9


def test_a_share_reached_up_to_rounding_is_reached_here_and_in_the_measure() -> None:
    from msplora_analysis import energy_rank

    sigma = np.sqrt(0.1 * np.array([3.0, 1.0, 1.0, 1.0, 1.0, 1.0]))  # the first four hold 6/8
    update = LowRankUpdate(np.eye(9, 6), sigma[:, None] * np.eye(6, 7))
    assert energy_rank(sigma, 0.75) == truncate(update, energy=0.75).update.rank == 4


def test_all_of_the_energy_of_a_deficient_update_takes_its_true_rank() -> None:
    B = np.outer(np.arange(1.0, 6.0), np.ones(4))
    assert truncate(LowRankUpdate(B, np.random.default_rng(0).standard_normal((4, 7))), energy=1.0).update.rank == 1


def test_an_update_of_zero_keeps_rank_one_without_error() -> None:
    cut = truncate(LowRankUpdate(np.zeros((5, 3)), np.ones((3, 4))), energy=0.9)
    assert (cut.update.rank, cut.error) == (1, 0.0)
    assert not dense(cut.update).any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_half_precision_factors_are_computed_in_double(dtype: type) -> None:
    update = random_update((6, 5, 3, 1))
    B, A = update.B.astype(dtype), update.A.astype(dtype)
    U, sigma, Vt = low_rank_svd(LowRankUpdate(B, A))
    assert np.allclose(U * sigma @ Vt, B.astype(np.float64) @ A.astype(np.float64), atol=1e-13)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, r"rank, energy: expected one of the two, found \(None, None\)"),
        ({"rank": 2, "energy": 0.5}, r"rank, energy: expected one of the two, found \(2, 0.5\)"),
        ({"rank": 0}, "rank: expected at least 1, found 0"),
        ({"energy": 0.0}, "energy: expected a share above 0 and at most 1, found 0.0"),
        ({"energy": 1.5}, "energy: expected a share above 0 and at most 1, found 1.5"),
        ({"energy": float("nan")}, "energy: expected a share"),
    ],
)
def test_limits_that_cannot_be(limits: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        truncate(random_update((4, 4, 2, 0)), **limits)


def test_factors_that_cannot_be() -> None:
    with pytest.raises(ParameterError, match=r"B, A: expected shapes \(out, r\) and \(r, in\)"):
        low_rank_svd(LowRankUpdate(np.ones((3, 2)), np.ones((3, 2))))
    with pytest.raises(ParameterError, match="B, A, scaling: expected finite numbers, found NaN or infinity"):
        low_rank_svd(LowRankUpdate(np.full((3, 2), np.nan), np.ones((2, 3))))
