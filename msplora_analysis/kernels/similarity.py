"""Directions of updates: cosines, shared parts, and angles between subspaces.

A spectrum has no directions: two updates with equal spectra can be orthogonal. All functions work on factors or thin
bases; no matrix of size out × in is formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_analysis.kernels.distribution import real_numbers
from msplora_core.errors import ParameterError
from msplora_core.linalg.inner_products import update_inner_products
from msplora_core.linalg.triangular import triangular_factor
from msplora_core.linalg.updates import LowRankUpdate, in_common_unit
from msplora_core.pyramid import layer_groups

_ORTHONORMAL = 1e-6
"""Largest deviation of UᵀU from the identity; float32 singular vectors stay below."""


class CommonSubspace(NamedTuple):
    """The subspace that holds most of all layers' energy.

    Args:
        basis: (d, rank) float64, orthonormal columns, the most important first.
        energy: (L,) float64, the share of each layer's squared Frobenius norm in the subspace; NaN for a zero update.
    """

    basis: NDArray[np.float64]
    energy: NDArray[np.float64]


def update_cosines(
    updates: Sequence[LowRankUpdate | tuple[NDArray[Any], NDArray[Any], float]],
) -> NDArray[np.float64]:
    """Return the cosines between weight updates: ⟨ΔW_i, ΔW_j⟩_F / (‖ΔW_i‖_F·‖ΔW_j‖_F).

    Args:
        updates: L updates of equal shape, or their (B, A, scaling); ranks and dtypes may differ.

    Returns:
        (L, L) float64 between −1 and 1, symmetric, 1 on the diagonal; NaN in the row and column of a zero update.

    Raises:
        ParameterError: if shapes differ, or a value is not finite.

    Example:
        >>> east, north = (LowRankUpdate(np.ones((2, 1)), row) for row in np.eye(2)[:, None])
        >>> update_cosines([east, north, LowRankUpdate(-east.B, east.A + north.A)]).round(3)
        array([[ 1.   ,  0.   , -0.707],
               [ 0.   ,  1.   , -0.707],
               [-0.707, -0.707,  1.   ]])
    """
    given = [update if isinstance(update, LowRankUpdate) else LowRankUpdate(*update) for update in updates]
    return cosines_of(update_inner_products([in_common_unit([update])[0][0] for update in given]))


def cosines_of(inner: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosines that belong to inner products, (L, L) each; NaN in the row and column of a zero update."""
    norms = np.sqrt(np.maximum(np.diagonal(inner), 0.0))
    norms = np.where(norms > 0, norms, np.nan)
    cosines = np.clip(inner / norms[:, None] / norms, -1.0, 1.0)
    np.fill_diagonal(cosines, np.where(np.isnan(norms), np.nan, 1.0))
    return cosines


def sharing_shares(inner: ArrayLike, groups: int | Sequence[int] | None = None) -> NDArray[np.float64]:
    """Return the shares of the layers' updates that all layers, groups of layers, and single layers have.

    With the mean m over all layers and the mean m_g over the layer's group, these are the shares of the three terms of

        Σ_l ‖ΔW_l‖² = Σ_l ‖m‖² + Σ_l ‖m_g(l) − m‖² + Σ_l ‖ΔW_l − m_g(l)‖².

    Compare them with 1/L, (G − 1)/L and (L − G)/L, the values for L layers in G groups of equal size that share
    nothing; not with zero.

    Args:
        inner: (..., L, L) inner products of the layers' updates in order of depth (`update_inner_products`).
        groups: number of groups by depth, or their boundaries, as for `MSPLoraConfig`; by default three, or the
            number of layers if less.

    Returns:
        (..., 3) float64 that sum to 1: all layers, groups beyond that, the rest. NaN if all updates are zero.

    Raises:
        ParameterError: if `inner` is not square, or the groups do not fit the layers.

    Example:
        >>> sharing_shares(np.ones((6, 6)))  # six equal updates
        array([1., 0., 0.])
        >>> sharing_shares(np.eye(6)).round(3)  # nothing shared
        array([0.167, 0.333, 0.5  ])
    """
    values = real_numbers(inner, "inner")
    if values.ndim < 2 or values.shape[-1] != values.shape[-2] or values.shape[-1] == 0:
        raise ParameterError("inner", expected="shape (..., L, L)", found=values.shape)
    layers = values.shape[-1]
    group = np.array(layer_groups(layers, groups))
    same = (group[:, None] == group) / np.bincount(group)[group]
    total = np.trace(values, axis1=-2, axis2=-1)
    total = np.where(total > 0, total, np.nan)
    by_all = values.sum(axis=(-2, -1)) / layers / total
    by_group = (values * same).sum(axis=(-2, -1)) / total
    shares: NDArray[np.float64] = np.stack([by_all, by_group - by_all, 1 - by_group], axis=-1)
    return np.maximum(shares, 0.0)  # rounding can leave -1e-17


