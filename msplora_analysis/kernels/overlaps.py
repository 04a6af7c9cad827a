"""Comparisons of the directions of updates, from the overlaps of their singular vectors.

With ΔW_i = U_i·Σ_i·V_iᵀ, the r × r blocks U_iᵀ·U_j (outputs) and V_iᵀ·V_j (inputs) determine inner products,
similarities and angles of subspaces, and the energy of one update in the subspaces of another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.kernels.direction_nulls import leading_sum
from msplora_core.errors import ParameterError
from msplora_core.linalg.triangular import triangular_factor
from msplora_core.linalg.truncation import low_rank_svd
from msplora_core.linalg.updates import LowRankUpdate

Side = Literal["inputs", "outputs"]
SIDES: tuple[Side, Side] = ("inputs", "outputs")
_MOST_GROWTH = 5e3
"""Limit on |R|·|R⁻¹·U|: a basis B·R⁻¹·U is orthonormal to eps times that, here 1e-12."""


@dataclass(frozen=True, eq=False)
class DirectionOverlaps:
    """The singular values of updates, and the overlaps of all their singular vectors.

    Args:
        sigma: non-zero singular values of each update, (k,) float64, descending.
        outputs: (N, N) overlaps of the left singular vectors of all updates, float64 or float32; N is the sum of all k.
        inputs: (N, N) overlaps of the right singular vectors, likewise.

    Example:
        >>> one = LowRankUpdate(np.eye(4, 2), np.eye(2, 3))
        >>> two = LowRankUpdate(np.eye(4, 2), np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
        >>> both = direction_overlaps([one, two])
        >>> both.similarity("outputs", 0, 1)[-1, -1], both.similarity("inputs", 0, 1)[-1, -1]
        (np.float64(1.0), np.float64(0.5))
        >>> round(both.energy_within(0, 1, "inputs"), 12), both.inner_products()
        (0.5, array([[2., 1.],
               [1., 2.]]))
    """

    sigma: Sequence[NDArray[np.float64]]
    outputs: NDArray[np.floating[Any]]
    inputs: NDArray[np.floating[Any]]

    @cached_property
    def _ends(self) -> NDArray[np.intp]:
        return np.cumsum([0, *map(len, self.sigma)])

    @cached_property
    def _units(self) -> list[NDArray[np.float64]]:
        """Singular values of updates of norm 1; squares of the values themselves could overflow or vanish."""
        relative = [values / values.max(initial=0.0) if len(values) else values for values in self.sigma]
        return [values / (np.linalg.norm(values) or 1.0) for values in relative]

    def _whole(self, side: Side) -> NDArray[np.floating[Any]]:
        return self.inputs if side == "inputs" else self.outputs

    @property
    def ranks(self) -> list[int]:
        """The numerical rank of each update; 0 for a zero update."""
        return [len(values) for values in self.sigma]

    def block(self, side: Side, i: int, j: int) -> NDArray[np.floating[Any]]:
        """Return the overlaps of the singular vectors of update i with those of update j: (k_i, k_j)."""
        return self._whole(side)[self._own(i), self._own(j)]

    def inner_products(self) -> NDArray[np.float64]:
        """Return ⟨ΔW_i, ΔW_j⟩ of all updates, (L, L) float64."""
        sigma = np.concatenate(self.sigma)
        return self._block_sums(lambda rows: sigma[rows] @ (self.outputs[rows] * self.inputs[rows]) * sigma)

    def similarity(self, side: Side, i: int, j: int) -> NDArray[np.float64]:
        """Return φ of the leading directions of two updates, (k_i, k_j) (see `subspace_similarity`)."""
        sums = np.square(self.block(side, i, j)).cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
        counts = np.minimum(np.arange(1, len(sums) + 1)[:, None], np.arange(1, sums.shape[1] + 1))
        return np.asarray(np.minimum(sums / counts, 1.0))

    def full_similarities(self, side: Side) -> NDArray[np.float64]:
        """Return φ at full rank of all pairs of updates: (L, L) float64; NaN for a zero update."""
        smaller = np.minimum.outer(self.ranks, self.ranks)
        whole = self._whole(side)
        sums = self._block_sums(lambda rows: np.square(whole[rows]).sum(axis=0, dtype=np.float64))
        shares = np.divide(sums, smaller, out=np.full(sums.shape, np.nan), where=smaller > 0)
        return np.asarray(np.minimum(shares, 1.0))

    def angles(self, side: Side, i: int, j: int) -> NDArray[np.float64]:
        """Return the principal angles between the subspaces of two updates, in radians, ascending.

        They are computed from cosines, so angles below 1e-7 cannot be distinguished from 0.
        """
        block = self.block(side, i, j)
        return np.arccos(np.clip(np.linalg.svd(block, compute_uv=False), 0.0, 1.0)) if block.size else np.empty(0)

    def energy_within(self, i: int, j: int, side: Side | Literal["both"]) -> float:
        """Return the share of ‖ΔW_i‖² that lies in the subspaces of update j.

        Args:
            i: the update with the energy.
            j: the update with the subspaces.
            side: `inputs` for ‖ΔW_i·P‖², `outputs` for ‖P·ΔW_i‖², `both` for both projections at once.

        Returns:
            A share of 1; NaN if ΔW_i is zero.
        """
        sigma = self._units[i]
        if not len(sigma):
            return float("nan")
        if side == "both":
            within = self.block("outputs", i, j).T * sigma @ self.block("inputs", i, j)
        else:
            within = self.block(side, i, j) * sigma[:, None]
        return min(1.0, float(np.square(within).sum()))

    def common_energy(self, side: Side, rank: int) -> float:
        """Return the mean share of the updates' energy in their best common subspace (see `common_subspace`).

        Args:
            side: inputs or outputs.
            rank: dimension of the subspace.
        """
        whole = self._whole(side)
        weights = np.concatenate(self._units).astype(whole.dtype)
        gram = whole * weights
        gram *= weights[:, None]
        count = np.count_nonzero(self.ranks)
        return min(1.0, leading_sum(gram, rank) / count) if count else float("nan")

    def _block_sums(self, over_rows: Callable[[slice], NDArray[np.float64]]) -> NDArray[np.float64]:
        """Of each pair of updates the sum of its block, from sums (N,) over the rows of each update."""
        found = np.zeros((len(self.sigma), len(self.sigma)))
        known = np.flatnonzero(self.ranks)
        for place in known.tolist():
            found[place, known] = np.add.reduceat(over_rows(self._own(place)), self._ends[known])
        return found

    def _own(self, i: int) -> slice:
        return slice(int(self._ends[i]), int(self._ends[i + 1]))


def direction_overlaps(
    updates: Sequence[LowRankUpdate], dtype: type[np.float64 | np.float32] = np.float64
) -> DirectionOverlaps:
    """Return the overlaps of the singular vectors of updates of one shape.

    Costs two Gram matrices of the stacked singular vectors, O(L²·r²·(in + out)); no matrix of size out × in is formed.

    Args:
        updates: L updates of equal shape; ranks and dtypes may differ.
        dtype: of the overlaps. float32 halves time and memory: singular vectors come in float64 all the same, and
            overlaps, cosines and shares of energy are within 1e-6 of those in float64.

    Raises:
        ParameterError: if shapes differ, or a value is not finite.
    """
    shapes = {update.shape for update in updates}
    if len(shapes) != 1:
        raise ParameterError("updates", expected="updates of one shape", found=sorted(shapes))
    left, sigma, right = zip(*map(_bases, updates), strict=True)
    # both sides use the same memory, since its first use takes as long as the arithmetic
    room = np.empty(sum(map(len, sigma)) * max(shapes.pop()), dtype)
    return DirectionOverlaps(sigma, _overlaps(left, room), _overlaps(right, room))


_Basis = tuple[NDArray[np.float64], NDArray[Any]]
"""A matrix (k, r) and a factor (r, d). Their product, formed when it is needed, has orthonormal rows."""
_Bases = tuple[_Basis, NDArray[np.float64], _Basis]


def _overlaps(bases: Sequence[_Basis], room: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The overlaps of the rows of all bases; the rows are stacked in `room`."""
    count, width = sum(len(transform) for transform, _ in bases), bases[0][1].shape[1]
    stacked, end = room[: count * width].reshape(count, width), 0
    values = np.empty((max(len(factor) for _, factor in bases), width))
    for transform, factor in bases:
        start, end = end, end + len(transform)
        values[: len(factor)] = factor
        stacked[start:end] = transform @ values[: len(factor)]
    return stacked @ stacked.T


def _bases(update: LowRankUpdate) -> _Bases:
    """Uᵀ, σ (k,) and Vᵀ, without the directions of zero singular values."""
    (rows, B), sigma, (columns, A) = _by_triangular_factors(update) or _by_orthogonal_factors(update)
    kept = int(np.count_nonzero(sigma > sigma[:1] * np.finfo(np.float64).eps * max(update.shape)))
    return (rows[:kept], B), sigma[:kept], (columns[:kept], A)


def _by_triangular_factors(update: LowRankUpdate) -> _Bases | None:
    """Several times faster than by Householder QR; None if the factors are too ill-conditioned."""
    if not 0 < update.rank <= min(update.shape):
        return None
    left, right = _triangular(update.B), _triangular(update.A.T)
    U, sigma, Vt = np.linalg.svd(update.scaling * left @ right.T)
    try:
        rows, columns = np.linalg.solve(left, U), np.linalg.solve(right, Vt.T)
    except np.linalg.LinAlgError:
        return None
    sound = all((abs(R) @ abs(X)).max() <= _MOST_GROWTH for R, X in ((left, rows), (right, columns)))
    return ((rows.T, update.B.T), sigma, (columns.T, update.A)) if sound else None


def _triangular(factor: NDArray[Any]) -> NDArray[np.float64]:
    if not np.isfinite(factor).all():
        raise ParameterError("updates", expected="finite numbers", found="NaN or infinity")
    R: NDArray[np.float64] = triangular_factor(factor.astype(np.float64)[None])[0]
    return R


def _by_orthogonal_factors(update: LowRankUpdate) -> _Bases:
    U, sigma, Vt = low_rank_svd(update)
    unit = np.eye(len(sigma))
    return (unit, U.T), sigma, (unit, Vt)
