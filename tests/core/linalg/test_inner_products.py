"""Inner products from the factors, against those of the dense updates in extended precision."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msplora_core.errors import ParameterError
from msplora_core.linalg import LowRankUpdate, update_inner_products


def dense(updates: list[LowRankUpdate]) -> np.ndarray:
    """The reference: form every update in 80-bit floating point and sum over its elements."""
    matrices = [update.B.astype(np.longdouble) @ update.A.astype(np.longdouble) * update.scaling for update in updates]
    return np.array([[(one * other).sum() for other in matrices] for one in matrices])


def assert_agrees(updates: list[LowRankUpdate]) -> None:
    found, expected = update_inner_products(updates), dense(updates)
    assert found.dtype == np.float64
    assert (found == found.T).all()
    assert (np.abs(found - expected) <= 1e-12 * np.abs(expected).max()).all()


def random_update(rng: np.random.Generator, out: int, columns: int, rank: int, scaling: float = 1.0) -> LowRankUpdate:
    return LowRankUpdate(rng.standard_normal((out, rank)), rng.standard_normal((rank, columns)), scaling)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    out=st.integers(1, 40),
    columns=st.integers(1, 40),
    ranks=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    scaling=st.floats(-100, 100).filter(lambda scaling: scaling == 0 or abs(scaling) > 1e-100),
)
def test_random_factors_of_any_shape_and_rank(
    seed: int, out: int, columns: int, ranks: list[int], scaling: float
) -> None:
    rng = np.random.default_rng(seed)
    assert_agrees([random_update(rng, out, columns, rank, scaling) for rank in ranks])


def test_zero_and_rank_deficient_updates() -> None:
    rng = np.random.default_rng(0)
    zero = LowRankUpdate(np.zeros((30, 4)), rng.standard_normal((4, 20)))
    once = random_update(rng, 30, 20, 1)
    twice = LowRankUpdate(np.tile(once.B, 3), np.tile(once.A, (3, 1)))
    assert_agrees([zero, once, twice, random_update(rng, 30, 20, 4)])
    assert (update_inner_products([zero, zero]) == 0).all()
    np.testing.assert_allclose(update_inner_products([once, twice])[0, 1], 3 * update_inner_products([once])[0, 0])


@pytest.mark.parametrize("size", [1e1, 1e2, 1e3, 1e4])
def test_columns_that_cancel(size: float) -> None:
    """B·A is far smaller than its factors: the trace of the factors alone loses the square of that."""
    rng = np.random.default_rng(1)
    updates = []
    for _ in range(4):
        small, shared = random_update(rng, 60, 50, 2), rng.standard_normal((60, 1)) * size
        row = rng.standard_normal((1, 50))
        B, A = np.hstack([small.B, shared, shared]), np.vstack([small.A, row, -row])
        updates.append(LowRankUpdate(B, A, 0.5))
    assert_agrees(updates)


def test_factors_over_many_orders_of_magnitude() -> None:
    rng = np.random.default_rng(2)
    spread = np.logspace(0, -12, 8)
    updates = [random_update(rng, 60, 50, 8) for _ in range(3)]
    assert_agrees([LowRankUpdate(update.B * spread, update.A, 2.0) for update in updates])
    assert_agrees([LowRankUpdate(update.B * spread, update.A / spread[:, None]) for update in updates])
    assert_agrees([LowRankUpdate(update.B * 1e160, update.A * 1e-160) for update in updates])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_half_and_single_precision(dtype: type) -> None:
    rng = np.random.default_rng(3)
    updates = [random_update(rng, 40, 30, 4) for _ in range(3)]
    assert_agrees([LowRankUpdate(update.B.astype(dtype), update.A.astype(dtype), 2.0) for update in updates])


def test_orthogonal_updates_have_none() -> None:
    basis = np.linalg.qr(np.random.default_rng(4).standard_normal((20, 8)))[0]
    updates = [LowRankUpdate(basis[:, i : i + 4], basis[:, i : i + 4].T) for i in (0, 4)]
    np.testing.assert_allclose(update_inner_products(updates), [[4, 0], [0, 4]], atol=1e-13)


def test_one_update_and_none() -> None:
    update = LowRankUpdate(np.array([[3.0]]), np.array([[2.0]]), -1.0)
    assert update_inner_products([update]).tolist() == [[36.0]]
    assert update_inner_products([]).shape == (0, 0)


def test_what_does_not_fit_is_refused() -> None:
    rng = np.random.default_rng(5)
    with pytest.raises(ParameterError, match=r"updates: expected updates of one shape, found \[\(3, 4\), \(4, 3\)\]"):
        update_inner_products([random_update(rng, 3, 4, 1), random_update(rng, 4, 3, 1)])
    with pytest.raises(ParameterError, match="updates: expected finite numbers, found NaN or infinity"):
        update_inner_products([LowRankUpdate(np.full((2, 1), np.nan), np.ones((1, 2)))])
    with pytest.raises(ParameterError, match="updates: expected finite numbers, found NaN or infinity"):
        update_inner_products([LowRankUpdate(np.ones((2, 1)), np.ones((1, 2)), float("inf"))])
    with pytest.raises(ParameterError, match=r"updates: expected factors \(out, r\) and \(r, in\), found \(\(3, 2\), "):
        update_inner_products([(np.ones((3, 2)), np.ones((3, 3)), 1.0)])
