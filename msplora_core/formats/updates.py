"""Weight updates whose spectrum is not that of one plain product: Hadamard and Kronecker products, dense matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from msplora_core.components import LowRankUpdate, Update
from msplora_core.errors import UnsupportedAdapterError

MOST_ELEMENTS = 2**27
"""Float64 numbers (1 GiB) that an update may need beside those of its file: a few thin factors can claim any."""


@dataclass(frozen=True, eq=False)
class DenseUpdate:
    """ΔW as one matrix, from a method whose factors promise no low rank.

    Args:
        matrix: (out, in), any float dtype.
        scaling: a factor of all of it.
    """

    matrix: NDArray
    scaling: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def rank(self) -> int:
        return min(self.shape)

    def singular_values(self) -> NDArray[np.float64]:
        return np.linalg.svd(self.matrix.astype(np.float64), compute_uv=False) * abs(self.scaling)


@dataclass(frozen=True, eq=False)
class KroneckerUpdate:
    """ΔW = scaling·(left ⊗ right): its singular values are the products of those of its factors.

    Args:
        left: itself an update, dense or low-rank.
        right: likewise.
        scaling: a factor of all of it.

    Example:
        >>> left, right = DenseUpdate(np.diag([2.0, 1.0])), DenseUpdate(np.diag([5.0, 3.0]))
        >>> KroneckerUpdate(left, right).singular_values()
        array([10.,  6.,  5.,  3.])
    """

    left: Update
    right: Update
    scaling: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        (out, in_), (more_out, more_in) = self.left.shape, self.right.shape
        return out * more_out, in_ * more_in

    @property
    def rank(self) -> int:
        return kronecker_rank(self.left, self.right)

    def singular_values(self) -> NDArray[np.float64]:
        left, right = (side.singular_values()[: min(side.rank, *side.shape)] for side in (self.left, self.right))
        return np.sort(np.outer(left, right).ravel())[::-1] * abs(self.scaling)


class Factor(Protocol):
    """What has a shape and a rank, read or not."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def rank(self) -> int: ...


def kronecker_rank(left: Factor, right: Factor) -> int:
    """How many singular values a Kronecker product has that its factors' shapes do not force to zero."""
    return min(left.rank, *left.shape) * min(right.rank, *right.shape)


def hadamard_update(first: LowRankUpdate, second: LowRankUpdate, scaling: float = 1.0) -> Update:
    """ΔW = scaling·(first ∘ second), the element-wise product of two low-rank updates of one shape.

    It has at most the product of the ranks, and factors to show it: every column of the one B times every
    column of the other, every row of the one A times every row of the other (Hyeon-Woo et al. 2022, FedPara,
    arXiv 2108.06098). Where that product reaches the size of the matrix, the matrix itself is cheaper.

    Args:
        first: (out, in) of rank r₁.
        second: (out, in) of rank r₂.
        scaling: a factor of all of it.

    Returns:
        A `LowRankUpdate` of rank r₁·r₂, or, where that is not below min(out, in), a `DenseUpdate`.

    Raises:
        UnsupportedAdapterError: if that takes more than `MOST_ELEMENTS` numbers.

    Example:
        >>> one = LowRankUpdate(np.array([[1.0], [2.0]]), np.array([[3.0, 4.0]]))
        >>> hadamard_update(one, one).singular_values().round(6)  # of [[9, 16], [36, 64]]
        array([75.690158])
    """
    (out, in_), rank = first.shape, first.rank * second.rank
    dense = rank >= min(out, in_)
    elements = out * in_ if dense else (out + in_) * rank
    if elements > MOST_ELEMENTS:
        raise UnsupportedAdapterError(
            f"a Hadamard product of shape {out} × {in_} and ranks {first.rank} and {second.rank} takes {elements} "
            f"numbers; expected at most {MOST_ELEMENTS}"
        )
    B1, A1, B2, A2 = (factor.astype(np.float64) for factor in (first.B, first.A, second.B, second.A))
    scaling *= first.scaling * second.scaling
    if dense:
        return DenseUpdate((B1 @ A1) * (B2 @ A2), scaling)
    return LowRankUpdate(
        (B1[:, :, None] * B2[:, None, :]).reshape(out, rank),
        (A1[:, None, :] * A2[None, :, :]).reshape(rank, in_),
        scaling,
    )


def hadamard_rank(shape: tuple[int, int], first: int, second: int) -> int:
    """How many singular values `hadamard_update` gives."""
    return min(first * second, *shape)


def kernel_factors(core: NDArray, out_factor: NDArray, in_factor: NDArray) -> LowRankUpdate:
    """A convolution's update in Tucker form, as a plain product: out_factorᵀ · (core contracted with in_factor).

    Args:
        core: (r, s, kernel height, kernel width).
        out_factor: (r, out).
        in_factor: (s, in).

    Returns:
        The update of shape (out, in·height·width) and rank r.
    """
    in_side = np.einsum("rshw,si->rihw", core.astype(np.float64), in_factor.astype(np.float64), optimize=True)
    return LowRankUpdate(out_factor.T, in_side.reshape(core.shape[0], -1))


def flattened(values: NDArray) -> NDArray:
    """A convolution's kernel (out, in, ...) as the matrix (out, in·...) that it applies to each patch."""
    return values.reshape(values.shape[0], -1)
