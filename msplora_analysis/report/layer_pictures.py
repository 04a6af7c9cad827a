"""Pictures of pairs of layers, and of the interference between parts of an update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from msplora_analysis.comparison.layers import layer_divergences
from msplora_analysis.courses import COURSE
from msplora_analysis.interference_courses import interference_by_epoch
from msplora_analysis.measures import average_spectra, last_epochs
from msplora_analysis.plots.colours import ALL_LAYERS_ALIKE
from msplora_analysis.plots.cosine_courses import plot_interference
from msplora_analysis.plots.layer_spectra import plot_spectra_panels
from msplora_analysis.plots.paired_differences import plot_comparison
from msplora_analysis.plots.pairwise_kl import plot_kl_panels, plot_pairwise_kl
from msplora_analysis.plots.svd_heatmaps import plot_svd_heatmaps
from msplora_analysis.plots.words import comparison_title, divergence_title, few_names, name_title
from msplora_analysis.report.pictured_study import MOST_PANELS, OWN_COLOURS, PicturedStudy, known_tasks, sole_method
from msplora_analysis.statistics.flips import sign_flip_interval
from msplora_analysis.statistics.power import least_pairs
from msplora_core.methods import title

if TYPE_CHECKING:
    from pandas import DataFrame

    from msplora_analysis.comparison.difference import Comparison
    from msplora_analysis.comparison.layers import LayerDivergence
    from msplora_analysis.report.pictured_study import Drawn

By = Literal["task", "module"]
_LEAST_LAYERS = 3
"""A matrix of two layers holds only two numbers; the tables have them."""


def divergences(study: PicturedStudy) -> Drawn:
    """Draw the KL between layers, a panel for each method and stack."""
    shown = [one for one in study.analysis.layers if one.model == study.model and one.scale == study.analysis.scale]
    shown = [one for one in shown if len(one.layers) >= _LEAST_LAYERS and one.length > 1 and np.isfinite(one.kl).any()]
    for number, start in enumerate(range(0, len(shown), MOST_PANELS)):
        chosen = shown[start : start + MOST_PANELS]
        rows = study.table[study.table["method"].isin({one.method for one in chosen})]
        if len(shown) == 1:
            above = study.marked(divergence_title(chosen[0], known_tasks(rows)), rows)
            yield f"kl-{chosen[0].method}-{chosen[0].scale}", plot_pairwise_kl(chosen[0], title=above)
            return
        what = "KL between layers" + (f": {title(chosen[0].method)}" if rows["method"].nunique() == 1 else "")
        name = "-".join(
            filter(None, ["kl", *sole_method(rows), study.analysis.scale, str(number + 1) if number else ""])
        )
        panels = [(_divergence_name(one, shown, study.stack_titles), one) for one in chosen]
        note = OWN_COLOURS if len(shown) > MOST_PANELS else ""
        yield name, plot_kl_panels(panels, title=study.above(what, rows), note=note)[0]


def comparisons(study: PicturedStudy) -> Drawn:
    """Draw Fig. 4 for each method and its baselines of equal rank, or all baselines if none is; one scale per stack."""
    found = [one for one in study.analysis.comparisons if one.model == study.model]
    found = [one for one in found if one.scale == study.analysis.scale and len(one.layers) >= _LEAST_LAYERS]
    found = [one for one in found if min(one.lengths) > 1]
    equal = {one.method for one in found if one.equal_ranks}
    shown = [one for one in found if one.equal_ranks or one.method not in equal]
    reach = dict[tuple[str, ...], float]()  # those of one stack have the same colours
    for one in shown:
        reach[one.modules] = max(reach.get(one.modules, ALL_LAYERS_ALIKE), _reach(study, one))
    several = {(one.method, one.baseline) for one in shown if sum(_same(one, other) for other in shown) > 1}
    for one in shown:
        above = study.marked(comparison_title(one, known_tasks(one.pairs)), _compared(study, one))
        differences = one.pairs["difference"].to_numpy(dtype=np.float64)
        enough = len(differences) >= least_pairs() and np.isfinite(differences).all()
        interval = sign_flip_interval(differences) if enough else None
        stack = [one.modules[0], f"and-{len(one.modules) - 1}-more" if len(one.modules) > 1 else ""]
        where = stack if (one.method, one.baseline) in several else []
        name = "-".join(filter(None, ["fig4", one.method, "vs", one.baseline, one.scale, *where]))
        yield name, plot_comparison(one, interval=interval, reach=reach[one.modules], title=above)[0]


def interference(study: PicturedStudy) -> Drawn:
    """Draw the cosines between scales and between layers over training, a picture for each method."""
    recorded = study.of(study.analysis.interference)
    if recorded.empty:  # its intervals need scipy.special, which loads slowly
        return
    by_epoch = interference_by_epoch(recorded)
    for method, part in by_epoch.groupby("method", observed=True, sort=False):
        what = f"Which parts of {title(str(method))} move the same way"
        above = study.above(what, study.table[study.table["method"] == method])
        yield f"interference-{method}", plot_interference(part, title=above)[0]


def by_task_or_module(study: PicturedStudy, by: By) -> Drawn:
    """Draw spectra and KL of each method, a panel for each task or module."""
    for (method, stack), rows in study.timed.groupby(["method", "stack"], observed=True, sort=False):
        words = [str(method), *([str(stack)] if study.table["stack"].nunique() > 1 else [])]
        what = ", ".join([title(words[0]), *words[1:]])
        parts = [(name_title(by, str(name)), part) for name, part in rows.groupby(by, observed=True, sort=False)]
        above = study.above(f"{what} by {by}", rows)
        name = "-".join(["by", by, *words])
        if str(method) in study.recorded():
            spectra = average_spectra(rows, [*COURSE, by])
            axes = plot_svd_heatmaps(spectra, by=by, top=study.top, log=study.log, title=above, note=OWN_COLOURS)
            yield f"fig3-{name}", axes[0]
        else:
            one_moment = [(word, average_spectra(last_epochs(part), ["scale", "unit"])) for word, part in parts]
            axes = plot_spectra_panels(one_moment, top=study.top, log=study.log, title=above, note=OWN_COLOURS)
            yield f"spectra-{name}", axes[0]
        panels = [
            (word, one)
            for word, part in parts
            for one in layer_divergences(last_epochs(part), scale=study.analysis.scale, average=study.analysis.average)
            if len(one.layers) >= _LEAST_LAYERS and one.length > 1
        ]
        if panels:
            yield f"kl-{name}", plot_kl_panels(panels, title=above, note=OWN_COLOURS)[0]


def _reach(study: PicturedStudy, one: Comparison) -> float:
    """Return the larger of the greatest difference and the difference between seeds, in nats."""
    spread = study.of(study.analysis.spread)
    seeds = spread[(spread["scale"] == one.scale) & spread["method"].isin([one.method, one.baseline])]["kl"]
    values = np.abs(one.difference[np.isfinite(one.difference)])
    return float(max(values.max(initial=0.0), seeds.max() if len(seeds) else 0.0))


def _compared(study: PicturedStudy, one: Comparison) -> DataFrame:
    """The rows of the runs that are compared."""
    rows = study.table
    ours, theirs = (rows["run"].isin(one.pairs[name]) for name in ("run", "run_baseline"))
    return rows[(ours & (rows["method"] == one.method)) | (theirs & (rows["method"] == one.baseline))]


def _same(one: Comparison, other: Comparison) -> bool:
    return (one.method, one.baseline) == (other.method, other.baseline)


def _divergence_name(one: LayerDivergence, others: Sequence[LayerDivergence], stack_titles: dict[str, str]) -> str:
    several = sum(other.method == one.method for other in others) > 1
    stacks = sum((other.method, other.stack) == (one.method, one.stack) for other in others)
    where = "" if not several else stack_titles[one.stack] if one.stack and stacks == 1 else few_names(one.modules)
    method = title(one.method) if len({other.method for other in others}) > 1 else ""
    cut = f"leading {one.length} of ranks {one.ranks[0]} to {one.ranks[-1]}" if len(one.ranks) > 1 else ""
    return ", ".join(filter(None, [method, where, cut])) or title(one.method)
