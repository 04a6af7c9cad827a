"""The directions of runs as tidy tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msplora_analysis.directions.layer_directions import LayerCosines
from msplora_analysis.directions.run_directions import RunDirections

if TYPE_CHECKING:
    from pandas import DataFrame

Facts = Mapping[str, Mapping[str, Any]]
"""Method, model, task and seed of each run."""

_RUN = ["run", "method", "model", "task", "seed", "epoch", "step"]
_LAYERS = ["scale", "stack", "module", "layers", "rank"]
SHARES = ["shared_by_all", "shared_by_groups", "own"]
"""Shares of the energy of all layers that sum to 1."""
SHARING = [*_RUN, *_LAYERS, *SHARES, *(f"null_{name}" for name in SHARES), *(f"deviation_{name}" for name in SHARES),
           "excess", "largest_cosine", "between"]  # fmt: skip
SUBSPACES = [*_RUN, *_LAYERS, "side", "size", "common", "null_common", "deviation_common", "pairs",
             "neighbours", "chance", "deviation_chance"]  # fmt: skip


def final_sharing(runs: Sequence[RunDirections], facts: Facts) -> DataFrame:
    """Return the shares of the layers of each run at its end, a row a module type and scale, and the cosines' bound."""
    rows = [
        [*_facts(run, facts, run.epoch, run.step), *_shares(one.cosines), one.bound]
        for run in runs
        for one in run.final
    ]
    return _table(rows, [*SHARING, "cosine_bound"])


def course_sharing(runs: Sequence[RunDirections], facts: Facts) -> DataFrame:
    """Return the shares of the layers of each run over its training, a row a snapshot and module type."""
    rows = [[*_facts(run, facts, one.epoch, one.step), *_shares(one.cosines)] for run in runs for one in run.course]
    return _table(rows, SHARING)


def final_subspaces(runs: Sequence[RunDirections], facts: Facts) -> DataFrame:
    """Return the overlap of the layers' subspaces at the end of each run, a row a module type, scale and side."""
    rows = [
        [*_facts(run, facts, run.epoch, run.step), one.cosines.scale, one.cosines.stack, one.cosines.module,
         len(one.cosines.layers), side.rank, side.side, side.size, side.common, *side.common_null, side.pairs,
         side.neighbours, *side.chance]
        for run in runs for one in run.final for side in one.sides
    ]  # fmt: skip
    return _table(rows, SUBSPACES)


def _facts(run: RunDirections, facts: Facts, epoch: float, step: int | None) -> list[Any]:
    return [run.name, *facts[run.name].values(), epoch, step]


def _shares(one: LayerCosines) -> list[Any]:
    cosine, first, second = one.largest
    between = f"{first}-{second}" if cosine == cosine else ""
    about = [one.scale, one.stack, one.module, len(one.layers), one.rank]
    return [*about, *one.shares, *one.null.mean, *one.null.deviation, one.excess, cosine, between]


def _table(rows: list[list[Any]], columns: list[str]) -> DataFrame:
    import pandas as pd

    table = pd.DataFrame(rows, columns=columns)
    whole = {name: "Int64" for name in ("seed", "step") if name in columns}
    return table.astype(whole)
