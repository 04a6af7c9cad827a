"""Everything that comes from the overlaps of singular vectors, against dense matrices."""

from itertools import product

import ml_dtypes
import numpy as np
import pytest

from msplora_analysis import (
    common_subspace,
    direction_overlaps,
    principal_angles,
    subspace_similarity,
    update_inner_products,
)
from msplora_core.errors import ParameterError
from msplora_core.linalg import LowRankUpdate

SIDES = {"outputs": "left", "inputs": "right"}


def made(ranks=(3, 5, 2), out=30, in_=20, seed=0, dtype=np.float64):
    random = np.random.default_rng(seed)

    def factor(*shape):
        return random.standard_normal(shape).astype(dtype)

    return [LowRankUpdate(factor(out, rank), factor(rank, in_), 0.5 + rank) for rank in ranks]


def dense(update):
    return update.scaling * update.B.astype(np.float64) @ update.A.astype(np.float64)


def bases(update):
    U, _, Vt = np.linalg.svd(dense(update), full_matrices=False)
    return {"outputs": U[:, : update.rank], "inputs": Vt[: update.rank].T}


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_inner_products_of_dense_updates(dtype):
    updates = made(dtype=dtype)
    flat = np.array([dense(update).ravel() for update in updates])
    found = direction_overlaps(updates).inner_products()
    np.testing.assert_allclose(found, flat @ flat.T, atol=1e-12 * (flat**2).sum(axis=1).max())


@pytest.mark.parametrize("side", SIDES)
def test_similarities_angles_and_energies_of_dense_updates(side):
    updates = made()
    found = direction_overlaps(updates)
    for i, j in product(range(3), range(3)):
        U, V = bases(updates[i])[side], bases(updates[j])[side]
        grid = subspace_similarity(U, V)
        np.testing.assert_allclose(found.similarity(side, i, j), grid, atol=1e-10)
        np.testing.assert_allclose(found.full_similarities(side)[i, j], grid[-1, -1], atol=1e-10)
        np.testing.assert_allclose(found.angles(side, i, j), principal_angles(U, V), atol=1e-7)
        W = dense(updates[i])
        within = V @ V.T @ W if side == "outputs" else W @ V @ V.T
        expected = np.square(within).sum() / np.square(W).sum()
        np.testing.assert_allclose(found.energy_within(i, j, side), expected, rtol=1e-10)
    energy = common_subspace(updates, SIDES[side], 4).energy.mean()
    np.testing.assert_allclose(found.common_energy(side, 4), energy, rtol=1e-10)


def test_energy_within_both_subspaces_bounds_the_cosine():
    updates = made(seed=2)
    found = direction_overlaps(updates)
    (W, V), other = map(dense, updates[:2]), bases(updates[1])
    both = other["outputs"] @ other["outputs"].T @ W @ other["inputs"] @ other["inputs"].T
    np.testing.assert_allclose(found.energy_within(0, 1, "both"), (both**2).sum() / (W**2).sum(), rtol=1e-10)
    cosine = (W * V).sum() / np.linalg.norm(W) / np.linalg.norm(V)
    assert abs(cosine) <= np.sqrt(min(found.energy_within(0, 1, "both"), found.energy_within(1, 0, "both")))


def test_overlaps_in_single_precision():
    updates = made(ranks=(9, 6, 8), out=300, in_=200)
    exact, found = direction_overlaps(updates), direction_overlaps(updates, np.float32)
    assert found.outputs.dtype == np.float32
    norms = [np.linalg.norm(values) for values in exact.sigma]
    apart = abs(found.inner_products() - exact.inner_products()) / np.multiply.outer(norms, norms)
    assert apart.max() < 1e-6
    for side in SIDES:
        np.testing.assert_allclose(found.full_similarities(side), exact.full_similarities(side), atol=1e-6)
        np.testing.assert_allclose(found.common_energy(side, 9), exact.common_energy(side, 9), atol=1e-6)


@pytest.mark.parametrize("condition", [1, 1e2, 1e4, 1e5, 1e8])
def test_bases_of_ill_conditioned_factors_are_orthonormal(condition):
    update = made((20,), out=300, in_=200)[0]
    mixed = (
        np.linalg.qr(update.A @ update.A.T).Q * np.geomspace(1, 1 / condition, 20) @ np.linalg.qr(update.A[:, :20]).Q
    )
    found = direction_overlaps([LowRankUpdate(update.B @ mixed, update.A), LowRankUpdate(update.B, mixed @ update.A)])
    for own in (found.block(side, place, place) for side in SIDES for place in (0, 1)):
        np.testing.assert_allclose(own, np.eye(20), atol=1e-12)


def test_ill_conditioned_dependent_and_zero_updates():
    (one,) = made((4,))
    steep = LowRankUpdate(one.B * 10.0 ** -np.arange(0, 16, 4), one.A)
    dependent = LowRankUpdate(one.B[:, [0, 0, 1, 1]], one.A[[0, 0, 1, 1]])
    wide = LowRankUpdate(np.eye(30, 25), np.eye(25, 20))
    updates = [steep, dependent, LowRankUpdate(one.B * 0, one.A), wide]
    found = direction_overlaps(updates)
    assert found.ranks == [4, 2, 0, 20]
    for overlaps in (found.outputs, found.inputs):
        own = np.split(np.split(overlaps, [4, 6], axis=0)[0], [4], axis=1)[0]
        np.testing.assert_allclose(own, np.eye(4), atol=1e-10)
    flat = np.array([dense(update).ravel() for update in updates])
    np.testing.assert_allclose(found.inner_products(), flat @ flat.T, atol=1e-12 * (flat**2).sum(axis=1).max())
    assert np.isnan(found.energy_within(2, 0, "inputs"))
    assert found.angles("inputs", 2, 0).size == 0
    assert np.isnan(found.full_similarities("inputs")[[2, 2, 0], [2, 0, 2]]).all()
    np.testing.assert_allclose(update_inner_products(updates), found.inner_products(), atol=1e-9)


def test_updates_of_other_shapes_or_with_nan_are_refused():
    with pytest.raises(ParameterError, match="one shape"):
        direction_overlaps([*made(), *made(out=31)])
    with pytest.raises(ParameterError, match="finite"):
        direction_overlaps([LowRankUpdate(np.full((3, 1), np.nan), np.ones((1, 3)))])


@pytest.mark.parametrize("size", [1e-90, 1e90])
def test_shares_of_energy_of_tiny_and_huge_updates(size):
    updates = made()
    scaled = [LowRankUpdate(one.B * size, one.A * size, one.scaling) for one in updates]
    found, expected = direction_overlaps(scaled), direction_overlaps(updates)
    for side in SIDES:
        np.testing.assert_allclose(found.energy_within(0, 1, side), expected.energy_within(0, 1, side))
        np.testing.assert_allclose(found.common_energy(side, 4), expected.common_energy(side, 4))


def test_an_update_without_ranks_is_a_zero_update():
    (one,) = made((3,))
    assert direction_overlaps([LowRankUpdate(one.B[:, :0], one.A[:0]), one]).ranks == [0, 3]
