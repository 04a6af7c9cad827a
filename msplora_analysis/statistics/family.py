"""Correction of p values over a named family of tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.statistics.outcome import Outcome


def correct_family(outcomes: Iterable[Outcome], family: str) -> list[Outcome]:
    """Return the outcomes with p corrected over all of them, by Benjamini and Hochberg's false discovery rate.

    An outcome without a p value is not changed and does not count in the family.

    Args:
        outcomes: of the tests of one question.
        family: its name in the output.

    Returns:
        The outcomes in the same order, with `p_corrected` and `family`.

    Example:
        >>> three = [Outcome("about these tasks", "t", 9, "pairs of runs", 0.1, p) for p in (0.01, 0.04, 0.5)]
        >>> [round(outcome.p_corrected, 3) for outcome in correct_family(three, "module types")]
        [0.03, 0.06, 0.5]
        >>> print(correct_family(three, "module types")[1])
        effect +0.1, p 0.04, corrected p 0.06 over module types, 3 tests (n = 9 pairs of runs; about these tasks; t)
    """
    outcomes = list(outcomes)
    p = np.array([outcome.p for outcome in outcomes], dtype=np.float64)
    defined = ~np.isnan(p)
    if not defined.any():
        return outcomes
    p[defined] = corrected_p(p[defined])
    name = f"{family}, {defined.sum()} tests"
    return [
        outcome if np.isnan(corrected) else replace(outcome, p_corrected=float(corrected), family=name)
        for outcome, corrected in zip(outcomes, p, strict=True)
    ]


def corrected_p(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p values corrected by Benjamini and Hochberg's false discovery rate: min over j ≥ i of p_(j)·n/j.

    Equal to `scipy.stats.false_discovery_control`, whose import would dominate the time of most analyses.

    Args:
        p: (n,) float64, without NaN.

    Example:
        >>> corrected_p(np.array([0.04, 0.01, 0.5])).round(3)
        array([0.06, 0.03, 0.5 ])
    """
    order = np.argsort(p)[::-1]
    steps = p[order] * len(p) / np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.minimum.accumulate(steps), 1.0)
    return corrected
