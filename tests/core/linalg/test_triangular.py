"""Triangular factors: the same R, up to signs of rows, as Householder QR of the whole, whatever the route."""

from __future__ import annotations

import numpy as np
import pytest

from msplora_core.linalg.triangular import stacked_triangular_factor, triangular_factor


def agrees(R: np.ndarray, M: np.ndarray) -> bool:
    """Whether RᵀR is MᵀM to rounding, column by column: what makes R a factor of M."""
    scale = np.linalg.norm(M, axis=-2)
    scale = np.where(scale, scale, 1)
    expected = np.linalg.qr(M, mode="r") / scale[..., None, :]
    found = R / scale[..., None, :]
    signs = np.sign(np.diagonal(expected, axis1=-2, axis2=-1) * np.diagonal(found, axis1=-2, axis2=-1))
    return bool(np.allclose(found * np.where(signs, signs, 1)[..., :, None], expected, atol=1e-7)) and bool(
        np.allclose(
            np.linalg.svd(found, compute_uv=False), np.linalg.svd(M / scale[..., None, :], compute_uv=False), atol=1e-13
        )
    )


def spread(decades: float, rows: int = 500, rank: int = 12, seed: int = 0) -> np.ndarray:
    """A tall matrix whose singular values spread over so many decades, its columns mixed."""
    random = np.random.default_rng(seed)
    Q = np.linalg.qr(random.standard_normal((rank, rank))).Q
    return np.linalg.qr(random.standard_normal((rows, rank))).Q * np.geomspace(1, 10**-decades, rank) @ Q


@pytest.mark.parametrize("decades", [0, 1, 3, 6])
def test_every_route_gives_householder_s_factor(decades: float) -> None:
    M = spread(decades)
    assert agrees(triangular_factor(M[None])[0], M)


@pytest.mark.parametrize("decades", [9, 12, 15])
def test_singular_values_far_apart_keep_full_accuracy(decades: float) -> None:
    M = spread(decades)
    expected = np.geomspace(1, 10**-decades, 12)
    assert np.allclose(np.linalg.svd(triangular_factor(M[None])[0], compute_uv=False), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("case", ["dependent", "zero", "zero column", "one row outweighs", "huge", "tiny"])
def test_what_cholesky_cannot_do_householder_does(case: str) -> None:
    M = spread(1)
    if case == "dependent":
        M[:, 3] = M[:, 0] + M[:, 1]
    elif case == "zero":
        M[:] = 0
    elif case == "zero column":
        M[:, 5] = 0
    elif case == "one row outweighs":
        M[7] *= 1e14
    else:
        M *= 1e200 if case == "huge" else 1e-200
    R = triangular_factor(np.stack([M, spread(2)]))
    size = abs(M).max() or 1.0
    expected = np.linalg.svd(M / size, compute_uv=False)
    assert np.allclose(np.linalg.svd(R[0] / size, compute_uv=False), expected, rtol=0, atol=1e-14 * expected[0])
    assert agrees(R[1], spread(2))


def test_blocks_stacked_are_the_whole() -> None:
    M = spread(8, rows=203)
    assert np.allclose(
        np.linalg.svd(stacked_triangular_factor([M[:7], M[7:100], M[100:]]), compute_uv=False),
        np.linalg.svd(M, compute_uv=False), rtol=0, atol=1e-15,
    )  # fmt: skip
    assert stacked_triangular_factor([M[:3], M[3:5]]).shape == (5, 12)


def test_more_columns_than_rows() -> None:
    M = spread(1)[:5]
    assert triangular_factor(M[None]).shape == (1, 5, 12)