def subspace_similarity(U: ArrayLike, V: ArrayLike) -> NDArray[np.float64]:
    """Return the overlap of the leading directions of two bases, for every number of directions.

    φ(i, j) = ‖U_iᵀ·V_j‖²_F / min(i, j) for the leading i columns of U and j of V (LoRA, arXiv 2106.09685, Section
    7.2). Random subspaces of ℝᵈ give max(i, j)/d on average.

    Args:
        U: (..., d, I) orthonormal columns, such as singular vectors in descending order.
        V: (..., d, J) likewise.

    Returns:
        (..., I, J) float64 between 0 and 1; row i − 1, column j − 1 holds φ(i, j).

    Raises:
        ParameterError: if the sizes do not fit, or columns are not orthonormal.

    Example:
        >>> subspace_similarity(np.eye(3, 2), np.eye(3)[:, [0, 2]])
        array([[1. , 1. ],
               [1. , 0.5]])
    """
    left, right = _basis("U", U), _basis("V", V)
    if left.shape[:-1] != right.shape[:-1]:
        raise ParameterError("U, V", expected="shapes (..., d, I) and (..., d, J)", found=(left.shape, right.shape))
    squares = np.square(left.swapaxes(-1, -2) @ right)
    sums = squares.cumsum(axis=-1).cumsum(axis=-2)
    counts = np.minimum(np.arange(1, sums.shape[-2] + 1)[:, None], np.arange(1, sums.shape[-1] + 1))
    return np.clip(sums / counts, 0.0, 1.0)


def principal_angles(U: ArrayLike, V: ArrayLike) -> NDArray[np.float64]:
    """Return the principal angles between the column spaces of two matrices (`scipy.linalg.subspace_angles`).

    Args:
        U: (d, I) columns that span a space; they need not be orthonormal.
        V: (d, J) likewise.

    Returns:
        (min of the two ranks,) float64 radians between 0 and π/2, ascending; empty if one space is {0}.

    Raises:
        ParameterError: if the sizes do not fit, or a value is not finite.

    Example:
        >>> principal_angles(np.eye(3, 2), [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]).round(3)
        array([0.   , 0.785])
    """
    from scipy.linalg import subspace_angles

    left, right = real_numbers(U, "U"), real_numbers(V, "V")
    if left.ndim != 2 or right.ndim != 2 or len(left) != len(right):
        raise ParameterError("U, V", expected="shapes (d, I) and (d, J)", found=(left.shape, right.shape))
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise ParameterError("U, V", expected="finite numbers", found="NaN or infinity")
    angles: NDArray[np.float64] = subspace_angles(left, right)[::-1]
    return angles


