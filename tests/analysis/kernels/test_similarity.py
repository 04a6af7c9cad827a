"""Directions of updates against dense matrices, planted structures and a published adapter."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from msplora_analysis import (
    common_subspace,
    principal_angles,
    sharing_shares,
    subspace_similarity,
    update_cosines,
    update_inner_products,
)
from msplora_core import read_adapter
from msplora_core.errors import ParameterError
from msplora_core.linalg import LowRankUpdate

MNLI = Path(__file__).parents[4] / "shared" / "adapters" / "microsoft-roberta-base-mnli"


def made(count=6, out=30, in_=20, rank=3, seed=0, dtype=np.float64):
    random = np.random.default_rng(seed)

    def factor(*shape):
        return random.standard_normal(shape).astype(dtype)

    return [LowRankUpdate(factor(out, rank), factor(rank, in_), 0.5 + i) for i in range(count)]


def dense(update):
    return update.scaling * update.B.astype(np.float64) @ update.A.astype(np.float64)


def orthogonal(size, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size))).Q


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_cosines_of_dense_updates(dtype):
    updates = made(dtype=dtype)
    flat = np.array([dense(update).ravel() for update in updates])
    expected = flat @ flat.T / np.linalg.norm(flat, axis=1) / np.linalg.norm(flat, axis=1)[:, None]
    np.testing.assert_allclose(update_cosines(updates), expected, rtol=0, atol=1e-12)


def test_cosines_do_not_change_when_all_updates_are_rotated():
    updates, left, right = made(), orthogonal(30), orthogonal(20)
    turned = [LowRankUpdate(left @ update.B, update.A @ right, update.scaling) for update in updates]
    np.testing.assert_allclose(update_cosines(turned), update_cosines(updates), rtol=0, atol=1e-12)


def test_an_update_has_cosine_one_with_itself_and_minus_one_with_its_negative():
    (one,) = made(1)
    found = update_cosines([one, LowRankUpdate(one.B * 7, one.A), LowRankUpdate(one.B, one.A, -one.scaling)])
    np.testing.assert_allclose(found, [[1, 1, -1], [1, 1, -1], [-1, -1, 1]], rtol=0, atol=1e-12)


def test_a_zero_update_has_no_direction():
    one, two = made(2)
    found = update_cosines([one, LowRankUpdate(0 * one.B, one.A), two])
    assert np.isnan(found[1]).all()
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[np.ix_([0, 2], [0, 2])]).all()


def test_an_update_of_rank_0_is_zero():
    one, two = made(2)
    without = LowRankUpdate(one.B[:, :0], one.A[:0])
    found = update_cosines([one, without, two])
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[::2, ::2], update_cosines([one, two]))
    energy = common_subspace([one, without, two], "left", 2).energy
    np.testing.assert_array_equal(energy[::2], common_subspace([one, two], "left", 2).energy)
    assert np.isnan(energy[1])


def test_cosines_of_small_updates_whose_columns_cancel_beside_a_large_one():
    large, *rest = made(4)
    small = []
    for update in rest:
        near = 1e-4 * update.B[:, :1]
        B, A = np.hstack([update.B[:, 1:], update.B[:, 1:] + near]), np.vstack([update.A[1:], -update.A[1:]])
        small.append(LowRankUpdate(B, A, 1e-6))
    flat = np.array([(update.B.astype(np.longdouble) @ update.A).ravel() for update in (large, *small)])
    expected = flat @ flat.T / np.sqrt(np.outer((flat**2).sum(axis=1), (flat**2).sum(axis=1)))
    np.testing.assert_allclose(update_cosines([large, *small]), expected.astype(float), rtol=0, atol=1e-12)


def test_tiny_and_huge_updates_have_cosines():
    one, two = made(2)
    expected = update_cosines([one, two])
    scaled = [LowRankUpdate(one.B * 1e-70, one.A), LowRankUpdate(two.B * 1e70, two.A)]
    np.testing.assert_allclose(update_cosines(scaled), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("groups", [3, 1, 6, (1, 5)])
def test_shares_are_those_of_dense_means(groups):
    updates = made()
    matrices = np.array([dense(update) for update in updates])
    group = np.array({3: [0, 0, 1, 1, 2, 2], 1: [0] * 6, 6: range(6), (1, 5): [0, 1, 1, 1, 1, 2]}[groups])
    mean = matrices.mean(axis=0)
    by_group = np.array([matrices[group == g].mean(axis=0) for g in group])
    total = (matrices**2).sum()
    expected = [6 * (mean**2).sum(), ((by_group - mean) ** 2).sum(), ((matrices - by_group) ** 2).sum()]
    found = sharing_shares(update_inner_products(updates), groups)
    np.testing.assert_allclose(found, np.array(expected) / total, rtol=0, atol=1e-12)
    assert found.sum() == pytest.approx(1, abs=1e-15)


def test_layers_that_share_nothing_whatever_their_norms():
    norms = np.random.default_rng(0).gamma(1.0, size=12)
    np.testing.assert_allclose(sharing_shares(np.diag(norms)), [1 / 12, 2 / 12, 9 / 12])


def test_planted_shares_are_found_for_each_epoch():
    whole, grouped = np.ones((6, 6)), np.kron(np.eye(3), np.ones((2, 2)))
    found = sharing_shares([whole, grouped, np.eye(6), 0 * whole])
    np.testing.assert_allclose(found[:3], [[1, 0, 0], [1 / 3, 2 / 3, 0], [1 / 6, 2 / 6, 3 / 6]], rtol=0, atol=1e-15)
    assert np.isnan(found[3]).all()


def test_overlap_of_leading_directions_is_that_of_the_definition():
    U, V = orthogonal(20, 1)[:, :4], orthogonal(20, 2)[:, :6]
    found = subspace_similarity(U, V)
    for i in range(1, 5):
        for j in range(1, 7):
            assert found[i - 1, j - 1] == pytest.approx(np.linalg.norm(U[:, :i].T @ V[:, :j]) ** 2 / min(i, j))
    np.testing.assert_allclose(subspace_similarity(V, U), found.T)
    np.testing.assert_allclose(subspace_similarity([U, U], [V, -V]), [found, found])
    np.testing.assert_allclose(np.diag(subspace_similarity(U, U)), 1)
    assert subspace_similarity(U.astype(np.float32), V.astype(np.float32)).max() <= 1


def test_random_subspaces_overlap_as_their_size_says():
    found = np.mean([subspace_similarity(orthogonal(50, s)[:, :5], orthogonal(50, s + 999)[:, :5]) for s in range(300)],
                    axis=0)  # fmt: skip
    assert found[4, 4] == pytest.approx(5 / 50, rel=0.05)
    assert found[0, 4] == pytest.approx(5 / 50, rel=0.1)


def test_angles_are_those_of_orthonormal_bases():
    left, right = (update.B for update in made(2))
    bases = [np.linalg.qr(part).Q for part in (left, right)]
    cosines = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    np.testing.assert_allclose(principal_angles(left, right), np.arccos(cosines), rtol=1e-10)
    np.testing.assert_allclose(principal_angles(left, left @ np.diag([1.0, 1e-3, 1e3])), 0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(principal_angles(np.eye(4, 2), np.eye(4)[:, 2:]), np.pi / 2)
    assert principal_angles(left, np.zeros((30, 2))).size == 0


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("count", [2, 12])
def test_the_common_subspace_is_that_of_the_stacked_dense_updates(side, count):
    updates = made(count)
    matrices = [dense(update) if side == "right" else dense(update).T for update in updates]
    matrices = [matrix / np.linalg.norm(matrix) for matrix in matrices]
    vectors = np.linalg.svd(np.concatenate(matrices))[2][:4].T
    found = common_subspace(updates, side, rank=4)
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(4), rtol=0, atol=1e-13)
    np.testing.assert_allclose(abs(found.basis.T @ vectors), np.eye(4), atol=1e-9)
    expected = [np.linalg.norm(matrix @ vectors) ** 2 for matrix in matrices]
    np.testing.assert_allclose(found.energy, expected, rtol=0, atol=1e-12)


def test_a_large_layer_does_not_make_the_common_subspace_its_own():
    updates = made()
    larger = [LowRankUpdate(1e9 * updates[0].B, updates[0].A), *updates[1:]]
    before, after = (common_subspace(layers, "right", rank=3) for layers in (updates, larger))
    np.testing.assert_allclose(after.energy, before.energy, rtol=0, atol=1e-12)


def test_layers_in_one_subspace_are_held_whole_and_zero_updates_have_no_share():
    random, plane = np.random.default_rng(0), orthogonal(20)[:2]
    inside = [LowRankUpdate(random.standard_normal((30, 4)), random.standard_normal((4, 2)) @ plane) for _ in range(3)]
    zero = LowRankUpdate(np.zeros((30, 1)), np.ones((1, 20)))
    found = common_subspace([*inside, zero], "right", rank=2)
    np.testing.assert_allclose(found.energy[:3], 1, rtol=0, atol=1e-12)
    assert np.isnan(found.energy[3])
    assert principal_angles(found.basis, plane.T).max() < 1e-7
    more = common_subspace(inside, "right", rank=5)
    np.testing.assert_allclose(more.basis.T @ more.basis, np.eye(5), rtol=0, atol=1e-12)
    assert np.isnan(common_subspace([zero], "left", rank=1).energy).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sharing_shares(np.ones((2, 3))), r"inner: expected shape \(..., L, L\), found \(2, 3\)"),
        (lambda: sharing_shares(np.eye(2), 3), "groups: expected 1 to 2, the number of layers"),
        (lambda: subspace_similarity(np.ones((4, 2)), np.eye(4, 2)), "U: expected orthonormal columns"),
        (lambda: subspace_similarity(np.eye(4, 2), np.full((4, 1), np.nan)), "V: expected orthonormal columns"),
        (lambda: subspace_similarity(np.eye(4, 2), np.eye(5, 2)), "U, V: expected shapes"),
        (lambda: principal_angles(np.eye(4, 2), np.eye(5, 2)), "U, V: expected shapes"),
        (lambda: principal_angles(np.eye(4, 2), np.full((4, 1), np.nan)), "U, V: expected finite numbers"),
        (lambda: common_subspace(made(), "up", 2), "side: expected 'left'"),
        (lambda: common_subspace(made(), "left", 19), "rank: expected a whole number from 1 to 18, found 19"),
        (lambda: common_subspace(made(), "left", 1.5), "rank: expected a whole number from 1 to 18, found 1.5"),
        (lambda: common_subspace([], "left", 1), "updates: expected at least one"),
        (lambda: common_subspace([*made(1), *made(1, out=9)], "left", 1), r"updates: .*\[9, 30\]"),
        (lambda: common_subspace([LowRankUpdate(np.full((3, 1), np.inf), np.ones((1, 3)))], "left", 1), "finite"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call()


@pytest.mark.skipif(not MNLI.is_dir(), reason="the shared MNLI adapter is not on this machine")
@pytest.mark.parametrize("module", ["query", "value"])
def test_the_layers_of_a_published_adapter_share_nothing(module):
    adapter = read_adapter(MNLI / "roberta_base_lora_mnli.bin", alpha=16)
    parts = [part for part in adapter.components() if part.key.module == module and part.key.scale == "layer"]
    updates = [part.update for part in sorted(parts, key=lambda part: part.key)]
    assert len(updates) == 12
    np.testing.assert_allclose(sharing_shares(update_inner_products(updates)), [1 / 12, 2 / 12, 9 / 12], atol=1e-3)
    cosines = update_cosines(updates) - np.eye(12)
    assert abs(cosines).max() < 0.01


@pytest.mark.parametrize("size", [1e-150, 1e-90, 1e90, 1e150])
def test_factors_whose_squares_leave_float64(size):
    ones = made()
    scaled = [LowRankUpdate(one.B * size, one.A * size, one.scaling) for one in ones]
    np.testing.assert_allclose(update_cosines(scaled), update_cosines(ones), atol=1e-14)
    for side in ("left", "right"):
        np.testing.assert_allclose(common_subspace(scaled, side, 3).energy, common_subspace(ones, side, 3).energy)
    if size > 1:
        with pytest.raises(ParameterError, match=r"norms up to 1.3e\+154, found larger"):
            update_inner_products(scaled)
