"""Scales can be told apart in grey and by readers with a colour deficiency."""

from itertools import combinations

import numpy as np
import pytest

from msplora_analysis.plots.colours import SCALE_COLOURS

DEFICIENCIES = {  # Machado, Oliveira and Fernandes (2009), severity 1
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "none": np.eye(3),
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    ratio = XYZ @ np.clip(rgb, 0, 1) / [0.95047, 1, 1.08883]
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize(("one", "other"), list(combinations(SCALE_COLOURS, 2)))
def test_two_scales_differ(one, other, deficiency):
    matrix = np.array(DEFICIENCIES[deficiency])
    seen = [lab(matrix @ linear(SCALE_COLOURS[name])) for name in (one, other)]
    assert np.linalg.norm(seen[0] - seen[1]) > 25


@pytest.mark.parametrize(("one", "other"), list(combinations(SCALE_COLOURS, 2)))
def test_two_scales_differ_in_grey(one, other):
    lightness = [lab(linear(SCALE_COLOURS[name]))[0] for name in (one, other)]
    assert abs(lightness[0] - lightness[1]) > 14
