"""Block coordinate descent for a pyramid fit: shared and own components are improved in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_GAIN = 1e-8
"""The fit ends when a sweep raises the explained share by less."""

MOST_SWEEPS = 2_000
_MOST_MOMENTUM = 3.0
"""In units of the last step. With less, steep spectra take thousands of sweeps."""
_FOLLOWED = 8
"""Oversampling: extra directions of subspace iteration, which separate close singular values."""

_FIRST_STEPS = 8
"""Steps of subspace iteration in the first sweep, which starts at random; later sweeps take one step."""

Array = NDArray[np.float64]
Pair = tuple[Array, Array]


def descended(
    descent: Descent, total: float, progress: Callable[[int, float], None] | None
) -> tuple[list[float], bool]:
    """Return the share explained after each sweep, and whether the last one changed little.

    Most sweeps start from an extrapolation of the last step (Ang and Gillis 2019). If that does not raise the share, a
    plain sweep replaces it. So the share never falls, and only a plain sweep ends the descent.
    """
    course: list[float] = []
    momentum = _Momentum()
    while len(course) < MOST_SWEEPS:
        before, beyond = descent.state, momentum.now if len(course) > 1 else 0.0
        found = float(1 - descent.sweep(beyond) / total)
        if beyond and found - course[-1] < LEAST_GAIN:
            descent.state = before
            momentum.failed()
            found = float(1 - descent.sweep() / total)
        elif beyond:
            momentum.helped()
        course.append(found)
        if progress is not None:
            progress(len(course), course[-1])
        if len(course) > 1 and course[-1] - course[-2] < LEAST_GAIN:
            return course, True
    return course, False


class _Momentum:
    """Length of the extrapolation, in units of the last step."""

    def __init__(self) -> None:
        self.now, self._limit = 0.5, _MOST_MOMENTUM

    def helped(self) -> None:
        self.now = min(1.1 * self.now, self._limit)
        self._limit = min(1.02 * self._limit, _MOST_MOMENTUM)

    def failed(self) -> None:
        self._limit = max(self.now, 0.5)
        self.now = max(self.now / 2, 0.1)


class Descent:
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
        self.last = self.own, self._mids()  # before the last sweep

    @property
    def state(self) -> tuple[Any, ...]:
        """Everything that sweeps change."""
        return self.own, self.last, [vars(one).copy() for one in (self.shared, *self.mid)]

    @state.setter
    def state(self, state: tuple[Any, ...]) -> None:
        self.own, self.last, leading = state
        for one, before in zip((self.shared, *self.mid), leading, strict=True):
            vars(one).update(before)

    def sweep(self, momentum: float = 0.0) -> float:
        """Improve each component once, the coarse scale first; return the squared error summed over layers.

        Args:
            momentum: length of the extrapolation, in units of the last step.
        """
        (B, A), mids = self.own, self._mids()
        (last_B, last_A), last_mids = self.last
        self.last = self.own, mids
        if momentum:
            B = np.concatenate([(1 + momentum) * B, -momentum * last_B], axis=2)
            A = np.concatenate([A, last_A], axis=1)
            mids = (1 + momentum) * mids - momentum * last_mids
        rest = self.sums - np.stack([_sum(B[members], A[members]) for members in self.members])
        grouped = np.tensordot(self.sizes, mids, axes=1)
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

    def _mids(self) -> Array:
        return np.stack([mid.product() for mid in self.mid])

    def start_from_own(self) -> None:
        """Restart without shared components, with each layer's update truncated to the layer rank."""
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
        """Improve the approximation of M by subspace iteration; its error never rises."""
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
