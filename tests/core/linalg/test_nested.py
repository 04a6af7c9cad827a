"""The spectra of DyLoRA at every rank."""

from __future__ import annotations

import numpy as np
import pytest

from msplora_core.errors import ParameterError
from msplora_core.linalg.nested import nested_singular_values
from msplora_core.linalg.singular_values import low_rank_singular_values


def test_each_row_is_a_dense_svd_of_the_cut_factors() -> None:
    rng = np.random.default_rng(0)
    B, A, alpha = rng.standard_normal((3, 12, 5)), rng.standard_normal((3, 5, 9)), 16.0
    found = nested_singular_values(B, A, alpha / 5)
    assert found.shape == (3, 5, 5)
    for b in range(1, 6):
        dense = np.linalg.svd(alpha / b * (B[..., :b] @ A[:, :b]), compute_uv=False)[..., :b]
        np.testing.assert_allclose(found[:, b - 1, :b], dense, rtol=0, atol=1e-12 * dense.max())
        assert not found[:, b - 1, b:].any()
    np.testing.assert_array_equal(found[:, -1], low_rank_singular_values(B, A, alpha / 5))


def test_edges() -> None:
    assert not nested_singular_values(np.zeros((4, 3)), np.ones((3, 4))).any()
    assert nested_singular_values(np.zeros((4, 0)), np.zeros((0, 4))).shape == (0, 0)
    scalings = nested_singular_values(np.ones((2, 3, 2)), np.ones((2, 2, 3)), [1.0, 2.0])
    np.testing.assert_allclose(scalings[1], 2 * scalings[0])
    with pytest.raises(ParameterError, match="expected shapes"):
        nested_singular_values(np.ones((4, 3)), np.ones((2, 4)))
