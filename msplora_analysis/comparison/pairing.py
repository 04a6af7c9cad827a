"""Pair runs, and select the spectra that both methods have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from msplora_analysis.comparison.layers import by_stack, layers_of_modules
from msplora_core.errors import ComparisonError, ParameterError
from msplora_core.wording import listed

if TYPE_CHECKING:
    from pandas import DataFrame

Pair = Literal["task-seed", "position"]
_PAIR = ["model", "task", "seed"]


def counterparts(ours: DataFrame, theirs: DataFrame, pair: Pair = "task-seed") -> DataFrame:
    """Pair the runs of every method with those of every method of the baseline.

    Args:
        ours: rows of a spectra table.
        theirs: rows of the baseline's table.
        pair: `task-seed` pairs runs on the same model, task and seed, if each side has exactly one run of a method;
            `position` pairs them in their order.

    Returns:
        One row a pair: run, method, model, task, seed, run_baseline, method_baseline.

    Raises:
        ComparisonError: if there are no pairs, or by position, if the numbers of runs differ; names both sides.
        ParameterError: for an unknown `pair`.
    """
    runs, others = _runs(ours), _runs(theirs)
    if pair == "position":
        return _by_position(runs, others)
    if pair != "task-seed":
        raise ParameterError("pair", expected="'task-seed' or 'position'", found=pair)
    alone = [side[~side.duplicated(["method", *_PAIR], keep=False)] for side in (runs, others)]
    matched = alone[0].merge(alone[1], on=_PAIR, suffixes=("", "_baseline"))
    if matched.empty:
        raise ComparisonError(_no_counterpart(runs, others))
    return matched


def common_stacks(
    ours: DataFrame, theirs: DataFrame, name: str, other: str
) -> Iterator[tuple[str, tuple[str, ...], DataFrame, DataFrame]]:
    """Yield each stack with the module types that both methods adapt in it, and the rows of both.

    Raises:
        ComparisonError: if no module type is common, or a common one has other layers or another stack.
    """
    mine, its = layers_of_modules(ours), layers_of_modules(theirs)
    common = [module for module in mine if module in its]
    if not common:
        raise ComparisonError(
            f"{name} adapts {', '.join(mine)} but {other} {', '.join(its)}; "
            "train the baseline with the same target modules"
        )
    for module in common:
        if mine[module] != its[module]:
            raise ComparisonError(
                f"{name} has {len(mine[module])} layers ({_span(mine[module])}) of {module}, but {other} "
                f"{len(its[module])} ({_span(its[module])}); compare runs of the same model and layers"
            )
    for stack, modules, part in by_stack(ours[ours["module"].isin(common)]):
        rows = theirs[theirs["module"].isin(modules)]
        shapes = {str(found).rpartition(" ")[2] for found in rows["stack"].unique()} - {""}
        if stack and shapes - {stack.rpartition(" ")[2]}:
            raise ComparisonError(
                f"{name} has {modules[0]} in {stack}, but {other} in {', '.join(sorted(shapes))}; "
                "compare runs of the same model"
            )
        yield stack, modules, part, rows


def _runs(rows: DataFrame) -> DataFrame:
    runs = rows[["run", "method", *_PAIR]].drop_duplicates()
    return runs.astype({"run": object, "method": object, "model": object, "task": object})


def _by_position(runs: DataFrame, others: DataFrame) -> DataFrame:
    import pandas as pd

    parts = []
    for method, mine in runs.groupby("method", sort=False):
        for other, its in others.groupby("method", sort=False):
            if len(mine) != len(its):
                raise ComparisonError(
                    f"pairing by position needs equal numbers of runs on both sides, but {method} has {len(mine)} "
                    f"({_listed(mine['run'])}), the baseline {other} {len(its)} ({_listed(its['run'])})"
                )
            unlike = [
                pair for pair in zip(mine["model"], its["model"], strict=True) if all(pair) and len(set(pair)) > 1
            ]
            if unlike:
                raise ComparisonError(
                    f"{method} has model {unlike[0][0]}, the baseline {other} {unlike[0][1]}; "
                    "compare runs of the same model"
                )
            its = its.reset_index(drop=True)
            parts.append(mine.reset_index(drop=True).assign(run_baseline=its["run"], method_baseline=its["method"]))
    return pd.concat(parts, ignore_index=True)


def _span(layers: tuple[int, ...]) -> str:
    return f"{layers[0]} to {layers[-1]}" if layers else "none"


def _no_counterpart(runs: DataFrame, others: DataFrame) -> str:
    """The message that names the first of model, task and seed that no two runs have in common."""
    for column in _PAIR:
        mine, its = (set(side[column].dropna()) or {""} for side in (runs, others))
        if not mine & its:
            return (
                f"no run of the baseline has the {column} of a run to compare: {_listed(set(runs['method']))} has "
                f"{column} {_listed(mine)}, the baseline {_listed(set(others['method']))} {_listed(its)}; "
                "train a baseline on the same model and task with the same seed, or pair runs in their order with "
                "--pair position"
            )
    return (
        f"no run of {_listed(set(runs['method']))} has exactly one counterpart of {_listed(set(others['method']))} "
        "with its model, task and seed; name them with --task and --seed, or pair runs in their order "
        "with --pair position"
    )


def _listed(names: Iterable[object]) -> str:
    texts = [str(name) for name in (sorted(names, key=str) if isinstance(names, set) else names)]
    return listed([text or "(unknown)" for text in texts], 6) or "none"
