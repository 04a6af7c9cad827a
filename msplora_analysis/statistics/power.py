"""Numbers of pairs of runs or tasks that a test needs."""

from __future__ import annotations

from math import ceil, isfinite, log2

import numpy as np

from msplora_core.errors import ParameterError

_COUNTED = 1_000
"""Up to this n, power is computed from the noncentral t distribution, above from the normal one."""
_MOST = 1_000_000


def least_pairs(level: float = 0.05) -> int:
    """Return the least number of pairs with which a sign-flip test can reach a level: 2^(1−n) ≤ level.

    Args:
        level: of significance; divide it by the number of tests for the worst case of a corrected family.

    Returns:
        The number of pairs.

    Raises:
        ParameterError: if `level` is not between 0 and 1.

    Example:
        >>> least_pairs(0.05)
        6
    """
    _check_share("level", level)
    return 1 + ceil(-log2(level))


def pairs_needed(effect: float, spread: float, *, level: float = 0.05, power: float = 0.8) -> int | None:
    """Return the number of pairs with which `sign_flip_test` would find an effect.

    The power is that of the paired t test, which the sign-flip test approaches; the number is never below
    `least_pairs`. With an effect and a spread from few runs, it is a rough estimate.

    Args:
        effect: mean difference.
        spread: standard deviation of the differences between pairs, in the same unit.
        level: of significance, two-sided.
        power: probability that the effect is found.

    Returns:
        The number of pairs; None if a million are too few (for an effect near zero) or a number is not finite.

    Raises:
        ParameterError: if `level` or `power` is not between 0 and 1, or `spread` is negative.

    Example:
        >>> pairs_needed(effect=1.0, spread=1.0)
        10
        >>> pairs_needed(effect=10.0, spread=1.0)
        6
    """
    needed = tasks_needed(effect, spread, level=level, power=power)
    return None if needed is None else max(needed, least_pairs(level))


def tasks_needed(effect: float, spread: float, *, level: float = 0.05, power: float = 0.8) -> int | None:
    """Return the number of tasks with which `task_mean_test` would find an effect, by the power of its t test.

    Args:
        effect: mean difference over tasks.
        spread: standard deviation of the task means, in the same unit.
        level: of significance, two-sided.
        power: probability that the effect is found.

    Returns:
        The number of tasks, at least 2; None as in `pairs_needed`.

    Raises:
        ParameterError: as `pairs_needed`.

    Example:
        >>> tasks_needed(effect=1.0, spread=2.0)
        34
    """
    from scipy.special import nctdtr, ndtri, stdtrit  # scipy.stats takes 0.7 s to import

    _check_share("level", level)
    _check_share("power", power)
    if spread < 0:
        raise ParameterError("spread", expected="at least 0", found=spread)
    if not (isfinite(effect) and isfinite(spread)) or effect == 0:
        return None
    if spread == 0:
        return 2
    ratio = min(abs(effect) / spread, 1e3)  # above, two are enough, and the noncentral t distribution overflows
    n = np.arange(2, _COUNTED + 1)
    missed = nctdtr(n - 1, ratio * np.sqrt(n), stdtrit(n - 1, 1 - level / 2))
    enough = 1 - np.nan_to_num(missed) >= power  # NaN on underflow
    if enough.any():
        return int(n[enough.argmax()])
    counted = ((ndtri(power) - ndtri(level / 2)) / ratio) ** 2
    return max(_COUNTED + 1, ceil(counted)) if counted <= _MOST else None


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ParameterError(name, expected="between 0 and 1", found=value)
