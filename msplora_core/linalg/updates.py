"""Weight updates and their singular values: low-rank, Hadamard and Kronecker products, dense matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import ParameterError, UnsupportedAdapterError
from msplora_core.linalg.magnitude import divided, multiplied
from msplora_core.linalg.singular_values import low_rank_singular_values
from msplora_core.linalg.triangular import stacked_triangular_factor

MOST_ELEMENTS = 2**25
"""Float64 numbers (256 MiB) that an update may take in memory; a small file can describe a huge matrix."""


class Update(Protocol):
    """A weight update ΔW with singular values."""

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of ΔW."""

    @property
    def rank(self) -> int:
        """Number of singular values."""

    def singular_values(self) -> NDArray[np.float64]:
        """Return all of them, float64, descending."""


@dataclass(frozen=True, eq=False)
class LowRankUpdate:
    """ΔW = scaling·B·A.

    Args:
        B: (out, r), any float dtype.
        A: (r, in), any float dtype.
        scaling: α/r, or the scaling of the method.
    """

    B: NDArray[Any]
    A: NDArray[Any]
    scaling: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        return self.B.shape[0], self.A.shape[1]

    @property
    def rank(self) -> int:
        return int(self.A.shape[0])

    def singular_values(self) -> NDArray[np.float64]:
        return low_rank_singular_values(self.B, self.A, self.scaling)


def in_common_unit(updates: Sequence[LowRankUpdate]) -> tuple[list[LowRankUpdate], int]:
    """Divide updates by one power of two, so that the squares of the largest neither overflow nor vanish.

    Only the scaling changes. Factors of 32 bits and less are taken as they are, since no product of two is too large.

    Args:
        updates: all of one unit; zeros do not count.

    Returns:
        The updates, and the exponent of the power.

    Example:
        >>> (small,), exponent = in_common_unit([LowRankUpdate(np.full((2, 1), 1e-150), np.full((1, 2), 1e-150))])
        >>> small.singular_values().round(2), exponent
        (array([0.67]), -995)
    """
    sizes = [
        np.frexp(update.scaling)[1] + _exponent(update.B) + _exponent(update.A)
        for update in updates
        if update.scaling and update.B.any() and update.A.any()
    ]
    exponent = int(np.clip(max(sizes, default=0), -1000, 1000))
    return [replace(update, scaling=float(np.ldexp(update.scaling, -exponent))) for update in updates], exponent


def _exponent(factor: NDArray[Any]) -> int:
    if factor.dtype.itemsize <= np.float32().itemsize:
        return 0
    return int(np.frexp(max(factor.max(initial=0.0), -factor.min(initial=0.0)))[1])


def joined(updates: Iterable[LowRankUpdate]) -> LowRankUpdate:
    """Return the sum of low-rank updates of one matrix: factors joined along the rank, scaling folded into B.

    Args:
        updates: of equal shape; at least one.

    Returns:
        An update in float64 with scaling 1, whose rank is the sum of the ranks.

    Example:
        >>> one = LowRankUpdate(np.ones((3, 1)), np.ones((1, 2)), 0.5)
        >>> joined([one, one]).singular_values().round(6)
        array([2.44949, 0.     ])
    """
    updates = list(updates)
    B = np.concatenate([update.scaling * update.B.astype(np.float64) for update in updates], axis=1)
    A = np.concatenate([update.A.astype(np.float64) for update in updates], axis=0)
    return LowRankUpdate(B, A)


@dataclass(frozen=True, eq=False)
class DenseUpdate:
    """ΔW as one matrix, of a method without low-rank factors.

    Args:
        matrix: (out, in), any float dtype.
        scaling: a common factor.
    """

    matrix: NDArray[Any]
    scaling: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def rank(self) -> int:
        return min(self.shape)

    def singular_values(self) -> NDArray[np.float64]:
        matrix, exponent = divided(self.matrix.astype(np.float64))
        return multiplied(np.linalg.svd(matrix, compute_uv=False), self.scaling, exponent)


@dataclass(frozen=True, eq=False)
class DeferredUpdate:
    """A dense ΔW that is formed only while it is decomposed, so that one is in memory at a time.

    Args:
        shape: (out, in) of ΔW.
        form: returns ΔW in any float dtype.
    """

    shape: tuple[int, int]
    form: Callable[[], NDArray[Any]]

    @property
    def rank(self) -> int:
        return min(self.shape)

    def singular_values(self) -> NDArray[np.float64]:
        matrix = self.form()
        if not np.isfinite(matrix).all():
            raise ParameterError("update", expected="finite numbers", found="NaN or infinity")
        return DenseUpdate(matrix).singular_values()


