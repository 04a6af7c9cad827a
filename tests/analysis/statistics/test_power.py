"""Numbers of pairs and tasks against simulated studies of that size."""

import numpy as np
import pytest
from scipy import stats

from msplora_analysis import least_pairs, pairs_needed, tasks_needed
from msplora_core.errors import ParameterError


@pytest.mark.parametrize(("level", "pairs"), [(0.25, 3), (0.05, 6), (0.01, 8), (1 / 256, 9), (0.5, 2)])
def test_the_least_pairs_reach_the_level_and_one_fewer_does_not(level, pairs):
    assert least_pairs(level) == pairs
    assert 2 ** (1 - pairs) <= level < 2 ** (2 - pairs)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_so_many_tasks_find_the_effect_in_four_of_five_studies(ratio):
    n = tasks_needed(ratio, 1.0)
    samples = np.random.default_rng(0).normal(ratio, 1, (20_000, n))
    found = (stats.ttest_1samp(samples, 0, axis=1).pvalue <= 0.05).mean()
    fewer = (stats.ttest_1samp(samples[:, :-1], 0, axis=1).pvalue <= 0.05).mean()
    assert fewer < 0.8 <= found + 0.01


def test_units_and_sign_do_not_matter():
    assert tasks_needed(-0.3, 0.2) == tasks_needed(3.0, 2.0)


def test_small_effects_take_many_and_no_effect_any_number():
    assert tasks_needed(0.05, 1.0) == pytest.approx((1.959964 + 0.841621) ** 2 / 0.05**2, rel=0.001)
    assert tasks_needed(1e-6, 1.0) is None
    assert tasks_needed(0.0, 1.0) is None
    assert pairs_needed(np.nan, 1.0) is None
    assert pairs_needed(1.0, np.nan) is None


def test_large_effects_are_limited_by_the_steps_of_p():
    assert tasks_needed(1.0, 0.0) == tasks_needed(1e9, 1e-9) == 2
    assert pairs_needed(1.0, 0.0) == 6


@pytest.mark.parametrize("options", [{"level": 0}, {"power": 1}, {"spread": -1}])
def test_impossible_parameters_are_refused(options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        pairs_needed(**{"effect": 1.0, "spread": 1.0, **options})
