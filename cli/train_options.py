"""The runs that the options of `train` describe, and checks of options against methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from msplora_cli.options import alphas, groups_option, method_options, rank_patterns, three_ranks
from msplora_core.errors import ParameterError
from msplora_core.method_list import METHODS, check_setting, method_named

if TYPE_CHECKING:
    from msplora_core.training import RunConfig

Phases = tuple[tuple[str, ...], ...]
_HELD_BY_PLAN = ("ranks", "rank", "rank_pattern", "alpha", "rslora", "target", "groups", "config")
_NO_FIELDS = ("task", "seed", "method", "rank", "ranks", "rank_pattern", "options", "schedule", "target", "plan",
              "preset", "resume")  # fmt: skip


def run_configs(given: Mapping[str, Any]) -> list[RunConfig]:
    """Return the runs that the options of `train` describe: each task with each method, ranks and seed.

    Args:
        given: all options by argument name; None if not given.

    Raises:
        typer.BadParameter: for an option that none of the methods has, or that conflicts with a plan.
        ParameterError: for an invalid value.
    """
    methods, schedule = given["method"] or ["msplora"], phases(given["schedule"])
    held = {name: given[name] for name in _HELD_BY_PLAN}
    if given["plan"] is not None:
        refuse_beside_plan({"method": given["method"], **held, "set": given["options"]})
        variants: list[dict[str, Any]] = [{"plan": given["plan"], "schedule": schedule}]
    else:
        refuse_without_method(methods, {**held, "init": given["init"], "dropout": given["dropout"]})
        variants = method_variants(
            methods, given["rank"], given["ranks"], given["rank_pattern"] or [], schedule, given["options"] or []
        )
    common = {name: value for name, value in given.items() if name not in _NO_FIELDS} | {
        "target_modules": tuple(given["target"]) if given["target"] else None,
        "groups": groups_option(given["groups"]) if given["groups"] else None,
        "alpha": alphas(given["alpha"]),
    }
    from msplora_core.training.presets import preset_settings
    from msplora_core.training.run_config import RunConfig

    return [
        RunConfig(**{**preset_settings(given["preset"], task), **_set(common | variant), "task": task, "seed": seed})
        for task in given["task"]
        for variant in variants
        for seed in given["seed"] or [0]
    ]


def _set(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that have a value; a preset or the default sets the others."""
    return {name: value for name, value in options.items() if value is not None}


def method_lines() -> str:
    """Return a paragraph on each method, for the help."""
    return "\n\n".join(
        ["Methods, and where their spectra come from:"]
        + [f"{method.name}: {method.line}; {method.spectra}." for method in METHODS.values()]
    )


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
    """Parse `global,mid+layer` into the scales of each phase.

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
    for name in filter(given.get, given):
        try:
            check_setting("target_modules" if name == "target" else name, methods)
        except ParameterError as error:
            message = f"expected {error.expected}, found {error.found}"
            raise typer.BadParameter(message, param_hint=_option(name)) from error


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
