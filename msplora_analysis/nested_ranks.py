"""The spectra of DyLoRA, which trains an update that can be cut at any rank."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.measures import measures_of
from msplora_core.components import Component
from msplora_core.linalg import LowRankUpdate, nested_singular_values

_MEASURES = ("m_eff_1", "entropy_rank")


def nested_measures(components: Iterable[Component]) -> list[dict[str, float]]:
    """Return a row for each rank b at which an update can be cut: means over the components of at least that rank.

    Args:
        components: of a DyLoRA adapter; zero updates are left out.

    Returns:
        Rows of `rank`, `components`, `sigma_1` (mean of the largest singular values), `m_eff_1` (share of 1; NaN at
        b = 1) and `entropy_rank` (ranks) of (α/b)·B[:, :b]·A[:b] (arXiv 2210.07558).

    Raises:
        AdapterFileError: if a component's values are not finite.

    Example:
        >>> from msplora_core.components import ComponentKey
        >>> update = LowRankUpdate(np.eye(3, 2), np.diag([1.0, 3.0]), scaling=2.0)
        >>> rows = nested_measures([Component(ComponentKey("layer", "query", 0), update)])
        >>> [(row["rank"], row["sigma_1"]) for row in rows]
        [(1, 4.0), (2, 6.0)]
    """
    by_rank = defaultdict[int, list[NDArray[np.float64]]](list)
    for update in (component.update for component in components):
        if isinstance(update, LowRankUpdate):
            for b, sigma in enumerate(nested_singular_values(update.B, update.A, update.scaling), 1):
                if sigma.any():
                    by_rank[b].append(sigma[:b])
    rows = []
    for b, found in sorted(by_rank.items()):
        sigma, measures = np.array(found), measures_of(np.array(found), ks=[1])
        means = {name: float(measures[name].mean()) for name in _MEASURES}
        rows.append({"rank": b, "components": len(found), "sigma_1": float(sigma[:, 0].mean()), **means})
    return rows
