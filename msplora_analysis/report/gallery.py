"""Which pictures an analysis makes, and what each is called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msplora_analysis.courses import COURSE, courses
from msplora_analysis.interference_courses import interference_by_epoch
from msplora_analysis.measures import average_spectra, last_epochs, measure
from msplora_analysis.plots.canvas import offscreen
from msplora_analysis.plots.cosine_courses import plot_interference
from msplora_analysis.plots.effective_rank import MOST_METHODS, plot_effective_rank
from msplora_analysis.plots.kl_difference import plot_kl_difference
from msplora_analysis.plots.layer_spectra import plot_layer_spectra
from msplora_analysis.plots.pairwise_kl import plot_pairwise_kl
from msplora_analysis.plots.svd_heatmaps import plot_svd_heatmaps
from msplora_analysis.plots.words import comparison_title, counted, divergence_title, heading
from msplora_core.methods import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from msplora_analysis.analysis import Analysis
    from msplora_analysis.comparison.difference import Comparison
    from msplora_analysis.comparison.layers import LayerDivergence

_Named = Iterator[tuple[str, "Figure"]]
_LEAST_LAYERS = 3
"""A matrix of two layers is two numbers, which the tables hold."""


def draw_figures(analysis: Analysis) -> _Named:
    """Draw all pictures of an analysis, one at a time, for `write_analysis` to save. Made without pyplot.

    Args:
        analysis: what `analyse` found.

    Yields:
        A name without ending, as `write_analysis` lists them, and the figure.
    """
    with offscreen():
        yield from _spectra(analysis)
        yield from _matrices(analysis)
        yield from _courses(analysis)
        yield from _interference(analysis)


def _spectra(analysis: Analysis) -> _Named:
    """Spectra over training (Fig. 3), or by layer where only one moment is known: a picture a stack and rank."""
    keys = ["model", "method", "stack"]
    for names, spectra in analysis.spectra.groupby(keys, observed=True, sort=False):
        model, method, stack = (str(part) for part in names)
        table = _rows(analysis.table, model, method)
        several = table["stack"].nunique() > 1
        table = table[table["stack"] == stack]
        mixed = spectra.groupby("scale", observed=True)["rank"].nunique().max() > 1
        course = spectra.loc[spectra["sigma"] > 0, "time"].nunique() > 1
        for rank, part in spectra.groupby("rank") if mixed else [("", spectra)]:
            words = [f"rank {rank}" if mixed else "", stack if several else ""]
            above = _heading(table, ", ".join(filter(None, [title(method), *words])), model)
            above = _marked(analysis, above, model, method)
            if course:
                kind, ax = "fig3", plot_svd_heatmaps(part, title=above)[0]
            else:
                of_rank = table[table["rank"] == rank] if mixed else table
                by_unit = average_spectra(last_epochs(of_rank), ["scale", "unit"])
                kind, ax = "spectra", plot_layer_spectra(by_unit, title=above)
            yield _name(analysis, kind, model, method, *words), figure_of(ax)


def _matrices(analysis: Analysis) -> _Named:
    """KL between layers, and minus the baseline's (Fig. 4)."""
    stacks = Counter((one.model, one.method) for one in analysis.layers if one.scale == analysis.scale)

    def stack(one: LayerDivergence | Comparison) -> list[str]:
        """What tells this stack of layers from the method's others: its first module type."""
        if stacks[one.model, one.method] < 2:
            return []
        return [one.modules[0], f"and-{len(one.modules) - 1}-more" if len(one.modules) > 1 else ""]

    for one in analysis.layers:
        if one.scale == analysis.scale and len(one.layers) >= _LEAST_LAYERS and one.length > 1:
            tasks = _tasks(_rows(analysis.table, one.model, one.method))
            ax = plot_pairwise_kl(one, title=_marked(analysis, divergence_title(one, tasks), one.model, one.method))
            yield _name(analysis, "kl", one.model, one.method, one.scale, *stack(one)), figure_of(ax)
    for pair in analysis.comparisons:
        if pair.scale == analysis.scale and len(pair.layers) >= _LEAST_LAYERS:
            tasks = [str(task) for task in pair.pairs["task"].unique()]
            above = _marked(analysis, comparison_title(pair, tasks), pair.model, pair.method, pair.baseline)
            ax = plot_kl_difference(pair, title=above)
            words = [pair.method, "vs", pair.baseline, pair.scale]
            yield _name(analysis, "fig4", pair.model, *words, *stack(pair)), figure_of(ax)


