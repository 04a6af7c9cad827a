"""Choose the baseline runs, and compare all other methods with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from msplora_analysis.comparison.conditions import lora_command
from msplora_analysis.comparison.difference import Comparison, Lengths, compare
from msplora_analysis.comparison.pairing import Pair
from msplora_analysis.loading.settings import Settings
from msplora_analysis.measures import Average
from msplora_core.errors import ComparisonError
from msplora_core.methods import is_lora
from msplora_core.pyramid import LAYER_SCALES

if TYPE_CHECKING:
    from pandas import DataFrame


class Options(TypedDict):
    """Options of `compare`."""

    lengths: Lengths
    floor: float | None
    average: Average
    pair: Pair


def compare_with_lora(final: DataFrame, options: Options, settings: Settings) -> tuple[list[Comparison], list[str]]:
    """Compare every other method with the LoRA runs in the same table; if that is impossible, return a note.

    If LoRA was trained at several ranks, those nearest to the rank of the method are used. `settings` are those of the
    runs, for the command that trains LoRA.
    """
    plain = final["method"].map(is_plain).astype(bool)
    theirs, ours = final[plain], final[~plain]
    if ours.empty:
        return [], ["only LoRA runs: Fig. 4 needs another method to compare with them"]
    if theirs.empty:
        model = str(ours["model"].iloc[0])
        return [], [
            "Fig. 4 needs LoRA runs with the same model, task, seed and settings: "
            f"{lora_command(model, ours[ours['model'] == model], settings)}, then svd again with --baseline RUNS"
        ]
    comparisons, notes = list[Comparison](), list[str]()
    for method in ours["method"].unique():
        for scale in LAYER_SCALES:
            try:
                comparisons += compare(ours[ours["method"] == method], theirs, scale=scale, **options)
            except ComparisonError as error:
                notes.append(str(error))
    return at_nearest_ranks(comparisons), list(dict.fromkeys(notes))


def at_nearest_ranks(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """For each method, keep the comparisons with the baselines of the nearest rank."""
    nearest: dict[tuple[str, ...], int] = {}
    for one in comparisons:
        nearest[_whose(one)] = min(_apart(one), nearest.get(_whose(one), _apart(one)))
    return [one for one in comparisons if _apart(one) == nearest[_whose(one)]]


def _whose(one: Comparison) -> tuple[str, ...]:
    return one.model, one.method, one.scale, one.stack, *one.modules


def _apart(one: Comparison) -> int:
    return max(abs(mine - its) for mine in one.ranks[0] for its in one.ranks[1])


def compare_with(
    final: DataFrame,
    baseline: DataFrame,
    path: str | os.PathLike[str],
    baseline_path: str | os.PathLike[str],
    options: Options,
) -> list[Comparison]:
    """Compare every method that the baseline does not have with it; if there is none, compare equal methods.

    In the latter case, the names of equal methods are extended by their paths.
    """
    others = final[~final["method"].isin(baseline["method"].unique())]
    if others.empty:
        both = set(final["method"]) & set(baseline["method"])
        names = Path(path).name, Path(baseline_path).name
        if names[0] == names[1]:
            names = str(path), str(baseline_path)
        others, baseline = (
            side.assign(method=[f"{method} in {name}" if method in both else method for method in side["method"]])
            for side, name in zip((final, baseline), names, strict=True)
        )
    return [one for scale in LAYER_SCALES for one in compare(others, baseline, scale=scale, **options)]


def is_plain(method: str) -> bool:
    """Whether this is LoRA, possibly with a variant in brackets."""
    return is_lora(method.partition(" ")[0])
