"""Correction over a family against Benjamini and Hochberg's formula."""

import numpy as np

from msplora_analysis import Outcome, correct_family, sign_flip_test


def outcomes(*p):
    return [Outcome("about these tasks", "test", 9, "pairs of runs", 0.1, value) for value in p]


def test_correction_by_hand():
    p = np.array([0.001, 0.03, 0.02, 0.8])
    stepped = np.minimum.accumulate((np.sort(p) * 4 / np.arange(1, 5))[::-1])[::-1]
    corrected = correct_family(outcomes(*p), "layers")
    np.testing.assert_allclose([each.p_corrected for each in corrected], stepped[np.argsort(np.argsort(p))])
    assert [each.p for each in corrected] == list(p)
    assert {each.family for each in corrected} == {"layers, 4 tests"}


def test_what_has_no_p_does_not_count():
    first, empty, last = correct_family([*outcomes(0.01), sign_flip_test([]), *outcomes(0.04)], "modules")
    assert first.p_corrected == 0.02
    assert last.family == "modules, 2 tests"
    assert empty == sign_flip_test([])


def test_one_test_is_not_changed_and_none_is_no_error():
    (one,) = correct_family(outcomes(0.03), "one")
    assert one.p_corrected == one.p == one.decisive_p
    assert correct_family([], "none") == []
    assert correct_family([sign_flip_test([])], "none")[0].family == ""
