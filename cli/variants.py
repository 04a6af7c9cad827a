"""The methods and ranks that the options of `train` mean, and options that no method has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from msplora_cli.options import method_options, rank_patterns, three_ranks
from msplora_core.method_list import METHODS, method_named

Phases = tuple[tuple[str, ...], ...]


def method_variants(
    methods: Sequence[str],
    rank: Sequence[int] | None,
    ranks: Sequence[str] | None,
    rank_pattern: list[str],
    schedule: Phases | None,
    options: list[str],
) -> list[dict[str, Any]]:
    """Return the settings of each method with each of its ranks, as arguments of `RunConfig`.

    Example:
        >>> method_variants(["lora"], [4, 8], None, [], None, [])  # doctest: +ELLIPSIS
        [{'method': 'lora', ..., 'rank': 4, ...}, {'method': 'lora', ..., 'rank': 8, ...}]
    """
    one_rank, more_ranks = rank_patterns(rank_pattern)
    found: list[dict[str, Any]] = []
    for name in methods:
        same: dict[str, Any] = {"method": name, "options": method_options(options) or None}
        settings = method_named(name).settings
        if "rank" in settings:
            found += [{**same, "rank": one, "rank_pattern": one_rank or None} for one in rank or (None,)]
        elif "ranks" in settings:
            same |= {"schedule": schedule, "rank_pattern": more_ranks or None}
            found += [{**same, "ranks": three_ranks(one) if one else None} for one in ranks or (None,)]
        else:
            found.append(same)
    return found


def phases(text: str | None) -> Phases | None:
    """`global,mid+layer` as the scales of each phase.

    Example:
        >>> phases("global,mid+layer")
        (('global',), ('mid', 'layer'))
    """
    return tuple(tuple(phase.split("+")) for phase in text.split(",")) if text else None


def refuse_beside_plan(given: Mapping[str, Any]) -> None:
    """Refuse options that a plan holds.

    Raises:
        typer.BadParameter: if one is given.
    """
    for name, value in given.items():
        if value:
            raise typer.BadParameter("expected none beside --plan, which holds it", param_hint=_option(name))


def refuse_without_method(methods: Sequence[str], given: Mapping[str, Any]) -> None:
    """Refuse options that none of the methods has.

    Raises:
        typer.BadParameter: if one is given.
    """
    known = {setting for name in methods for setting in method_named(name).settings}
    for name, value in given.items():
        setting = "target_modules" if name == "target" else name
        if value and setting not in known:
            having = [method.name for method in METHODS.values() if setting in method.settings]
            expected = f"expected a method that has it ({', '.join(having)}), found {', '.join(methods)}"
            raise typer.BadParameter(expected, param_hint=_option(name))


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
