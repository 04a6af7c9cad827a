"""Option types that several commands share."""

from __future__ import annotations

import json
from typing import Any

import typer

from msplora_core.errors import ParameterError


def whole_numbers(text: str) -> tuple[int, ...]:
    """Parse whole numbers separated by commas or slashes: `8,4,2`.

    Raises:
        typer.BadParameter: if one is not a whole number.

    Example:
        >>> whole_numbers("8,4,2")
        (8, 4, 2)
    """
    try:
        return tuple(int(part) for part in text.replace("/", ",").split(","))
    except ValueError:
        raise typer.BadParameter(f"expected whole numbers separated by commas, as in 8,4,2, found {text!r}") from None


def groups_option(text: str) -> int | tuple[int, ...]:
    """Parse a number of groups (`3`), or the boundaries between them (`4,8`).

    Example:
        >>> groups_option("3"), groups_option("4,8")
        (3, (4, 8))
    """
    numbers = whole_numbers(text)
    return numbers[0] if len(numbers) == 1 else numbers


def three_ranks(text: str, option: str = "--ranks") -> tuple[int, int, int]:
    """Parse ranks of (global, mid, layer): `8,4,2`.

    Raises:
        ParameterError: with the option's name, unless there are three.
    """
    ranks = whole_numbers(text)
    if len(ranks) != 3:
        raise ParameterError(option, expected="three ranks: global, mid, layer, as in 8,4,2", found=text)
    return ranks


def count_option(text: str) -> float:
    """Parse a number, with k for thousands or M for millions.

    Raises:
        typer.BadParameter: if it is not a number.

    Example:
        >>> count_option("150k"), count_option("1.2M"), count_option("4096")
        (150000.0, 1200000.0, 4096.0)
    """
    factor = {"k": 1e3, "M": 1e6}.get(text[-1:], 1.0)
    try:
        return float(text if factor == 1 else text[:-1]) * factor
    except ValueError:
        raise typer.BadParameter(f"expected a number, as in 150k, found {text!r}", param_hint="--parameters") from None


def rank_patterns(texts: list[str]) -> tuple[dict[str, int], dict[str, tuple[int, int, int]]]:
    """Parse ranks of module types: `value=4` for LoRA, `value=4,2,1` for MSPLoRA."""
    one: dict[str, int] = {}
    three: dict[str, tuple[int, int, int]] = {}
    for text in texts:
        name, equals, numbers = text.partition("=")
        if not (name and equals):
            found = f"expected a module type and its ranks, as in value=4,2,1, found {text!r}"
            raise typer.BadParameter(found, param_hint="--rank-pattern")
        ranks = whole_numbers(numbers)
        if len(ranks) == 1:
            one[name] = ranks[0]
        else:
            three[name] = three_ranks(numbers, "--rank-pattern")
    return one, three


def alphas(text: str | None) -> float | tuple[float, ...] | None:
    """Parse one alpha (`16`), or one for each scale (`16,8,4`)."""
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"expected numbers separated by commas, found {text!r}", param_hint="--alpha"
        ) from None
    return numbers[0] if len(numbers) == 1 else numbers


def method_options(texts: list[str]) -> dict[str, Any]:
    """Parse `name=value`, where each value is JSON or a plain word.

    Raises:
        typer.BadParameter: if one has no name or no value, or is given twice.

    Example:
        >>> method_options(["r=4", "bias=all", "init_weights=false", "layers_to_transform=[0, 1]"])
        {'r': 4, 'bias': 'all', 'init_weights': False, 'layers_to_transform': [0, 1]}
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not (name and value) or name in found:
            expected = "expected each name once" if name in found else "expected NAME=VALUE"
            raise typer.BadParameter(f"{expected}, as in bias=all, found {text!r}", param_hint="--set")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
