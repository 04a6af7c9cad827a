"""Ranks under a budget: which singular values of several updates to keep."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_core.errors import ParameterError

_ROUNDING = 1e-12


def allocate_ranks(
    squares: ArrayLike,
    costs: ArrayLike,
    most: ArrayLike | None = None,
    *,
    budget: float | None = None,
    share: float | None = None,
    least: int = 1,
) -> NDArray[np.intp]:
    """Return the ranks of several updates that together keep the most energy Σσ² under a budget.

    Greedy: each further rank goes to the update with the largest remaining σ² per parameter. Energy is a concave
    function of each rank, so this is the optimum if all costs are equal; otherwise the optimum keeps at most the energy
    of one more rank.

    Args:
        squares: (n, K) squared singular values of n updates, descending, padded with zeros.
        costs: (n,) cost of one rank of each, above 0: its parameters, in + out.
        most: (n,) the highest rank of each; K by default.
        budget: the largest total cost.
        share: instead, the least share of Σσ² over all updates to keep.
        least: the lowest rank of each, if `most` allows it; 0 may leave updates out.

    Returns:
        (n,) whole ranks.

    Raises:
        ParameterError: unless exactly one of `budget` and `share` is given; for a budget below the cost of the lowest
            ranks or above that of the highest, or a share outside (0, 1].

    Example:
        >>> allocate_ranks([[9.0, 4.0, 1.0], [6.0, 0.5, 0.0]], costs=[8, 8], budget=24)
        array([2, 1])
        >>> allocate_ranks([[9.0, 4.0, 1.0], [6.0, 0.5, 0.0]], costs=[8, 8], share=0.95)
        array([3, 1])
    """
    squares, costs = np.asarray(squares, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    limits = np.full(len(squares), squares.shape[1]) if most is None else np.asarray(most)
    ranks: NDArray[np.intp] = np.minimum(least, limits).astype(np.intp)
    if (budget is None) == (share is None):
        raise ParameterError("budget, share", expected="one of the two", found=(budget, share))
    if share is not None and not 0 < share <= 1:
        raise ParameterError("share", expected="a share above 0 and at most 1", found=share)
    if budget is not None and not costs @ ranks <= budget * (1 + _ROUNDING):
        expected = f"at least {costs @ ranks:g}, the cost of rank {least} everywhere"
        raise ParameterError("budget", expected=expected, found=budget)
    if budget is not None and budget > costs @ limits * (1 + _ROUNDING):
        raise ParameterError("budget", expected=f"at most {costs @ limits:g}, the cost of all ranks", found=budget)
    place = np.arange(squares.shape[1])
    updates, ks = np.nonzero((place >= ranks[:, None]) & (place < limits[:, None]))
    gains = squares[updates, ks]
    left = np.inf if budget is None else budget * (1 + _ROUNDING) - costs @ ranks
    whole, cheapest = squares.sum(), costs.min(initial=np.inf)
    missing = np.inf if share is None else share * (1 - _ROUNDING) * whole - squares[place < ranks[:, None]].sum()
    for one in np.lexsort((updates, ks, -gains / costs[updates])):
        if missing <= 0 or left < cheapest:
            break
        if costs[updates[one]] <= left:
            ranks[updates[one]] += 1
            left -= costs[updates[one]]
            missing -= gains[one]
    return ranks


def rank_budget(
    costs: NDArray[np.float64],
    most: NDArray[np.integer[Any]],
    *,
    mean_rank: float | None = None,
    parameters: float | None = None,
    keep: float | None = None,
    least: int = 1,
) -> float | None:
    """Return a budget for `allocate_ranks`.

    Args:
        costs: (n,) parameters of one rank of each update.
        most: (n,) the highest rank of each.
        mean_rank: the budget is the number of parameters of this rank in every update.
        parameters: instead, the budget itself.
        keep: instead, a share of the parameters of the highest ranks.
        least: the lowest rank of each.

    Returns:
        Parameters; None if none of the three is given.

    Raises:
        ParameterError: for a budget that cannot be met; names the given argument.

    Example:
        >>> rank_budget(np.array([8.0, 16.0]), np.array([4, 4]), mean_rank=2)
        48.0
    """
    lowest, highest = float(costs @ np.minimum(least, most)), float(costs @ most)
    for name, value, unit in (
        ("mean_rank", mean_rank, float(costs.sum())),
        ("parameters", parameters, 1.0),
        ("keep", keep, highest),
    ):
        if value is not None:
            if not lowest <= value * unit * (1 + _ROUNDING) or not value * unit <= highest * (1 + _ROUNDING):
                from_ = f"from {lowest / unit:.6g}, rank {least} for each module,"
                expected = f"{from_} to {highest / unit:.6g}, the ranks that are there"
                raise ParameterError(name, expected=expected, found=value)
            return float(value * unit)
    return None
