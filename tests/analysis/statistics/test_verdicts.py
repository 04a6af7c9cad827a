"""Verdicts from outcomes whose answer is known, and how they are printed."""

from dataclasses import replace

import numpy as np
import pytest

from msplora_analysis import Verdict, correct_family, mantel_test, sign_flip_test, task_mean_test, verdict

CLEAR = sign_flip_test(np.linspace(0.1, 0.9, 9))
OPEN = sign_flip_test([0.5, -0.2, 0.4, 0.3, -0.1, 0.6, 0.2, -0.3])


def test_the_sign_of_a_clear_effect_decides():
    assert verdict(CLEAR).verdict == "borne out"
    assert verdict(sign_flip_test(-np.linspace(0.1, 0.9, 9))).verdict == "contradicted"
    assert verdict(CLEAR).next_step == ""


def test_an_open_question_says_how_many_pairs_would_decide():
    found = verdict(OPEN)
    assert found.verdict == "not decided"
    assert OPEN.needed > OPEN.n
    assert f"about {OPEN.needed} pairs of runs would decide an effect of this size" in found.next_step


def test_too_few_pairs_are_not_decided_however_clear():
    found = verdict(sign_flip_test([1.0, 1.1, 0.9]))
    assert (found.verdict, found.least_p) == ("not decided", 0.25)
    assert found.next_step == "n = 3 cannot reach p 0.05: train 6 pairs of runs or more"
    assert verdict(sign_flip_test([1.0])).next_step == "n = 1 cannot reach p 0.05: train 6 pairs of runs or more"


@pytest.mark.parametrize("first", [1, 1.01])  # 1.01 would need some 800,000
def test_no_effect_needs_no_more_runs(first):
    found = verdict(sign_flip_test([first, -1, *[1, -1] * 3]))
    assert "so close to zero that more pairs of runs are unlikely to decide it" in found.next_step


@pytest.mark.parametrize(
    ("outcome", "step"),
    [
        (sign_flip_test([]), "train both methods on the same tasks and seeds"),
        (task_mean_test([1.0, 2.0], ["a", "a"]), "train at least two tasks"),
        (mantel_test(np.zeros((2, 2))), "train a model with more layers"),
    ],
)
def test_without_a_p_value_it_cannot_be_told(outcome, step):
    found = verdict(outcome)
    assert (found.verdict, found.next_step) == ("cannot tell", step)
    assert outcome.note in found.reason


def test_tasks_of_equal_means_are_not_too_few():
    found = verdict(task_mean_test([0.2, 0.2], ["a", "b"]))
    assert (found.verdict, found.needed) == ("cannot tell", None)
    assert found.next_step == "check that the runs differ: equal differences on 2 tasks have no spread"
    assert "all task means are equal" in found.reason


def test_one_task_of_two_needed():
    found = verdict(task_mean_test([1.0, 2.0], ["a", "a"]))
    assert (found.verdict, found.n, found.needed) == ("cannot tell", 1, 2)


def test_layers_cannot_be_added():
    assert "the number of layers is fixed" in verdict(mantel_test(np.ones((6, 6)))).next_step


def test_the_corrected_p_decides():
    weak = replace(CLEAR, p=0.04)
    first, *_ = correct_family([weak, replace(CLEAR, p=0.9)], "module types")
    assert verdict(weak).verdict == "borne out"
    assert verdict(first).verdict == "not decided"
    assert verdict(first).p == pytest.approx(0.08)
    assert "p corrected over module types, 2 tests" in verdict(first).reason


@pytest.mark.parametrize("outcome", [CLEAR, OPEN, task_mean_test([1, 2, 4], "abc"), mantel_test(np.ones((6, 6)))])
def test_the_effect_stands_before_p_in_every_printed_form(outcome):
    found = verdict(outcome, unit="nats", null="0.14 for rotated factors")
    for text in (str(outcome), str(found), found._repr_html_()):
        assert 0 < text.index("effect") + 1 < text.index("p 0") if "p 0" in text else "effect" in text
    assert "nats" in str(found)
    assert "null: 0.14 for rotated factors" in str(found)


def test_the_numbers_are_those_of_the_test():
    outcome = task_mean_test([1.0, 2.0, 4.0], "abc")
    found = verdict(outcome, unit="nats")
    assert (found.n, found.of, found.effect, found.p) == (3, "tasks", outcome.effect, outcome.p)
    assert found.interval == (outcome.low, outcome.high)
    assert f"95% interval {outcome.low:+.3g} to {outcome.high:+.3g}" in str(found)


def test_html_is_escaped():
    html = Verdict("cannot tell", reason="rank <2> & more")._repr_html_()
    assert "rank &lt;2&gt; &amp; more" in html
    assert html.startswith("<p><b>cannot tell</b>")
