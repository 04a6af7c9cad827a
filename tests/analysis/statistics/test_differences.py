"""Tests of paired differences against enumeration by hand, textbook formulas and simulated studies."""

import itertools

import numpy as np
import pytest

from msplora_analysis import sign_flip_test, task_mean_test
from msplora_core.errors import ParameterError


def enumerated(differences):
    """The exact two-sided p: the share of sign arrangements whose mean is at least as far from zero."""
    signs = np.array(list(itertools.product([-1, 1], repeat=len(differences))))
    means = abs((signs * differences).mean(axis=1))
    return (means >= abs(np.mean(differences)) * (1 - 1e-12)).mean()


@pytest.mark.parametrize("n", [1, 2, 3, 6, 9, 14])
def test_sign_flips_are_exact(n):
    differences = np.random.default_rng(n).normal(0.4, 1, n)
    outcome = sign_flip_test(differences)
    assert outcome.p == pytest.approx(enumerated(differences), abs=1e-12)
    assert outcome.effect == pytest.approx(differences.mean())
    assert outcome.least_p == 2 ** (1 - n)
    assert outcome.test == f"exact sign-flip test, {2**n:,} arrangements"


@pytest.mark.parametrize(("n", "least"), [(3, 0.25), (9, 0.00390625)])
def test_the_least_p_is_reached_where_all_signs_agree(n, least):
    outcome = sign_flip_test(np.arange(1.0, n + 1))
    assert outcome.p == outcome.least_p == least


def test_the_sign_of_the_differences_does_not_change_p():
    differences = np.random.default_rng(0).normal(0.5, 1, 8)
    there, back = sign_flip_test(differences), sign_flip_test(-differences)
    assert there.p == back.p
    assert there.effect == -back.effect


def test_many_pairs_are_drawn_from_a_seed_that_is_named():
    differences = np.random.default_rng(0).normal(0.5, 1, 20)
    outcome = sign_flip_test(differences, seed=7)
    assert "19,999 random arrangements, seed 7" in str(outcome)
    assert repr(outcome) == repr(sign_flip_test(differences, seed=7))  # NaN is not equal to itself
    assert outcome.p == pytest.approx(enumerated(differences), abs=0.005)
    assert sign_flip_test(np.arange(1.0, 21)).p == pytest.approx(5e-5)


def test_differences_of_zero_count_but_cannot_decide():
    outcome = sign_flip_test([0.0, 0.0, 1.0, 2.0, 3.0])
    assert (outcome.n, outcome.effect, outcome.p, outcome.least_p) == (5, 1.2, 0.25, 0.25)
    assert "differences of zero: 2" in str(outcome)
    nothing = sign_flip_test([0.0, 0.0])
    assert (nothing.effect, nothing.p, nothing.least_p, nothing.needed) == (0.0, 1.0, 1.0, None)


def test_ties_are_not_lost_to_rounding():
    assert sign_flip_test([0.1, 0.1, 0.1, -0.1]).p == enumerated([0.1, 0.1, 0.1, -0.1]) == 0.625
    assert sign_flip_test([0.1, 0.2, -0.3]).p == 1.0
    assert sign_flip_test([1e150, 2e150, -3e150]).p == 1.0


def test_undefined_differences_are_left_out_and_counted():
    outcome = sign_flip_test([0.3, np.nan, 0.1, 0.2])
    assert (outcome.n, outcome.p) == (3, 0.25)
    assert "left out as undefined: 1 of 4 differences" in str(outcome)
    means = task_mean_test([0.3, np.nan, 0.1, 0.2], ["a", "b", "a", "c"])
    assert means.n == 2
    assert "undefined: 1 of 4 differences" in means.note


@pytest.mark.parametrize("differences", [[], [np.nan]])
def test_nothing_to_test_gives_no_p(differences):
    for outcome in (sign_flip_test(differences), task_mean_test(differences, ["a"] * len(differences))):
        assert outcome.n == 0
        assert np.isnan([outcome.effect, outcome.p, outcome.low, outcome.least_p]).all()
        assert str(outcome).startswith("no effect known (n = 0")


def test_one_pair_has_an_effect_and_p_one():
    outcome = sign_flip_test([0.4])
    assert (outcome.effect, outcome.p, outcome.least_p, outcome.needed) == (0.4, 1.0, 1.0, None)


@pytest.mark.parametrize(
    ("differences", "message"),
    [
        ([0.1, np.inf], "differences: expected finite numbers, found infinity; a zero singular value"),
        (0.1, r"differences: expected one row of numbers, found \(\)"),
        (["a", "b"], "differences: expected real numbers in an array"),
        ([[0.1, 0.2]], r"differences: expected one row of numbers, found \(1, 2\)"),
    ],
)
def test_what_is_no_row_of_finite_numbers_is_refused(differences, message):
    for test in (sign_flip_test, lambda values: task_mean_test(values, ["a", "b"])):
        with pytest.raises(ParameterError, match=message):
            test(differences)


def test_task_means_against_the_textbook():
    differences = np.array([0.5, 0.7, 0.1, -0.1, 0.9, 1.1, 0.3])
    tasks = ["a", "a", "b", "b", "c", "c", "d"]
    means = np.array([0.6, 0.0, 1.0, 0.3])
    error = means.std(ddof=1) / 2
    outcome = task_mean_test(differences, tasks)
    assert (outcome.n, outcome.of) == (4, "tasks")
    assert outcome.effect == pytest.approx(means.mean())
    assert outcome.interval == pytest.approx((means.mean() - 3.182446 * error, means.mean() + 3.182446 * error))
    assert (outcome.p > 0.05) == (outcome.low < 0)


def test_each_task_counts_once_however_many_runs_it_has():
    once = task_mean_test([1.0, 2.0, 4.0], ["a", "b", "c"])
    often = task_mean_test([1.0, 2.0, 4.0, 4.0, 4.0], ["a", "b", "c", "c", "c"])
    assert repr(once) == repr(often)


def test_one_task_has_no_interval_and_says_so():
    outcome = task_mean_test([0.1, 0.2, 0.3], ["mrpc"] * 3)
    assert outcome.effect == pytest.approx(0.2)
    assert outcome.interval is None
    assert np.isnan(outcome.p)
    assert "n = 1 task; about tasks like these" in str(outcome)
    assert "one task has no spread between tasks" in str(outcome)


def test_equal_task_means_are_no_certainty():
    outcome = task_mean_test([0.2, 0.2], ["a", "b"])
    assert np.isnan(outcome.p)
    assert "all task means are equal" in outcome.note


def test_few_tasks_say_how_little_they_decide():
    assert "with 4 tasks, only a mean above 1.6 times their spread" in str(task_mean_test([1, 2, 3, 5], list("abcd")))
    assert task_mean_test(range(8), list("abcdefgh")).note == ""


def test_the_tasks_must_match_the_differences():
    with pytest.raises(ParameterError, match="tasks: expected 2, one for each difference, found 1"):
        task_mean_test([0.1, 0.2], ["a"])
