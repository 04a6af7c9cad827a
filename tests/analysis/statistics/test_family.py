"""Correction over a family against scipy."""

import numpy as np
import pytest
from scipy import stats

from msplora_analysis import Outcome, correct_family, sign_flip_test


def outcomes(*p):
    return [Outcome("about these tasks", "test", 9, "pairs of runs", 0.1, value) for value in p]


@pytest.mark.parametrize("n", [1, 2, 7, 132])
def test_correction_is_that_of_scipy(n):
    p = np.random.default_rng(n).random(n).round(2)  # some are equal
    corrected = correct_family(outcomes(*p), "layers")
    expected = stats.false_discovery_control(p)
    np.testing.assert_allclose([each.p_corrected for each in corrected], expected, rtol=1e-15)
    assert [each.p for each in corrected] == list(p)
    assert {each.family for each in corrected} == {f"layers, {n} tests"}


def test_what_has_no_p_does_not_count():
    first, empty, last = correct_family([*outcomes(0.01), sign_flip_test([]), *outcomes(0.04)], "modules")
    assert first.p_corrected == 0.02
    assert last.family == "modules, 2 tests"
    assert repr(empty) == repr(sign_flip_test([]))  # NaN is not equal to itself


def test_one_test_is_not_changed_and_none_is_no_error():
    (one,) = correct_family(outcomes(0.03), "one")
    assert one.p_corrected == one.p == one.decisive_p
    assert correct_family([], "none") == []
    assert correct_family([sign_flip_test([])], "none")[0].family == ""
