"""The best sum of shared and own components for the updates of a stack of layers, from factors alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import ParameterError
from msplora_core.linalg.truncation import low_rank_svd
from msplora_core.linalg.updates import LowRankUpdate
from msplora_core.pyramid import SCALES, check_ranks

LEAST_GAIN = 1e-8
"""The fit ends after a sweep that raises the explained share by less."""

MOST_SWEEPS = 2_000
_FOLLOWED = 8
"""Directions followed beyond a component's rank: they keep the leading ones leading, also where values lie close."""

_FIRST_STEPS = 8
"""Steps of subspace iteration in the first sweep, which starts at random; later ones start from the sweep before."""

_ROUNDING = 1e-15
"""Singular values below this share of the largest are the rounding of zeros."""

Array = NDArray[np.float64]
Pair = tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class PyramidFit:
    """A pyramid in place of the updates of a stack of layers.

    Args:
        components: by scale and unit (0; the group; the place of the layer). Float64, scaling 1, B and A of equal
            weight, all of the rank asked for: what the updates do not need is zero.
        explained: 1 − Σ_l ‖ΔW_l − fit_l‖² / Σ_l ‖ΔW_l‖²; NaN if all updates are zero.
        course: that share after each sweep; it never falls.
        converged: whether the last sweep raised it by less than `LEAST_GAIN`.
    """

    components: Mapping[tuple[str, int], LowRankUpdate]
    explained: float
    course: tuple[float, ...]
    converged: bool


def fit_pyramid(
    updates: Sequence[LowRankUpdate],
    ranks: tuple[int, int, int],
    groups: Sequence[int],
    *,
    progress: Callable[[int, float], None] | None = None,
) -> PyramidFit:
    """Return global, mid and layer components whose sums are close to the updates of a stack of layers.

    Minimises Σ_l ‖ΔW_l − G − M_g(l) − D_l‖²_F over matrices of the given ranks by block coordinate descent. The best
    G, given the rest, is the truncated SVD of the mean of what the rest leaves of each layer (Eckart and Young 1936),
    and likewise the M of a group and the D of a layer. Those of G and M are followed by one step of subspace
    iteration a sweep, which never raises the error. A sweep goes from the coarse scale to the fine one: from fine to
    coarse, the layers' own components would take what is shared, and the descent ends in a worse optimum. The
    problem is not convex: even this optimum need not be the best one. Where it is worse than the layer rank alone, the
    descent begins again from there.

    All is computed in the space that the stacked factors span, which holds the best fit. Nothing of size out × in is
    formed.

    Args:
        updates: L updates of equal shape (out, in), in order of depth; ranks and dtypes may differ.
        ranks: of (global, mid, layer); 0 leaves a scale out.
        groups: the group of each layer, as `layer_groups` gives them.
        progress: called after each sweep with its number and the share explained so far.

    Returns:
        The components, and the share that they explain.

    Raises:
        ParameterError: if shapes differ, a value is not finite, or ranks or groups do not fit.

    Example:
        >>> shared, own = np.diag([3.0, 0.0, 0.0]), np.diag([0.0, 1.0, 0.0])
        >>> fit = fit_pyramid([LowRankUpdate(shared + own, np.eye(3)), LowRankUpdate(shared - own, np.eye(3))],
        ...                   ranks=(1, 0, 1), groups=(0, 0))
        >>> round(fit.explained, 9), (fit.components["global", 0].B @ fit.components["global", 0].A).round(6)[0, 0]
        (1.0, np.float64(3.0))
    """
    check_ranks(ranks)
    shapes = {update.shape for update in updates}
    if len(shapes) != 1:
        raise ParameterError("updates", expected="at least one, of one shape", found=sorted(shapes))
    if len(groups) != len(updates):
        raise ParameterError("groups", expected=f"{len(updates)}, one for each update", found=len(groups))
    parts = [low_rank_svd(update.B, update.A, update.scaling) for update in updates]
    largest = max(float(sigma.max(initial=0.0)) for _, sigma, _ in parts)
    if largest == 0:
        out, width = shapes.pop()
        nothing = LowRankUpdate(np.zeros((out, 0)), np.zeros((0, width)))
        return PyramidFit(dict(_filled(dict.fromkeys(_units(ranks, groups), nothing), ranks)), np.nan, (), True)
    left = np.linalg.qr(np.concatenate([U[:, sigma > _ROUNDING * largest] for U, sigma, _ in parts], axis=1)).Q
    right = np.linalg.qr(np.concatenate([Vt[sigma > _ROUNDING * largest] for _, sigma, Vt in parts]).T).Q
    rank = max(len(sigma) for _, sigma, _ in parts)
    B = np.stack([_widened(left.T @ U * (sigma / largest), rank) for U, sigma, _ in parts])
    A = np.stack([_widened(right.T @ Vt.T, rank) for _, _, Vt in parts]).swapaxes(-1, -2)
    squares = np.stack([np.square(np.pad(sigma / largest, (0, rank - len(sigma)))) for _, sigma, _ in parts])
    descent = _Descent(B, A, ranks, np.asarray(groups))
    course, converged = _descended(descent, squares.sum(), progress)
    if course[-1] < squares[:, : ranks[2]].sum() / squares.sum():
        descent.start_from_own()
        course, converged = _descended(descent, squares.sum(), progress)
    found = {
        unit: LowRankUpdate(left @ B * np.sqrt(largest), np.sqrt(largest) * A @ right.T)
        for unit, (B, A) in descent.components().items()
    }
    return PyramidFit(dict(_filled(found, ranks)), course[-1], tuple(course), converged)


