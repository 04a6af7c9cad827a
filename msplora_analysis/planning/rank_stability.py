"""Stability of plans: correlation between plans of single runs, over seeds, tasks and last epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.planning.energies import Energies
from msplora_analysis.planning.rank_rules import RankRule

if TYPE_CHECKING:
    from pandas import DataFrame

LAST_EPOCHS = 3


def plan_stability(energies: Energies, rule: RankRule) -> DataFrame:
    """Return the rank correlation between plans from single runs and epochs.

    Args:
        energies: of all runs, at their last epochs.
        rule: how ranks are chosen.

    Returns:
        A row for each kind of pairs of plans: `over` seeds (of one task), tasks, epochs (of one run: the last and the
        two before it); with the number of `pairs`, and the `mean` and the `least` Spearman correlation of the planned
        ranks, from -1 to 1; NaN if a plan gives all modules the same rank.
    """
    import pandas as pd

    moments = energies.moments
    ranks = np.array([rule.ranks(energies, shares) for shares in energies.shares])
    runs = pd.factorize(moments["run"])[0]
    last: list[int] = np.flatnonzero(np.append(runs[1:] != runs[:-1], True)).tolist()
    task, seed = (moments[name].astype(str).to_numpy()[last] if name in moments else None for name in ("task", "seed"))
    pairs = dict[str, list[tuple[int, int]]](seeds=[], tasks=[], epochs=[])
    for i, one in enumerate(last):
        for j, other in enumerate(last[:i]):
            if task is None or task[i] != task[j]:
                pairs["tasks"].append((one, other))
            elif seed is None or seed[i] != seed[j]:
                pairs["seeds"].append((one, other))
        first = max(last[i - 1] + 1 if i else 0, one - LAST_EPOCHS + 1)
        pairs["epochs"] += [(one, earlier) for earlier in range(first, one)]
    rows = []
    for over, members in pairs.items():
        if members:
            found = np.array([_correlation(ranks[one], ranks[other]) for one, other in members])
            some = np.isfinite(found).any()
            mean, least = (np.nanmean(found), np.nanmin(found)) if some else (np.nan, np.nan)
            rows.append({"over": over, "pairs": len(members), "mean": float(mean), "least": float(least)})
    return pd.DataFrame(rows, columns=["over", "pairs", "mean", "least"])


def _correlation(one: NDArray[np.intp], other: NDArray[np.intp]) -> float:
    from scipy.stats import spearmanr

    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return np.nan
    return float(spearmanr(one, other).statistic)