def common_subspace(updates: Sequence[LowRankUpdate], side: Literal["left", "right"], rank: int) -> CommonSubspace:
    """Return the subspace of inputs or outputs that holds most of the layers' energy, on average over the layers.

    The orthonormal P that maximises Σ_l ‖ΔW_l·P‖²_F / ‖ΔW_l‖²_F ("right", inputs), or the same with Pᵀ·ΔW_l ("left",
    outputs). Layers are weighted equally, since otherwise the largest layers would determine P. With the triangular
    factor R_l of the other side, ΔW_l·P has the norms of R_l·A_l·P, and P comes from the eigenvectors of a Gram matrix
    of size min(width, sum of the ranks).

    Args:
        updates: L updates with the same size on that side.
        side: "right" for inputs, "left" for outputs.
        rank: dimension of the subspace.

    Returns:
        The basis and the energy of each layer in it.

    Raises:
        ParameterError: if `side` is invalid, sizes differ, `rank` is not between 1 and the smaller of the size and the
            sum of the ranks, or a value is not finite.

    Example:
        >>> layers = [LowRankUpdate(np.ones((4, 1)), np.array([[1.0, 0.0, part]])) for part in (0.0, 1.0)]
        >>> common_subspace(layers, "right", rank=2).energy.round(3)
        array([1., 1.])
        >>> common_subspace(layers, "left", rank=1).basis.round(3).T
        array([[0.5, 0.5, 0.5, 0.5]])
    """
    from scipy.linalg import eigh

    if side not in ("left", "right"):
        raise ParameterError("side", expected="'left' (outputs) or 'right' (inputs)", found=side)
    rows = [_rows(update, side) for update in updates]
    widths = {part.shape[1] for part in rows}
    if len(widths) != 1:
        raise ParameterError("updates", expected=f"at least one, of one size on the {side}", found=sorted(widths))
    stacked = np.concatenate(rows)
    if not isinstance(rank, (int, np.integer)) or not 1 <= rank <= min(stacked.shape):
        raise ParameterError("rank", expected=f"a whole number from 1 to {min(stacked.shape)}", found=rank)
    few_rows = len(stacked) < stacked.shape[1]
    gram = stacked @ stacked.T if few_rows else stacked.T @ stacked
    vectors = eigh(gram, subset_by_index=[len(gram) - rank, len(gram) - 1])[1][:, ::-1]
    basis = np.linalg.qr(stacked.T @ vectors if few_rows else vectors).Q
    basis = basis * np.where(basis.sum(axis=0) < 0, -1.0, 1.0)
    energy = np.array([np.square(part @ basis).sum() if part.any() else np.nan for part in rows])
    return CommonSubspace(basis, np.minimum(energy, 1.0))


def _rows(update: LowRankUpdate, side: str) -> NDArray[np.float64]:
    """(k, d) rows whose Gram matrix is that of ΔW on one side, with norm 1; zero for a zero update."""
    here, other = (update.A, update.B) if side == "right" else (update.B.T, update.A.T)
    here, other = here.astype(np.float64), other.astype(np.float64)
    if not (np.isfinite(here).all() and np.isfinite(other).all()):
        raise ParameterError("updates", expected="finite numbers", found="NaN or infinity")
    rows = triangular_factor(other[None])[0] @ here if update.rank else here
    largest = abs(rows).max(initial=0.0)
    if not np.isfinite(largest):
        raise ParameterError("updates", expected="values within float64", found="larger ones")
    if not largest or not update.scaling:
        return np.zeros_like(rows)
    rows = rows / largest  # their squares neither overflow nor vanish
    return np.asarray(rows / np.linalg.norm(rows))


def _basis(name: str, values: ArrayLike) -> NDArray[np.float64]:
    basis = real_numbers(values, name)
    if basis.ndim < 2:
        raise ParameterError(name, expected="shape (..., d, columns)", found=basis.shape)
    apart = abs(basis.swapaxes(-1, -2) @ basis - np.eye(basis.shape[-1])).max(initial=0.0)
    if not apart <= _ORTHONORMAL:
        raise ParameterError(name, expected="orthonormal columns", found=f"UᵀU that differs by {apart:.2g} from I")
    return basis
