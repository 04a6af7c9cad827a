"""Values that strict JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any


def plain(value: object) -> Any:
    """Return a value in built-in types, for `json.dumps(..., allow_nan=False)`.

    Args:
        value: numbers, strings, arrays (numpy or torch), and mappings, sequences, sets and enumerations of these.

    Returns:
        Dicts with string keys, lists, strings, numbers, booleans and None: arrays become nested lists, sets sorted
        lists, members of an enumeration their values, numbers that are not finite None. Other values become strings.

    Example:
        >>> plain({"ranks": (8, 4), 2: float("nan"), "modules": {"value", "query"}})
        {'ranks': [8, 4], '2': None, 'modules': ['query', 'value']}
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)
