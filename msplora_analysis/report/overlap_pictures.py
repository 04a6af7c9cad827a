"""The pictures of an overlap and their names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from msplora_analysis.courses import courses
from msplora_analysis.directions.adapter_pairs import AdapterComparison
from msplora_analysis.directions.findings import by_module
from msplora_analysis.directions.overlap import Overlap
from msplora_analysis.directions.run_directions import LayerDirections
from msplora_analysis.plots.energy_shares import plot_energy_shares
from msplora_analysis.plots.layer_cosines import plot_layer_cosines
from msplora_analysis.plots.paper import figure_of, offscreen
from msplora_analysis.plots.sharing_course import plot_sharing_course
from msplora_analysis.plots.subspace_grid import plot_subspace_similarity
from msplora_analysis.plots.words import base_title, heading, task_title
from msplora_analysis.report.gallery import file_name
from msplora_analysis.run_means import bound_of_mean
from msplora_core.methods import title
from msplora_core.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

_Named = Iterator[tuple[str, "Figure"]]
_LEAST_LAYERS = 3
"""A matrix of two layers holds only one number; the tables have it."""
_MOST_NAMES = 8
_MOST_PAIRS = 6
"""Limit on the pairs of adapters with a picture each; above it, only the matrix of all adapters is drawn."""


def draw_overlap(found: Overlap) -> _Named:
    """Draw all pictures of an overlap, one at a time, for `write_overlap` to save; pyplot is not used.

    Args:
        found: from `overlap`.

    Yields:
        The name without ending, as listed in `write_overlap`, and the figure.
    """
    with offscreen():
        if found.adapters:
            yield from _adapters(found.adapters)
        yield from _layers(found)
        yield from _shares(found)


def _layers(found: Overlap) -> _Named:
    """Draw cosines between layers and similarities of neighbours, by method, scale and module type."""
    members = {(run.name, one.cosines.scale, one.cosines.module): one for run in found.runs for one in run.final}
    several = found.sharing["model"].nunique() > 1
    keys = ["model", "method", "scale", "module"]
    for names, rows in found.sharing.groupby(keys, observed=True, sort=False):
        model, method, scale, module = map(str, names)
        group = [members[run, scale, module] for run in rows.loc[rows["excess"].notna(), "run"]]
        if not group or len(group[0].cosines.layers) < _LEAST_LAYERS:
            continue
        words = [*([model] if several else []), method, scale, module]
        what = f"{title(method)}, {scale}" if _has_scales(found.sharing, method) else title(method)
        tasks = [task for task in map(str, rows["task"].unique()) if task]
        above = heading(what, model, tasks, counted(len(group), "run"), [module])
        mean = np.mean([one.cosines.cosines for one in group], axis=0)
        bound = bound_of_mean(float(np.mean([one.bound for one in group])), len(group))
        ax = plot_layer_cosines(
            mean, bound=bound, layers=group[0].cosines.layers, title=f"Cosines between layers: {above}"
        )
        yield file_name("cosines", *words), figure_of(ax)
        group = [one for one in group if one.sides and one.sides[0].grid.size > 1]
        if group:  # one number, of rank 1, is in the tables
            yield file_name("phi", *words), _neighbours(group, f"Subspaces of neighbouring layers: {above}")


def _has_scales(sharing: DataFrame, method: str) -> bool:
    return sharing.loc[sharing["method"] == method, "scale"].nunique() > 1


def _neighbours(group: list[LayerDirections], above: str) -> Figure:
    grids = {}
    for number, side in enumerate(group[0].sides):
        drawn = [one.sides[number].grid for one in group]
        size = min(len(grid) for grid in drawn)
        grids[str(side.side)] = np.mean([grid[:size, :size] for grid in drawn], axis=0)
    chance = " and ".join(dict.fromkeys(f"{float(side.chance.mean):.3g}" for side in group[0].sides))
    foot = f"mean over neighbouring layers; random subspaces: max(i, j)/d, {chance} at full rank"
    axes = plot_subspace_similarity(grids, names=("i of a layer", "j of the next"), title=above, foot=foot)
    return figure_of(axes[0])


def _shares(found: Overlap) -> _Named:
    """Draw the shares of all methods, and their course over training, a picture for each model."""
    rows = by_module(found.sharing) if len(found.sharing) else found.sharing
    several = found.sharing["model"].nunique() > 1
    for model, part in rows.groupby("model", observed=True, sort=False):
        words = [str(model)] if several else []
        methods = part["method"].nunique() > 1
        labels = [", ".join(_label(part, row, methods)) for _, row in part.iterrows()]
        what = "What layers share" + ("" if methods else f", {title(str(part['method'].iloc[0]))}")
        ax = plot_energy_shares(part, labels, title=f"{what} ({base_title(str(model))})")
        yield file_name("shares", *words), figure_of(ax)
        course = found.course[(found.course["model"] == model) & found.course["excess"].notna()]
        if course.groupby("run", observed=True)["epoch"].nunique().max() > 1:
            timed = courses(course)
            for clock, rows_of_clock in timed.groupby("clock", observed=True, sort=False):
                more = [str(clock)] if timed["clock"].nunique() > 1 else []
                above = f"What layers share over training ({base_title(str(model))})"
                yield file_name("course", *words, *more), figure_of(plot_sharing_course(rows_of_clock, title=above))


def _label(rows: DataFrame, row: Series[Any], methods: bool) -> Iterator[str]:
    """What tells a row from the others: its method, its scale where the method has several, its module type."""
    if methods:
        yield title(str(row["method"]))
    if _has_scales(rows, row["method"]):
        yield str(row["scale"])
    yield str(row["module"])


def _adapters(found: AdapterComparison) -> _Named:
    """Draw cosines between adapters, and the similarity of each pair's subspaces."""
    if len(found.names) > 2:
        numbers = list(range(1, len(found.names) + 1))
        shown = [f"{number} {task_title(name)}" for number, name in zip(numbers, found.names, strict=True)]
        more = [f"and {len(shown) - _MOST_NAMES} more"] if len(shown) > _MOST_NAMES else []
        names = "\n".join([*shown[:_MOST_NAMES], *more])
        ax = plot_layer_cosines(
            found.cosines, layers=numbers, title=f"Cosines between adapters\n{names}", name="adapter"
        )
        yield "adapters", figure_of(ax)
    if len(found.pairs) > _MOST_PAIRS:
        return
    for pair in found.pairs:
        if all(grid.size > 1 for grid in pair.grids.values()):
            both = f"Subspaces of {task_title(pair.first)} (i) and {task_title(pair.second)} (j)"
            above = f"{both}\nmean over {counted(len(pair.modules), 'module')}"
            chances = [pair.modules[f"chance_{side}"].mean() for side in pair.grids]
            chance = " and ".join(dict.fromkeys(f"{value:.3g}" for value in chances))
            foot = f"random subspaces: max(i, j)/d, {chance} at full rank"
            axes = plot_subspace_similarity(
                {str(side): grid for side, grid in pair.grids.items()}, title=above, foot=foot
            )
            yield file_name("phi", pair.first, "with", pair.second), figure_of(axes[0])
