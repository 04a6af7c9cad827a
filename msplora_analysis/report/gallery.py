"""Which pictures an analysis makes, and what each is called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msplora_analysis.plots.canvas import offscreen
from msplora_analysis.plots.effective_rank import MOST_METHODS, plot_effective_rank
from msplora_analysis.plots.kl_difference import plot_kl_difference
from msplora_analysis.plots.pairwise_kl import plot_pairwise_kl
from msplora_analysis.plots.svd_heatmaps import plot_svd_heatmaps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from msplora_analysis.analysis import Analysis
    from msplora_analysis.comparison.difference import Comparison
    from msplora_analysis.comparison.layers import LayerDivergence


def draw_figures(analysis: Analysis) -> Iterator[tuple[str, Figure]]:
    """Draw all pictures of an analysis, one at a time, for `write_analysis` to save. Made without pyplot.

    Args:
        analysis: what `analyse` found.

    Yields:
        A name without ending, as `write_analysis` lists them, and the figure.
    """
    stacks = Counter((one.model, one.method) for one in analysis.layers if one.scale == analysis.scale)

    def name(kind: str, model: str, *words: str, modules: Sequence[str] = ()) -> str:
        front = [model] if analysis.spectra["model"].nunique() > 1 else []
        return file_name(kind, *front, *words, *modules)

    def stack(one: LayerDivergence | Comparison) -> list[str]:
        """What tells this stack of layers from the method's others: its first module type."""
        if stacks[one.model, one.method] < 2:
            return []
        return [one.modules[0], f"and-{len(one.modules) - 1}-more" if len(one.modules) > 1 else ""]

    with offscreen():
        for names, spectra in analysis.spectra.groupby(["model", "method", "stack"], observed=True, sort=False):
            model, method, place = (str(part) for part in names)
            mixed = spectra.groupby("scale", observed=True)["rank"].nunique().max() > 1
            several = analysis.spectra.query("model == @model and method == @method")["stack"].nunique() > 1
            for one_rank, part in spectra.groupby("rank") if mixed else [("", spectra)]:  # a picture for each rank
                words = [f"rank {one_rank}" if mixed else "", place if several else ""]
                title = " ".join(filter(None, [method, *words]))
                yield name("fig3", model, method, *words), _figure_of(plot_svd_heatmaps(part, title=title)[0])
        for one in analysis.layers:
            if one.scale == analysis.scale and len(one.layers) > 1 and one.length > 1:  # else all are alike
                rule = f"leading {one.length} singular values, {_counted(one.runs, 'run')}"
                ax = plot_pairwise_kl(
                    one.kl, layers=one.layers, title=_title(f"{one.method}: {one.scale}", one.modules, rule)
                )
                yield name("kl", one.model, one.method, one.scale, modules=stack(one)), _figure_of(ax)
        for pair in analysis.comparisons:
            if pair.scale == analysis.scale and len(pair.layers) > 1:
                rule = f"{pair.rule}, {_counted(len(pair.pairs), 'pair')} of runs"
                ax = plot_kl_difference(
                    pair.difference,
                    layers=pair.layers,
                    adjacent=pair.adjacent["difference"],
                    title=_title(f"{pair.method} minus {pair.baseline}: {pair.scale}", pair.modules, rule),
                )
                words = [pair.method, "vs", pair.baseline, pair.scale]
                yield name("fig4", pair.model, *words, modules=stack(pair)), _figure_of(ax)
        courses = analysis.trajectory[analysis.trajectory["entropy_rank"].notna() & (analysis.trajectory["rank"] > 1)]
        for names, measured in courses.groupby(["model", "stack", "clock"], observed=True, sort=False):
            model, place, clock = (str(part) for part in names)
            of_model = courses[courses["model"] == model]
            if measured["time"].nunique() > 1:  # else there is nothing to follow
                words = [
                    text for text, column in ((place, "stack"), (clock, "clock")) if of_model[column].nunique() > 1
                ]
                many = measured["method"].nunique() > MOST_METHODS
                for one_method, part in measured.groupby("method", observed=True) if many else [("", measured)]:
                    yield name("m-eff", model, str(one_method), *words), _figure_of(plot_effective_rank(part)[0])


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _title(words: str, modules: Sequence[str], rule: str) -> str:
    shown = ", ".join(modules[:2]) + (f" and {len(modules) - 2} more" if len(modules) > 2 else "")
    return f"{words} ({shown})\n{rule}"


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None  # the plots just made it
    return figure


def file_name(*words: str) -> str:
    """Words as a file name that every system takes.

    Example:
        >>> file_name("fig3", "org/model name", "lora-r8")
        'fig3-org_model_name-lora-r8'
    """
    return "-".join(re.sub(r"[^\w.-]+", "_", word) for word in words if word)
