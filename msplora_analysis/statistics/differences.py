"""Tests of paired differences between runs: about these tasks, and about tasks like these."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import isnan, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_analysis.kernels.distribution import real_numbers
from msplora_analysis.statistics.flips import MOST_FLIPS, sign_flips
from msplora_analysis.statistics.outcome import Outcome
from msplora_analysis.statistics.power import pairs_needed, tasks_needed
from msplora_core.errors import ParameterError

_FEW_TASKS = 6


def sign_flip_test(differences: ArrayLike, *, seed: int = 0) -> Outcome:
    """Test whether paired differences of runs have mean zero, by flipping their signs: a question about these tasks.

    Under the null hypothesis that no task has an effect, every difference is as likely to be positive as negative.
    For n up to 14 pairs, all 2ⁿ arrangements of signs are enumerated, so that p is exact; above, 19,999 are drawn.
    With n pairs, p cannot fall below 2^(1−n): 0.25 for 3 pairs, 0.0039 for 9. A difference of zero counts in the mean
    and in n, and raises the least p, since a flip does not change it. The 95% interval holds the effects, equal for
    all pairs, that the test would not reject at 0.05; below 6 pairs there is none.

    The test does not apply to other tasks: if the effect differs between tasks, sign flips over task × seed pairs
    reject a true null of no mean effect in 26% of studies at 0.05. See `task_mean_test`.

    Args:
        differences: (n,) one per pair of runs on the same model, task and seed. NaN is left out and noted.
        seed: of the random arrangements.

    Returns:
        The outcome: effect (mean difference), interval, two-sided p, least p; NaN without differences.

    Raises:
        ParameterError: if `differences` is not one row of numbers, or one is infinite.

    Example:
        >>> print(sign_flip_test([0.3, 0.1, 0.2]))
        effect +0.2, p 0.25, least p 0.25 (n = 3 pairs of runs; about these tasks;
        exact sign-flip test, 8 arrangements)
    """
    values, note = _checked(differences)
    values = values[~np.isnan(values)]
    n = len(values)
    if n == 0:
        return Outcome("about these tasks", "sign-flip test", 0, "pairs of runs", nan, nan, note=note or "no pairs")
    effect = float(values.mean())
    moved = int((values != 0).sum())
    exact = 2**n <= MOST_FLIPS
    p, low, high = (float(found[0]) for found in sign_flips(values[:, None], seed=seed))
    zeros = f"differences of zero: {n - moved}" if moved < n else ""
    return Outcome(
        question="about these tasks",
        test=f"exact sign-flip test, {2**n:,} arrangements"
        if exact
        else f"sign-flip test, {MOST_FLIPS:,} random arrangements, seed {seed}",
        n=n,
        of="pair of runs" if n == 1 else "pairs of runs",
        effect=effect,
        p=p,
        low=low,
        high=high,
        least_p=min(1.0, max(2.0 ** (1 - moved), 0.0 if exact else 1 / (MOST_FLIPS + 1))),
        needed=pairs_needed(effect, float(values.std(ddof=1))) if n > 1 else None,
        note="; ".join(filter(None, (note, zeros))),
    )


def task_mean_test(differences: ArrayLike, tasks: Sequence[Hashable]) -> Outcome:
    """Test whether the mean difference over tasks is zero: a question about tasks like these.

    The tasks are the sample; each counts once, by the mean of its differences:

        t = m̄ / (s / √n),  n tasks, m̄ and s the mean and standard deviation of their means,

    with Student's t distribution of n − 1 degrees of freedom, and the 95% interval m̄ ± t₀.₉₇₅·s/√n. It assumes that
    task means are roughly normal. A percentile bootstrap over few tasks would be too narrow.

    Args:
        differences: (N,) one per pair of runs. NaN is left out and noted.
        tasks: (N,) the task of each.

    Returns:
        The outcome; n is the number of tasks. With one task, which has no spread, interval and p are NaN.

    Raises:
        ParameterError: if the lengths differ, `differences` is not one row of numbers, or one is infinite.

    Example:
        >>> print(task_mean_test([0.3, 0.1, 0.2, 0.4], tasks=["cola", "cola", "mrpc", "sst2"]))
        effect +0.267, 95% interval -0.0202 to +0.554, p 0.057 (n = 3 tasks; about tasks like these;
        t test over the means of the tasks; with 3 tasks, only a mean above 2.5 times their spread is significant)
    """
    from scipy.special import stdtr, stdtrit  # scipy.stats takes 0.7 s to import

    values, note = _checked(differences)
    if len(tasks) != len(values):
        raise ParameterError("tasks", expected=f"{len(values)}, one for each difference", found=len(tasks))
    groups: dict[Hashable, list[float]] = {}
    for task, value in zip(tasks, values.tolist(), strict=True):
        if not isnan(value):
            groups.setdefault(task, []).append(value)
    means = np.array([np.mean(group) for group in groups.values()])
    n = len(means)
    effect = float(means.mean()) if n else nan
    p = low = high = nan
    needed, reason = None, ""
    if n == 0:
        reason = "no pairs"
    elif n == 1:
        reason = "one task has no spread between tasks"
    elif np.ptp(means) == 0:
        reason = "all task means are equal, without spread"
    else:
        spread = float(means.std(ddof=1))
        error, limit = spread / sqrt(n), float(stdtrit(n - 1, 0.975))
        p, low, high = 2 * float(stdtr(n - 1, -abs(effect) / error)), effect - limit * error, effect + limit * error
        needed = tasks_needed(effect, spread)
        if n < _FEW_TASKS:
            reason = f"with {n} tasks, only a mean above {limit / sqrt(n):.1f} times their spread is significant"
    return Outcome(
        question="about tasks like these",
        test="t test over the means of the tasks",
        n=n,
        of="task" if n == 1 else "tasks",
        effect=effect,
        p=p,
        low=low,
        high=high,
        needed=needed,
        note="; ".join(filter(None, (note, reason))),
    )


def _checked(differences: ArrayLike) -> tuple[NDArray[np.float64], str]:
    """The differences, and a note on undefined ones."""
    values = real_numbers(differences, "differences")
    if values.ndim != 1:
        raise ParameterError("differences", expected="one row of numbers", found=values.shape)
    if np.isinf(values).any():
        raise ParameterError(
            "differences",
            expected="finite numbers",
            found="infinity",
            hint="a zero singular value makes a KL infinite; set floor",
        )
    missing = int(np.isnan(values).sum())
    return values, f"left out as undefined: {missing} of {len(values)} differences" if missing else ""
