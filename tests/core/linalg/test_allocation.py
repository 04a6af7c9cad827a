"""Ranks under a budget, against all plans there are."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest

from msplora_core.errors import ParameterError
from msplora_core.linalg.allocation import allocate_ranks


def squares_of(seed: int, updates: int = 4, ranks: int = 4) -> np.ndarray:
    values = np.random.default_rng(seed).exponential(size=(updates, ranks))
    return np.sort(values, axis=1)[:, ::-1]


def kept(squares: np.ndarray, ranks: np.ndarray) -> float:
    return float((squares * (np.arange(squares.shape[1]) < np.asarray(ranks)[:, None])).sum())


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("least", [0, 1])
def test_no_plan_of_equal_costs_keeps_more(seed: int, least: int) -> None:
    squares, budget = squares_of(seed), 7 + seed % 8
    found = allocate_ranks(squares, np.ones(4), budget=budget, least=least)
    plans = [plan for plan in product(range(least, 5), repeat=4) if sum(plan) <= budget]
    assert found.sum() == budget
    assert kept(squares, found) == pytest.approx(max(kept(squares, plan) for plan in plans), rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_with_unequal_costs_it_lacks_at_most_one_rank(seed: int) -> None:
    squares, costs = squares_of(seed), np.array([3, 5, 7, 11])
    budget = 60 + seed
    found = allocate_ranks(squares, costs, budget=budget)
    best = max(kept(squares, plan) for plan in product(range(1, 5), repeat=4) if costs @ plan <= budget)
    assert costs @ found <= budget
    assert kept(squares, found) <= best + 1e-12
    assert kept(squares, found) >= best - squares.max()
    beyond = [costs[one] for one in range(4) if found[one] < 4]
    assert all(costs @ found + cost > budget for cost in beyond)  # nothing that fits is left out


@pytest.mark.parametrize("seed", range(5))
def test_the_fewest_ranks_that_keep_a_share(seed: int) -> None:
    squares = squares_of(seed)
    found = allocate_ranks(squares, np.ones(4), share=0.8)
    fewer = allocate_ranks(squares, np.ones(4), budget=found.sum() - 1)
    assert kept(squares, found) >= 0.8 * squares.sum() > kept(squares, fewer)


def test_a_larger_budget_takes_no_rank_away() -> None:
    squares = squares_of(0)
    plans = [allocate_ranks(squares, np.ones(4), budget=budget) for budget in range(4, 17)]
    assert all((later >= earlier).all() for earlier, later in pairwise(plans))


def test_each_has_its_highest_rank() -> None:
    squares = np.array([[4.0, 3.0, 2.0], [9.0, 0.0, 0.0]])
    assert allocate_ranks(squares, [1, 1], most=[3, 1], budget=4).tolist() == [3, 1]
    assert allocate_ranks(np.zeros((2, 3)), [1, 1], share=0.95).tolist() == [1, 1]
    assert allocate_ranks(squares, [1, 1], share=1).tolist() == [3, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 1.0}, "budget: expected at least 2, the cost of rank 1 everywhere, found 1"),
        ({"budget": 9.0}, "budget: expected at most 8, the cost of all ranks, found 9"),
        ({"budget": float("nan")}, "budget: expected at least 2"),
        ({"share": 0.0}, "share: expected a share above 0 and at most 1, found 0"),
        ({}, "budget, share: expected one of the two"),
    ],
)
def test_what_cannot_be_met_is_told(options: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        allocate_ranks(squares_of(0, updates=2), [1, 1], **options)
