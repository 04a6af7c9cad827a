"""Intervals of sign flips: the shifts that the test itself does not reject."""

import numpy as np
import pytest
from scipy import stats

from msplora_analysis import sign_flip_test
from msplora_analysis.statistics.flips import sign_flip_interval, sign_flips


@pytest.mark.parametrize("n", [6, 7, 12])
def test_the_interval_holds_the_shifts_that_are_not_rejected(n):
    differences = np.random.default_rng(n).normal(0.4, 1, n)
    outcome = sign_flip_test(differences)
    for end, inside in ((outcome.low, 1), (outcome.high, -1)):
        assert sign_flip_test(differences - end - inside * 1e-9).p > 0.05
        assert sign_flip_test(differences - end + inside * 1e-9).p <= 0.05


def test_p_is_that_of_scipy():
    values = np.random.default_rng(1).normal(0.3, 1, (9, 5))
    expected = stats.permutation_test(
        (values,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", vectorized=True, axis=0
    ).pvalue
    np.testing.assert_allclose(sign_flips(values)[0], expected)


def test_columns_are_tests_of_their_own_in_any_unit():
    values = np.random.default_rng(2).normal(0.3, 1, (8, 3)) * [1.0, 1e-100, 1e100]
    for column, found in enumerate(zip(*sign_flips(values), strict=True)):
        outcome = sign_flip_test(values[:, column])
        assert found == pytest.approx((outcome.p, outcome.low, outcome.high), rel=1e-12, abs=0)


@pytest.mark.parametrize("n", [6, 9, 20])
def test_the_interval_alone_is_that_of_the_test(n):
    values = np.random.default_rng(n).normal(0.3, 1, n)
    outcome = sign_flip_test(values)
    assert sign_flip_interval(values) == (outcome.low, outcome.high)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_fewer_than_six_pairs_have_no_interval(n):
    assert sign_flip_test(np.arange(1.0, n + 1)).interval is None


def test_many_pairs_have_an_interval_near_that_of_t():
    values = np.random.default_rng(3).normal(1, 1, 40)
    outcome, t = sign_flip_test(values), stats.ttest_1samp(values, 0).confidence_interval()
    assert outcome.interval == pytest.approx((t.low, t.high), abs=0.03)