def _descended(
    descent: _Descent, total: float, progress: Callable[[int, float], None] | None
) -> tuple[list[float], bool]:
    """The share explained after each sweep, and whether the last one changed little."""
    course: list[float] = []
    while len(course) < MOST_SWEEPS:
        course.append(float(1 - descent.sweep() / total))
        if progress is not None:
            progress(len(course), course[-1])
        if len(course) > 1 and course[-1] - course[-2] < LEAST_GAIN:
            return course, True
    return course, False


def rotated(updates: Sequence[LowRankUpdate], seed: int = 0) -> list[LowRankUpdate]:
    """Return updates with the same singular values and random singular vectors, drawn for each layer apart.

    Such layers share nothing but by chance: the null of what layers share.

    Args:
        updates: any number.
        seed: of the random numbers.

    Example:
        >>> update = LowRankUpdate(np.eye(5, 2), np.diag([1.0, 3.0]))
        >>> rotated([update])[0].singular_values().round(9)
        array([3., 1.])
    """
    random = np.random.default_rng(seed)
    found = []
    for update in updates:
        sigma = low_rank_svd(update.B, update.A, update.scaling)[1]
        U, V = (np.linalg.qr(random.standard_normal((size, len(sigma)))).Q for size in update.shape)
        found.append(LowRankUpdate(U * sigma, V.T))
    return found


class _Descent:
    """Block coordinate descent; every matrix is a pair of factors (k, r) and (r, m).

    Args:
        B: (L, k, r) of the updates.
        A: (L, r, m) likewise.
        ranks: of (global, mid, layer).
        groups: (L,) the group of each layer.
    """

    def __init__(self, B: Array, A: Array, ranks: tuple[int, int, int], groups: NDArray[np.intp]) -> None:
        self.B, self.A, self.own_rank = B, A, ranks[2]
        self.names, self.group_of = np.unique(groups, return_inverse=True)
        self.members = [np.flatnonzero(self.group_of == group) for group in range(len(self.names))]
        self.sizes = np.array([len(members) for members in self.members])
        self.sums = np.stack([_sum(B[own], A[own]) for own in self.members])  # (groups, k, m)
        shape, random = self.sums.shape[1:], np.random.default_rng(0)
        self.shared = _Leading(shape, ranks[0], random)
        self.mid = [_Leading(shape, ranks[1], random) for _ in self.members]
        self.own: Pair = np.zeros((len(B), shape[0], 0)), np.zeros((len(B), 0, shape[1]))

    def sweep(self) -> float:
        """Improve each component once, the coarse scale first; return Σ_l of what is not explained, squared."""
        rest = self.sums - np.stack([_sum(*(part[members] for part in self.own)) for members in self.members])
        grouped = sum(size * mid.product() for size, mid in zip(self.sizes, self.mid, strict=True))
        self.shared.refit((rest.sum(axis=0) - grouped) / len(self.B))
        shared = self.shared.product()
        for part, size, mid in zip(rest, self.sizes, self.mid, strict=True):
            mid.refit(part / size - shared)
        coarse = [(self.shared, self.mid[group]) for group in self.group_of]
        B = np.stack([np.concatenate([wide.B, mid.B], axis=1) for wide, mid in coarse])
        A = np.stack([np.concatenate([wide.A, mid.A]) for wide, mid in coarse])
        U, sigma, Vt = _thin_svd(np.concatenate([self.B, -B], axis=2), np.concatenate([self.A, A], axis=1))
        self.own = U[..., : self.own_rank] * sigma[:, None, : self.own_rank], Vt[:, : self.own_rank]
        return float(np.square(sigma[:, self.own_rank :]).sum())

    def start_from_own(self) -> None:
        """Begin again, with the layers' updates at their own rank as the layer scale and nothing shared."""
        for coarse in (self.shared, *self.mid):
            coarse.clear()
        U, sigma, Vt = _thin_svd(self.B, self.A)
        self.own = U[..., : self.own_rank] * sigma[:, None, : self.own_rank], Vt[:, : self.own_rank]

    def components(self) -> dict[tuple[str, int], Pair]:
        """The factors by scale and unit, B and A of equal weight."""
        found = {("global", 0): (self.shared.B, self.shared.A)}
        found |= {("mid", int(group)): (mid.B, mid.A) for group, mid in zip(self.names, self.mid, strict=True)}
        found |= {("layer", layer): pair for layer, pair in enumerate(zip(*self.own, strict=True))}
        return {unit: _balanced(*pair) for unit, pair in found.items()}


