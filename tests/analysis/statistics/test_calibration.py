"""The tests on simulated studies without an effect: fewer than `make calibration` takes, with wider bounds."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def calibration(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.calibration")


def shares(calibration, method, studies, **size):
    (row,) = (row for row in calibration.ROWS if row.method == method)
    return calibration.shares(row, calibration.simulated(studies, row.between, **size))


def test_task_means_reject_a_true_null_at_their_level(calibration):
    rejects, covers = shares(calibration, "task_mean_test", 1000)
    assert 0.03 < rejects < 0.07
    assert covers == pytest.approx(1 - rejects)


def test_sign_flips_reject_at_their_level_where_no_task_has_an_effect(calibration):
    rejects, covers = shares(calibration, "sign_flip_test", 800, tasks=3)
    assert 0.03 < rejects < 0.07
    assert 0.93 < covers < 0.97


def test_what_is_not_offered_rejects_far_too_often(calibration):
    assert shares(calibration, "sign flips over task × seed pairs", 300, tasks=3)[0] > 0.18
    assert shares(calibration, "percentile bootstrap, flat", 300)[0] > 0.25
    assert shares(calibration, "percentile bootstrap, hierarchical", 300)[0] > 0.12
