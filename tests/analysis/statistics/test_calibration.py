"""The tests on simulated studies without an effect: fewer than `make calibration` takes, with wider bounds."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def calibration(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.calibration")


def rejections(calibration, method, studies, **size):
    (row,) = (row for row in calibration.ROWS if row.method == method)
    return calibration.rejections(row, calibration.simulated(studies, row.between, **size))


def test_task_means_reject_a_true_null_at_their_level(calibration):
    assert 0.03 < rejections(calibration, "task_mean_test", 1000) < 0.07


def test_sign_flips_reject_at_their_level_where_no_task_has_an_effect(calibration):
    assert 0.03 < rejections(calibration, "sign_flip_test", 800, tasks=3) < 0.07


def test_what_is_not_offered_rejects_far_too_often(calibration):
    assert rejections(calibration, "sign flips over task × seed pairs", 300, tasks=3) > 0.18
    assert rejections(calibration, "percentile bootstrap, flat", 300) > 0.25
    assert rejections(calibration, "percentile bootstrap, hierarchical", 300) > 0.12