def _courses(analysis: Analysis) -> _Named:
    """M_eff-k over training: a picture a stack, and a method where there are many."""
    known = analysis.trajectory["entropy_rank"].notna() & (analysis.trajectory["rank"] > 1)
    if analysis.trajectory[known].groupby(["model", "stack", "clock"], observed=True)["time"].nunique().max() < 2:
        return  # nothing to follow
    measured = measure(courses(analysis.table), [*COURSE, "run"], average=analysis.average)
    measured = measured[measured["entropy_rank"].notna() & (measured["rank"] > 1)]
    for names, part in measured.groupby(["model", "stack", "clock"], observed=True, sort=False):
        model, stack, clock = (str(name) for name in names)
        if part["time"].nunique() < 2:
            continue
        of_model = measured[measured["model"] == model]
        words = [text for text, column in ((stack, "stack"), (clock, "clock")) if of_model[column].nunique() > 1]
        many = part["method"].nunique() > MOST_METHODS
        for method, rows in part.groupby("method", observed=True) if many else [("", part)]:
            table = analysis.table[analysis.table["run"].isin(rows["run"])]
            what = ", ".join(["Concentration of spectra", *([stack] if stack in words else [])])
            above = _heading(table, what, model, runs=False)
            above = _marked(analysis, above, model, *map(str, rows["method"].unique()))
            axes = plot_effective_rank(rows, title=above)
            yield _name(analysis, "m-eff", model, str(method), *words), figure_of(axes[0])


def _interference(analysis: Analysis) -> _Named:
    """Cosines between scales and between layers over training, a picture a method."""
    by_epoch = interference_by_epoch(analysis.interference)
    for names, part in by_epoch.groupby(["model", "method"], observed=True, sort=False):
        model, method = map(str, names)
        what = f"Which parts of {title(method)} move the same way"
        axes = plot_interference(part, title=_heading(_rows(analysis.table, model, method), what, model))
        yield _name(analysis, "interference", model, method), figure_of(axes[0])


def _rows(table: DataFrame, model: str, method: str) -> DataFrame:
    return table[(table["model"] == model) & (table["method"] == method)]


def _heading(table: DataFrame, what: str, model: str, *, runs: bool = True) -> str:
    modules = [str(module) for module in table["module"].unique()]
    return heading(
        what, model, modules, tasks=_tasks(table), runs=counted(table["run"].nunique(), "run") if runs else ""
    )


def _marked(analysis: Analysis, above: str, model: str, *methods: str) -> str:
    """A title, and beneath it which of the runs were not finished or learned nothing."""
    found = {method: analysis.doubts[model, method] for method in methods if (model, method) in analysis.doubts}
    lines = [f"{title(method)}: {words}" if len(methods) > 1 else words for method, words in found.items()]
    return "\n".join([above, *lines])


def _tasks(table: DataFrame) -> Sequence[str]:
    return [str(task) for task in table["task"].unique()]


def _name(analysis: Analysis, kind: str, model: str, *words: str) -> str:
    return file_name(kind, *([model] if analysis.spectra["model"].nunique() > 1 else []), *words)


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes are on."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # the plots just made it
    return figure


def file_name(*words: str) -> str:
    """Return words as a file name that every system takes.

    Example:
        >>> file_name("fig3", "org/model name", "lora-r8")
        'fig3-org_model_name-lora-r8'
    """
    return "-".join(re.sub(r"[^\w.-]+", "_", word) for word in words if word)
