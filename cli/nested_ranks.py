"""The spectra of DyLoRA, which trains an update that can be cut at any rank."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from msplora_analysis.kernels.concentration import effective_rank_ratio, entropy_rank
from msplora_core.components import Component
from msplora_core.linalg import LowRankUpdate, nested_singular_values


def nested_rows(components: Iterable[Component]) -> list[dict[str, float]]:
    """Return a row for each rank b at which an update can be cut: means over all components that have it.

    Args:
        components: of a DyLoRA adapter; zero updates are left out.

    Returns:
        Rows of `rank`, `components`, `sigma_1`, `m_eff_1` and `entropy_rank` of (α/b)·B[:, :b]·A[:b].

    Example:
        >>> from msplora_core.components import ComponentKey
        >>> update = LowRankUpdate(np.eye(3, 2), np.eye(2, 3), scaling=2.0)
        >>> nested_rows([Component(ComponentKey("layer", "query", 0), update)])[1]
        {'rank': 2, 'components': 1, 'sigma_1': 2.0, 'm_eff_1': 0.5, 'entropy_rank': 2.0}
    """
    by_rank = defaultdict(list)
    for component in components:
        update = component.update
        if isinstance(update, LowRankUpdate):
            for b, sigma in enumerate(nested_singular_values(update.B, update.A, update.scaling), 1):
                if sigma[0] > 0:
                    by_rank[b].append((sigma[0], float(effective_rank_ratio(sigma, k=1)), float(entropy_rank(sigma))))
    means = {b: [round(float(mean), 12) for mean in np.mean(rows, axis=0)] for b, rows in sorted(by_rank.items())}
    return [
        {"rank": b, "components": len(by_rank[b]), "sigma_1": sigma, "m_eff_1": share, "entropy_rank": rank}
        for b, (sigma, share, rank) in means.items()
    ]


def nested_table(rows: list[dict[str, float]]) -> Any:
    """Return the rows as a table."""
    from msplora_cli.tables import titled_table

    table = titled_table("Cut at rank b, as DyLoRA trains it: means", ["b", "σ₁", "M_eff-1", "entropy rank"], left=0)
    for row in rows:
        share = f"{row['m_eff_1']:.3f}" if row["rank"] > 1 else "–"
        table.add_row(str(row["rank"]), f"{row['sigma_1']:.3g}", share, f"{row['entropy_rank']:.2f}")
    return table
