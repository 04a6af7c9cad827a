"""Lists, counts, numbers and the order of names in messages, titles and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return names as a list; of more than `most`, the first ones and the number of the others.

    Example:
        >>> listed(["q", "k", "v"]), listed(["q", "k", "v", "o", "up"])
        ('q, k, v', 'q, k, v and 2 more')
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def counted(count: int, word: str) -> str:
    """Return a count with its noun.

    Example:
        >>> counted(1, "run"), counted(2, "run")
        ('1 run', '2 runs')
    """
    return f"{count} {word}{'' if count == 1 else 's'}"


def runs_of(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return the first and the last of each run of consecutive numbers.

    Args:
        numbers: ascending.

    Example:
        >>> runs_of((0, 1, 2, 5, 7, 8))
        [(0, 2), (5, 5), (7, 8)]
    """
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    return runs


def significant(value: float, sign: str = "") -> str:
    """Return a number with two significant digits; up to a million without an exponent.

    Args:
        value: the number.
        sign: `+` to show that of positive numbers, too.

    Example:
        >>> significant(157.3), significant(0.01234), significant(3.0, sign="+")
        ('160', '0.012', '+3')
    """
    return f"{float(f'{value:.2g}'):{sign}g}"


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that compares numbers within names by value: lora-r2 comes before lora-r16.

    Example:
        >>> sorted(["layers.10.q", "layers.2.q"], key=natural_order)
        ['layers.2.q', 'layers.10.q']
    """
    parts = [part for part in re.split(r"([0-9]+)", name) if part]
    # A number compares by its length, then its digits: int() refuses very long ones.
    return [(0, len(part.lstrip("0")), part.lstrip("0")) if part[0] in "0123456789" else (1, 0, part) for part in parts]
