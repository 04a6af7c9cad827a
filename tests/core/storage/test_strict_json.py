"""Values as strict JSON can hold them."""

import json
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest

from msplora_core.storage.strict_json import plain


class Kind(StrEnum):
    LORA = "LORA"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.5), 0.5),
        (np.float32("inf"), None),
        (float("nan"), None),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[1.0, np.nan]]), [[1.0, None]]),
        ({"a", "b"}, ["a", "b"]),
        (Kind.LORA, "LORA"),
        ((1, [2, {"x": -np.inf}]), [1, [2, {"x": None}]]),
        ({1: "a"}, {"1": "a"}),
        (Path("runs/a"), "runs/a"),
    ],
)
def test_values_become_strict_json(value, expected):
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)
    assert json.loads(json.dumps(found, allow_nan=False)) == expected


def test_a_tensor_becomes_its_numbers():
    torch = pytest.importorskip("torch")
    assert plain({"loss": torch.tensor(0.5), "each": torch.tensor([1, 2])}) == {"loss": 0.5, "each": [1, 2]}
