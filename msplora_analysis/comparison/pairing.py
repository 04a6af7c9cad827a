"""Which runs, and which of their spectra, can be held against each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msplora_analysis.comparison.layers import by_stack, layers_of_modules
from msplora_core.errors import ComparisonError

if TYPE_CHECKING:
    from pandas import DataFrame

_PAIR = ["model", "task", "seed"]


def counterparts(ours: DataFrame, theirs: DataFrame) -> DataFrame:
    """Pair every run with the baseline's runs on the same model, task and seed.

    Args:
        ours: rows of a spectra table.
        theirs: rows of the baseline's.

    Returns:
        A row a pair: run, method, model, task, seed, run_baseline, method_baseline.

    Raises:
        ComparisonError: if there is not one pair; names what both sides have.
    """
    runs, others = _runs(ours), _runs(theirs)
    matched = runs.merge(others, on=_PAIR, suffixes=("", "_baseline"))
    if matched.empty:
        raise ComparisonError(_no_counterpart(runs, others))
    return matched


def common_stacks(
    ours: DataFrame, theirs: DataFrame, name: str, other: str
) -> Iterator[tuple[tuple[str, ...], DataFrame, DataFrame]]:
    """Yield the module types that both methods adapt, stack by stack, with the rows of both."""
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
    for modules, part in by_stack(ours[ours["module"].isin(common)]):
        same_modules = theirs[theirs["module"].isin(modules)]
        same_stack = same_modules[same_modules["stack"].isin(part["stack"].unique())]
        yield modules, part, same_modules if same_stack.empty else same_stack


def _runs(rows: DataFrame) -> DataFrame:
    runs = rows[["run", "method", *_PAIR]].drop_duplicates()
    return runs.astype({"run": object, "method": object, "model": object, "task": object})


def _span(layers: tuple[int, ...]) -> str:
    return f"{layers[0]} to {layers[-1]}" if layers else "none"


def _no_counterpart(runs: DataFrame, others: DataFrame) -> str:
    """Which of model, task and seed stands in the way, with what both sides have."""
    for column in _PAIR:
        mine, its = set(runs[column].dropna()), set(others[column].dropna())
        if not mine & its:
            break
    return (
        f"no run of the baseline has the {column} of a run to compare: {_listed(set(runs['method']))} has {column} "
        f"{_listed(mine)}, the baseline {_listed(set(others['method']))} {_listed(its)}; "
        "a baseline is trained on the same model and task with the same seed"
    )


def _listed(names: set[object]) -> str:
    return ", ".join(str(name) or "(unknown)" for name in sorted(names, key=str)) or "none"
