"""The fit of a pyramid against dense float64 matrices, and by its properties."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from msplora_core.errors import ParameterError
from msplora_core.linalg.pyramid_fit import PyramidFit, fit_pyramid, rotated
from msplora_core.linalg.updates import LowRankUpdate, joined
from msplora_core.pyramid import layer_groups


def random_update(random: np.random.Generator, rank: int, out: int = 20, width: int = 16) -> LowRankUpdate:
    return LowRankUpdate(random.standard_normal((out, rank)), random.standard_normal((rank, width)))


def planted(ranks: Sequence[int], groups: Sequence[int], out: int, width: int, seed: int = 0) -> list[LowRankUpdate]:
    random = np.random.default_rng(seed)
    wide, mid, own = ranks
    shared = random_update(random, wide, out, width)
    by_group = [random_update(random, mid, out, width) for _ in range(max(groups) + 1)]
    return [joined([shared, by_group[group], random_update(random, own, out, width)]) for group in groups]


def dense(update: LowRankUpdate) -> np.ndarray:
    return update.scaling * update.B.astype(np.float64) @ update.A.astype(np.float64)


def total(fit: PyramidFit, groups: Sequence[int], layer: int, shape: tuple[int, int]) -> np.ndarray:
    serving = [("global", 0), ("mid", groups[layer]), ("layer", layer)]
    return sum((dense(fit.components[unit]) for unit in serving if unit in fit.components), np.zeros(shape))


def explained(fit: PyramidFit, updates: Sequence[LowRankUpdate], groups: Sequence[int]) -> float:
    squares = [np.square(dense(update)).sum() for update in updates]
    rest = [
        np.square(dense(update) - total(fit, groups, layer, update.shape)).sum() for layer, update in enumerate(updates)
    ]
    return float(1 - sum(rest) / sum(squares))


def dense_fit(updates: Sequence[LowRankUpdate], ranks: Sequence[int], groups: Sequence[int]) -> float:
    """The same descent on matrices of size out × in with full SVDs: slow and plain."""
    target, group = np.stack([dense(update) for update in updates]), np.array(groups)

    def best(M: np.ndarray, rank: int) -> np.ndarray:
        U, sigma, Vt = np.linalg.svd(M, full_matrices=False)
        return (U[..., :rank] * sigma[..., None, :rank]) @ Vt[..., :rank, :]

    shared, own = np.zeros_like(target[0]), np.zeros_like(target)
    mid = np.zeros((group.max() + 1, *shared.shape))
    for _ in range(400):
        shared = best((target - mid[group] - own).mean(axis=0), ranks[0])
        for unit in range(len(mid)):
            mid[unit] = best((target - shared - own)[group == unit].mean(axis=0), ranks[1])
        own = best(target - shared - mid[group], ranks[2])
    return float(1 - np.square(target - shared - mid[group] - own).sum() / np.square(target).sum())


@pytest.mark.parametrize("ranks", [(3, 2, 1), (0, 2, 1), (3, 0, 1), (3, 2, 0), (2, 0, 0), (0, 0, 2)])
def test_the_dense_descent_ends_at_the_same_share(ranks: tuple[int, int, int]) -> None:
    random, groups = np.random.default_rng(1), layer_groups(6, 2)
    noise = [LowRankUpdate(more.B, more.A, 0.2) for more in (random_update(random, 4) for _ in groups)]
    updates = [joined(pair) for pair in zip(planted((3, 2, 1), groups, 20, 16), noise, strict=True)]
    fit = fit_pyramid(updates, ranks, groups)
    assert fit.explained == pytest.approx(explained(fit, updates, groups), abs=1e-12)
    assert fit.explained == pytest.approx(dense_fit(updates, ranks, groups), abs=1e-6)
    assert min(np.diff(fit.course), default=0.0) >= -1e-14
    assert fit.converged


def test_a_planted_pyramid_is_found() -> None:
    groups = layer_groups(12, 3)
    updates = planted((8, 4, 2), groups, 256, 256)
    fit = fit_pyramid(updates, (8, 4, 2), groups)
    assert fit.explained > 0.999999
    assert explained(fit, updates, groups) == pytest.approx(fit.explained, abs=1e-12)
    assert {unit: update.rank for unit, update in fit.components.items() if unit[1] == 0} == {
        ("global", 0): 8, ("mid", 0): 4, ("layer", 0): 2,
    }  # fmt: skip


def test_steep_spectra_converge() -> None:
    random, decay = np.random.default_rng(0), 0.5 ** np.arange(16)
    updates = [LowRankUpdate(random.normal(size=(96, 16)) * decay, random.normal(size=(16, 96))) for _ in range(6)]
    fit = fit_pyramid(updates, (8, 4, 2), layer_groups(6, 3))
    assert fit.converged
    assert fit.explained > 0.9663  # a descent without momentum is at 0.9657 after 2,000 sweeps
    assert min(np.diff(fit.course)) >= -1e-14


def test_one_layer_is_its_truncated_decomposition() -> None:
    (update,) = [random_update(np.random.default_rng(0), 6)]
    fit = fit_pyramid([update], (2, 1, 1), (0,))
    squares = np.square(np.linalg.svd(dense(update), compute_uv=False))
    assert fit.explained == pytest.approx(squares[:4].sum() / squares.sum(), abs=1e-12)


def test_equal_layers_are_explained_by_the_global_scale_alone() -> None:
    update = random_update(np.random.default_rng(0), 3)
    fit = fit_pyramid([update] * 5, (3, 0, 0), (0,) * 5)
    assert fit.explained == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(dense(fit.components["global", 0]), dense(update), atol=1e-12)


def test_rotations_scalings_and_signs_of_all_layers_change_nothing() -> None:
    random, groups = np.random.default_rng(3), layer_groups(6, 3)
    updates = planted((2, 1, 3), groups, 20, 16, seed=4)
    Q, P = (np.linalg.qr(random.standard_normal((size, size))).Q for size in (20, 16))
    moved = [LowRankUpdate(Q @ update.B, update.A @ P, -1e30) for update in updates]
    before, after = (fit_pyramid(given, (2, 1, 1), groups).explained for given in (updates, moved))
    assert after == pytest.approx(before, abs=1e-6)


def test_half_precision_deficient_and_wide_factors() -> None:
    random = np.random.default_rng(5)
    thin = LowRankUpdate(random.standard_normal((5, 9)).astype(np.float16), random.standard_normal((9, 4)), 0.5)
    twice = LowRankUpdate(np.ones((5, 2)), np.ones((2, 4)))
    fit = fit_pyramid([thin, twice, thin], (6, 2, 4), (0, 0, 1))  # ranks above those of the matrices
    assert fit.explained == pytest.approx(1, abs=1e-12)
    ranks = {"global": 6, "mid": 2, "layer": 4}
    assert all(update.rank == update.B.shape[1] == ranks[scale] for (scale, _), update in fit.components.items())
    assert explained(fit, [thin, twice, thin], (0, 0, 1)) == pytest.approx(1, abs=1e-12)


def test_never_worse_than_the_layer_rank_alone() -> None:
    updates = [random_update(np.random.default_rng(seed), 4) for seed in range(5)]
    fit = fit_pyramid(updates, (3, 2, 4), (0, 0, 0, 1, 1))
    assert fit.explained == pytest.approx(1, abs=1e-12)


def test_zero_updates() -> None:
    nothing = LowRankUpdate(np.zeros((5, 2)), np.zeros((2, 4)))
    fit = fit_pyramid([nothing, nothing], (2, 0, 1), (0, 0))
    assert np.isnan(fit.explained)
    assert set(fit.components) == {("global", 0), ("layer", 0), ("layer", 1)}
    assert not any(update.B.any() or update.A.any() for update in fit.components.values())
    one = fit_pyramid([nothing, random_update(np.random.default_rng(0), 1, 5, 4)], (0, 0, 1), (0, 0))
    assert one.explained == pytest.approx(1, abs=1e-12)


def test_the_null_keeps_spectra_and_shares_nothing() -> None:
    groups = layer_groups(12, 3)
    updates = planted((8, 4, 2), groups, 128, 128)
    moved = rotated(updates, seed=1)
    for before, after in zip(updates, moved, strict=True):
        np.testing.assert_allclose(after.singular_values(), before.singular_values(), rtol=1e-10)
    assert fit_pyramid(moved, (8, 4, 2), groups).explained < 0.7
    assert not np.array_equal(rotated(updates, seed=2)[0].B, moved[0].B)


def test_progress_tells_every_sweep() -> None:
    told: list[tuple[int, float]] = []
    updates = planted((2, 1, 1), (0, 0, 1), 20, 16)
    fit = fit_pyramid(updates, (2, 1, 1), (0, 0, 1), progress=lambda *now: told.append(now))
    assert told == list(enumerate(fit.course, start=1))


@pytest.mark.parametrize(
    ("shapes", "groups", "ranks", "message"),
    [
        ([(3, 4), (4, 4)], (0, 0), (1, 1, 1), "updates: expected at least one, of one shape, found"),
        ([], (), (1, 1, 1), "updates: expected at least one, of one shape, found"),
        ([(3, 4)], (0, 0), (1, 1, 1), "groups: expected 1, one for each update, found 2"),
        ([(3, 4)], (0,), (0, 0, 0), "ranks: expected three whole numbers"),
    ],
)
def test_what_does_not_fit_is_named(shapes: list, groups: tuple, ranks: tuple, message: str) -> None:
    updates = [LowRankUpdate(np.ones((out, 1)), np.ones((1, width))) for out, width in shapes]
    with pytest.raises(ParameterError, match=message):
        fit_pyramid(updates, ranks, groups)


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ParameterError, match="expected finite numbers, found NaN or infinity"):
        fit_pyramid([LowRankUpdate(np.full((3, 1), np.nan), np.ones((1, 3)))], (1, 0, 0), (0,))
