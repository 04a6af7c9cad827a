"""Which pictures an analysis makes, and what each is called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from msplora_analysis.analysis import Analysis

DPI = 300


def figures(analysis: Analysis) -> Iterator[tuple[str, Figure]]:
    """Draw the pictures of an analysis, one at a time, without pyplot.

    Args:
        analysis: what `analyse` found.

    Yields:
        A name without ending, as `write_analysis` lists them, and the figure.
    """
    from msplora_analysis import plots
    from msplora_analysis.plots.canvas import offscreen

    stacks = {one.modules for one in analysis.layers}

    def name(*words: str, model: str, modules: Sequence[str] = ()) -> str:
        front = [model] if analysis.spectra["model"].nunique() > 1 else []
        return file_name(words[0], *front, *words[1:], *(modules if len(stacks) > 1 else ()))

    def drawn(words: str, modules: Sequence[str], rule: str) -> str:
        return f"{words} ({', '.join(modules)})\n{rule}"

    with offscreen():
        for names, spectra in analysis.spectra.groupby(["model", "method"], observed=True, sort=False):
            model, method = (str(part) for part in names)
            ranks = spectra.groupby("scale", observed=True)["rank"].nunique()
            parts = (
                [("", spectra)] if ranks.max() == 1 else [(f"rank-{r}", part) for r, part in spectra.groupby("rank")]
            )
            for rank, part in parts:
                axes = plots.plot_svd_heatmaps(part, title=f"{method} {rank}".strip())
                yield name("fig3", method, rank, model=model), _figure_of(axes[0])
        for one in (one for one in analysis.layers if one.scale == analysis.scale):
            title = drawn(f"{one.method}: {one.scale}", one.modules, f"leading {one.length} singular values")
            ax = plots.plot_pairwise_kl(one.kl, layers=one.layers, title=title)
            yield name("kl", one.method, one.scale, model=one.model, modules=one.modules), _figure_of(ax)
        for pair in (pair for pair in analysis.comparisons if pair.scale == analysis.scale):
            title = drawn(f"{pair.method} minus {pair.baseline}: {pair.scale}", pair.modules, pair.rule)
            ax = plots.plot_kl_difference(pair.difference, layers=pair.layers, title=title)
            words = ("fig4", pair.method, "vs", pair.baseline, pair.scale)
            yield name(*words, model=pair.model, modules=pair.modules), _figure_of(ax)
        for key, measured in analysis.trajectory.groupby("model", observed=True, sort=False):
            axes = plots.plot_effective_rank(measured)
            yield name("m-eff", model=str(key)), _figure_of(axes[0])


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None  # the plots just made it
    return figure


def saved(figure: Figure, kind: str) -> bytes:
    """A picture as bytes, the same for the same data: no date in it. Text in a PDF stays text, in TrueType.

    Args:
        figure: to save.
        kind: `png` or `pdf`.

    Returns:
        The contents of the file.
    """
    import matplotlib

    buffer = BytesIO()
    # A hyphen for a minus: signs beyond Latin-1 would need a second copy of the font, the slowest part of a PDF.
    with matplotlib.rc_context({"pdf.fonttype": 42, "axes.unicode_minus": False}):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata={"CreationDate": None} if kind == "pdf" else None)
    return buffer.getvalue()


def file_name(*words: str) -> str:
    """Words as a file name that every system takes.

    Example:
        >>> file_name("fig3", "org/model name", "lora-r8")
        'fig3-org_model_name-lora-r8'
    """
    return "-".join(re.sub(r"[^\w.-]+", "_", word) for word in words if word)