class _Leading:
    """The leading part B·A of a matrix that changes little from one sweep to the next.

    Args:
        shape: (k, m) of the matrix.
        rank: of the part.
        random: for the directions to start from.
    """

    def __init__(self, shape: tuple[int, ...], rank: int, random: np.random.Generator) -> None:
        self.rank = min(rank, *shape)
        self.B, self.A = np.zeros((shape[0], self.rank)), np.zeros((self.rank, shape[1]))
        self._followed = random.standard_normal((shape[1], min(self.rank + _FOLLOWED, *shape)))
        self._steps = _FIRST_STEPS

    def clear(self) -> None:
        self.B, self.A, self._steps = np.zeros_like(self.B), np.zeros_like(self.A), _FIRST_STEPS

    def refit(self, M: Array) -> None:
        """Follow the leading part: what is found is at least as close to M as what was before."""
        if not self.rank:
            return
        for _ in range(self._steps):
            left = np.linalg.qr(M @ self._followed).Q
            right = np.linalg.qr(M.T @ left)
            self._followed = right.Q
        U, sigma, Vt = np.linalg.svd(right.R.T)
        self._followed = right.Q @ Vt.T
        self.B, self.A = left @ U[:, : self.rank] * sigma[: self.rank], self._followed[:, : self.rank].T
        self._steps = 1

    def product(self) -> Array:
        return self.B @ self.A


def _sum(B: Array, A: Array) -> Array:
    """Σ_l B_l·A_l of factors (L, k, r) and (L, r, m), as one product."""
    return B.swapaxes(0, 1).reshape(B.shape[1], -1) @ A.reshape(-1, A.shape[2])


def _thin_svd(B: Array, A: Array) -> tuple[Array, Array, Array]:
    """The SVD of each B·A of a batch, by the triangular factors of both."""
    left, right = np.linalg.qr(B), np.linalg.qr(A.swapaxes(-1, -2))
    U, sigma, Vt = np.linalg.svd(left.R @ right.R.swapaxes(-1, -2), full_matrices=False)
    return left.Q @ U, sigma, Vt @ right.Q.swapaxes(-1, -2)


def _balanced(B: Array, A: Array) -> Pair:
    """U·diag(σ) and Vᵀ as U·diag(√σ) and diag(√σ)·Vᵀ."""
    root = np.sqrt(np.linalg.norm(B, axis=0))
    return B / np.where(root > 0, root, 1.0), root[:, None] * A


def _units(ranks: tuple[int, int, int], groups: Sequence[int]) -> list[tuple[str, int]]:
    units = [("global", 0), *(("mid", group) for group in dict.fromkeys(groups))]
    return units + [("layer", layer) for layer in range(len(groups))]


def _filled(
    found: Mapping[tuple[str, int], LowRankUpdate], ranks: tuple[int, int, int]
) -> list[tuple[tuple[str, int], LowRankUpdate]]:
    """The components of the scales that are not left out, with zeros up to their rank."""
    rank_of = dict(zip(SCALES, ranks, strict=True))
    return [
        (unit, LowRankUpdate(_widened(update.B, rank_of[unit[0]]), _widened(update.A.T, rank_of[unit[0]]).T))
        for unit, update in found.items()
        if rank_of[unit[0]]
    ]


def _widened(factor: Array, rank: int) -> Array:
    """A factor (n, r) with columns of zeros up to a rank."""
    return np.pad(factor, ((0, 0), (0, rank - factor.shape[1])))