@dataclass(frozen=True, eq=False)
class KroneckerUpdate:
    """ΔW = scaling·(left ⊗ right): its singular values are the products of those of its factors.

    Args:
        left: a dense or low-rank update.
        right: likewise.
        scaling: a common factor.

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
        (left, left_exponent), (right, right_exponent) = divided(left[None]), divided(right[None])
        products = np.sort(np.outer(left, right).ravel())[::-1]
        return multiplied(products, self.scaling, left_exponent + right_exponent)


class Factor(Protocol):
    """A matrix of known shape and rank; its values need not be read."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def rank(self) -> int: ...


def kronecker_rank(left: Factor, right: Factor) -> int:
    """Return the largest rank that a Kronecker product of these factors can have."""
    return min(left.rank, *left.shape) * min(right.rank, *right.shape)


@dataclass(frozen=True, eq=False)
class HadamardUpdate:
    """ΔW = scaling·(left ∘ right), the element-wise product of two low-rank updates of one shape.

    Its rank is at most the product of the ranks. Its factors are the products of every column of one B with
    every column of the other, and of every row of one A with every row of the other (Hyeon-Woo et al. 2022,
    FedPara, arXiv 2108.06098). They are built in blocks of rows and reduced to their triangular factors. If the
    product of the ranks reaches the size of the matrix, the matrix itself is decomposed.

    Args:
        left: (out, in) of rank r₁.
        right: (out, in) of rank r₂.
        scaling: a common factor.

    Example:
        >>> one = LowRankUpdate(np.array([[1.0], [2.0]]), np.array([[3.0, 4.0]]))
        >>> HadamardUpdate(one, one).singular_values().round(6)  # of [[9, 16], [36, 64]]
        array([75.690158])
    """

    left: LowRankUpdate
    right: LowRankUpdate
    scaling: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape

    @property
    def rank(self) -> int:
        return hadamard_rank(self.left, self.right)

    def singular_values(self) -> NDArray[np.float64]:
        whole = self.left.rank * self.right.rank >= min(self.shape)
        elements = self.shape[0] * self.shape[1] if whole else self.rank**2
        if elements > MOST_ELEMENTS:
            raise UnsupportedAdapterError(
                f"a Hadamard product of shape {self.shape[0]} × {self.shape[1]} and ranks {self.left.rank} and "
                f"{self.right.rank} takes {elements} numbers; expected at most {MOST_ELEMENTS}"
            )
        factors = (self.left.B, self.left.A, self.right.B, self.right.A)
        (left_B, left_A, right_B, right_A), exponents = zip(
            *(divided(factor.astype(np.float64)) for factor in factors), strict=True
        )
        if whole:
            core = (left_B @ left_A) * (right_B @ right_A)
        else:
            core = _khatri_rao_factor(left_B, right_B) @ _khatri_rao_factor(left_A.T, right_A.T).T
        scalings, more = zip(*map(np.frexp, (self.scaling, self.left.scaling, self.right.scaling)), strict=True)
        return multiplied(np.linalg.svd(core, compute_uv=False), np.prod(scalings), sum(exponents) + sum(more))


def _khatri_rao_factor(left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
    """R of the matrix whose rows are the Kronecker products of the rows of `left` and `right`."""
    rank = left.shape[1] * right.shape[1]
    step = max(rank, 2**18 // rank)
    return stacked_triangular_factor(
        (left[start : start + step, :, None] * right[start : start + step, None, :]).reshape(-1, rank)
        for start in range(0, len(left), step)
    )


def hadamard_rank(left: Factor, right: Factor) -> int:
    """Return the largest rank that a Hadamard product of these factors can have."""
    return min(left.rank * right.rank, *left.shape)


def kernel_factors(core: NDArray[Any], out_factor: NDArray[Any], in_factor: NDArray[Any]) -> LowRankUpdate:
    """Return a convolution's update in Tucker form as a product: out_factorᵀ · (core contracted with in_factor).

    Args:
        core: (r, s, kernel height, kernel width).
        out_factor: (r, out).
        in_factor: (s, in).

    Returns:
        The update of shape (out, in·height·width) and rank r.
    """
    in_side = np.einsum("rshw,si->rihw", core.astype(np.float64), in_factor.astype(np.float64), optimize=True)
    return LowRankUpdate(out_factor.T, in_side.reshape(core.shape[0], -1))


def flattened(values: NDArray[Any]) -> NDArray[Any]:
    """Return a convolution's kernel (out, in, ...) as the matrix (out, in·...) that it applies to each patch."""
    return values.reshape(values.shape[0], -1)
