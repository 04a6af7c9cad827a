"""DyLoRA's update at each rank, against dense singular values of the cut product."""

import numpy as np
import pytest

from msplora_analysis.nested_ranks import nested_measures
from msplora_core.components import Component, ComponentKey
from msplora_core.linalg import LowRankUpdate


def test_measures_are_those_of_the_cut_products():
    random, alpha = np.random.default_rng(0), 16
    updates = [
        LowRankUpdate(random.standard_normal((9, rank)), random.standard_normal((rank, 7)), alpha / rank)
        for rank in (4, 4, 2)
    ]
    zero = LowRankUpdate(np.zeros((9, 4)), np.ones((4, 7)), 4.0)
    components = [Component(ComponentKey("layer", "query", unit), one) for unit, one in enumerate([*updates, zero])]
    rows = nested_measures(components)
    assert [(row["rank"], row["components"]) for row in rows] == [(1, 3), (2, 3), (3, 2), (4, 2)]
    for row in rows:
        b = int(row["rank"])
        dense = [alpha / b * one.B[:, :b] @ one.A[:b] for one in updates if one.rank >= b]
        sigma = np.linalg.svd(dense, compute_uv=False)[:, :b]
        share = sigma / sigma.sum(axis=1, keepdims=True)
        assert row["sigma_1"] == pytest.approx(sigma[:, 0].mean())
        assert row["entropy_rank"] == pytest.approx(np.exp(-(share * np.log(share)).sum(axis=1)).mean())
        if b > 1:
            assert row["m_eff_1"] == pytest.approx(share[:, 0].mean())
    assert np.isnan(rows[0]["m_eff_1"])
    assert nested_measures([components[-1]]) == []
