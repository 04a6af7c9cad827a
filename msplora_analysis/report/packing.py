"""Matrices and spectra as short texts for the page: three characters for a number of four digits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_CHARACTERS = np.array([code for code in range(33, 127) if chr(code) not in '"&<>\\'], dtype=np.uint8)
"""No character that JSON or HTML escapes."""
_DIGITS = 10_000
_LOWEST = -26
_EXPONENTS = 34


def packed(values: ArrayLike) -> str | None:
    """Return numbers, rounded to four significant digits, as three characters each; `unpacked` in data.js reads them.

    The characters are the digits, to base 89, of m + 10,000 · (s + 2 · (e + 26)), for ± m · 10ᵉ with s = 1 for minus.

    Args:
        values: of any shape, float64.

    Returns:
        The text, in C order; -0 stands for a value that is not finite. None if a value is too small or too large.

    Example:
        >>> packed([0.0, 0.12345, float("nan")]), packed(1e40)
        ('!!!]dc#:E', None)
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    code = np.where(np.isfinite(array), 0, _DIGITS)
    known = np.isfinite(array) & (array != 0)
    digits, exponent = _scientific(np.abs(array[known]))
    if ((exponent < _LOWEST) | (exponent >= _LOWEST + _EXPONENTS)).any():
        return None
    code[known] = digits + _DIGITS * ((array[known] < 0) + 2 * (exponent - _LOWEST))
    base = len(_CHARACTERS)
    places = np.stack([code // base**2, code // base % base, code % base], axis=-1)
    return str(_CHARACTERS[places].tobytes(), "ascii")


def _scientific(sizes: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return positive numbers as whole numbers of four digits and powers of ten."""
    exponent = np.floor(np.log10(sizes)).astype(int) - 3
    digits = np.rint(sizes / 10.0**exponent).astype(int)
    carried = digits >= _DIGITS  # 9.9996 is 10.00
    return np.where(carried, digits // 10, digits), exponent + carried
