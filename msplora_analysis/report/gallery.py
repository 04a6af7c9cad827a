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
        for names, spectra in analysis.spectra.groupby(["model", "method"], observed=True, sort=False):
            model, method = (str(part) for part in names)
            mixed = spectra.groupby("scale", observed=True)["rank"].nunique().max() > 1
            for one_rank, part in spectra.groupby("rank") if mixed else [("", spectra)]:  # a picture for each rank
                rank = f"rank-{one_rank}" if mixed else ""
                axes = plot_svd_heatmaps(part, title=f"{method} {rank}".strip())
                yield name("fig3", model, method, rank), _figure_of(axes[0])
        for one in analysis.layers:
            if one.scale == analysis.scale and len(one.layers) > 1 and one.length > 1:  # else all are alike
                title = _title(f"{one.method}: {one.scale}", one.modules, f"leading {one.length} singular values")
                ax = plot_pairwise_kl(one.kl, layers=one.layers, title=title)
                yield name("kl", one.model, one.method, one.scale, modules=stack(one)), _figure_of(ax)
        for pair in analysis.comparisons:
            if pair.scale == analysis.scale and len(pair.layers) > 1:
                title = _title(f"{pair.method} minus {pair.baseline}: {pair.scale}", pair.modules, pair.rule)
                ax = plot_kl_difference(pair.difference, layers=pair.layers, title=title)
                words = (pair.method, "vs", pair.baseline, pair.scale)
                yield name("fig4", pair.model, *words, modules=stack(pair)), _figure_of(ax)
        for key, measured in analysis.trajectory.groupby("model", observed=True, sort=False):
            measured = measured[measured["entropy_rank"].notna() & (measured["rank"] > 1)]
            if measured["epoch"].nunique() > 1:  # else there is nothing to follow
                many = measured["method"].nunique() > MOST_METHODS
                for one_method, part in measured.groupby("method", observed=True) if many else [("", measured)]:
                    yield name("m-eff", str(key), str(one_method)), _figure_of(plot_effective_rank(part)[0])


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
