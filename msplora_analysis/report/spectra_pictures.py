"""Pictures of spectra and of their concentration: over training, by layer, by run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from msplora_analysis.choices import ALL
from msplora_analysis.measures import average_spectra, last_epochs
from msplora_analysis.plots.canvas import PANELS_A_ROW
from msplora_analysis.plots.effective_rank import MOST_METHODS, plot_effective_rank
from msplora_analysis.plots.heatmap import colour_norm
from msplora_analysis.plots.layer_spectra import plot_layer_spectra, plot_spectra_panels
from msplora_analysis.plots.measures_by_run import plot_measures
from msplora_analysis.plots.svd_heatmaps import plot_svd_heatmaps
from msplora_analysis.report.pictured_study import (
    MOST_PANELS,
    OWN_COLOURS,
    PicturedStudy,
    beside_null,
    matching,
    sole_method,
)
from msplora_core.methods import title

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from msplora_analysis.report.pictured_study import Drawn

_MOST_ROWS = 6
"""Limit on the rows of panels in one Fig. 3: further rows are in another picture of the same colours."""
_Panel = tuple[str, str, str, int]
"""Method, stack, scales if the method has several, rank."""


def spectra_over_training(study: PicturedStudy) -> Drawn:
    """Draw Fig. 3: spectra over training, a row of panels for each method and stack, all with one colour scale."""
    from matplotlib.colors import LogNorm

    spectra = study.of(study.analysis.spectra)
    spectra = spectra[spectra["method"].isin(study.recorded())]
    if spectra.empty:
        return
    shown = spectra[(spectra["scale"] != "total") & (spectra["k"] <= (study.top or spectra["k"].max()))]
    norm = colour_norm(shown["sigma"].to_numpy(), log=study.log)
    for stack, page, part in _pages(spectra, study.stack_titles):
        rows = matching(study.table, part)
        what = _about("Singular values over training", ", ".join(filter(None, [*map(title, sole_method(part)), stack])))
        above, note = beside_null(study, rows, study.above(what, rows))
        note = "; ".join(filter(None, [_runs_of_columns(part), note]))
        yield (
            "-".join(filter(None, ["fig3", stack, page])),
            plot_svd_heatmaps(
                part.assign(row=_row_titles(part, study.stack_titles)), by="row", top=study.top, title=above, note=note,
                log=isinstance(norm, LogNorm), vmin=norm.vmin, vmax=norm.vmax,
            )[0],
        )  # fmt: skip


def _pages(spectra: DataFrame, stack_titles: dict[str, str]) -> Iterator[tuple[str, str, DataFrame]]:
    """Yield what fits one picture, by stack and number: everything, else one stack, else some of its methods."""
    import pandas as pd

    stacks = {str(stack): part for stack, part in spectra.groupby("stack", observed=True, sort=False)}
    if _count_rows(spectra) <= _MOST_ROWS:
        yield "", "", pd.concat(stacks.values())  # one below the other: the methods of one stack
        return
    for stack, part in stacks.items():
        name = stack_titles[stack] if len(stacks) > 1 else ""
        pages = [list[str]()]
        for method in part["method"].unique():
            if pages[-1] and _count_rows(part[part["method"].isin([*pages[-1], method])]) > _MOST_ROWS:
                pages.append([])
            pages[-1].append(method)
        for number, methods in enumerate(pages, start=1):
            yield name, str(number) if number > 1 else "", part[part["method"].isin(methods)]


def _count_rows(spectra: DataFrame) -> int:
    """Return how many rows of panels a picture has: those with one panel, such as plain LoRA, share rows."""
    kinds = spectra[spectra["scale"] != "total"][["method", "stack", "scale", "rank"]].drop_duplicates()
    panels = kinds.groupby(["method", "stack"], observed=True).size()
    return int(np.ceil(panels[panels > 1] / PANELS_A_ROW).sum() + np.ceil((panels == 1).sum() / PANELS_A_ROW))


def _row_titles(part: DataFrame, stack_titles: dict[str, str]) -> Series[str]:
    """Return the parts of method and stack that distinguish each row."""
    names = [part["method"].astype(str).map(title), part["stack"].astype(str).map(stack_titles)]
    shown = [name for name in names if name.nunique() > 1] or names[:1]
    return reduce(lambda before, name: before.str.cat(name, sep=", "), shown)


def _runs_of_columns(spectra: DataFrame) -> str:
    """Return how many runs a column averages, where that differs within a method."""
    runs = spectra.groupby(["method", "stack"], observed=True)["runs"].agg(["min", "max"])
    runs = runs[runs["min"] < runs["max"]]
    return f"a column averages {runs['min'].min()} to {runs['max'].max()} runs" if len(runs) else ""


def spectra_by_layer(study: PicturedStudy) -> Drawn:
    """Draw spectra by layer for methods recorded at one time only, a panel for each method, stack and rank."""
    methods = {str(method) for method in study.table["method"].unique()} - study.recorded()
    groups = list(study.groups(methods, MOST_PANELS))
    for name, _, what, rows in groups:
        rows = last_epochs(rows)
        own = study.named(rows[rows["scale"] != "total"])
        pyramids = set(own.loc[own["scale"] != "layer", "method"].astype(str))
        parts: list[tuple[_Panel, DataFrame]] = []
        for (method, stack, rank), part in own.groupby(["method", "stack", "rank"], observed=True, sort=False):
            scales = ", ".join(part["scale"].astype(str).unique()) if str(method) in pyramids else ""
            parts.append(((str(method), str(stack), scales, int(str(rank))), average_spectra(part, ["scale", "unit"])))
        panels = [(_panel_name(key, [other for other, _ in parts]), spectra) for key, spectra in parts]
        above, note = beside_null(study, rows, study.above(_about("Singular values by layer", what), rows))
        coloured = len(groups) > 1 and (rows["rank"] > 1).any()
        note = "; ".join(filter(None, [note, OWN_COLOURS if coloured else ""]))
        file = "-".join(filter(None, ["spectra", name or "".join(sole_method(rows))]))
        if len(panels) == 1:
            yield file, plot_layer_spectra(panels[0][1], top=study.top, log=study.log, title=above, note=note)
        else:
            yield file, plot_spectra_panels(panels, top=study.top, log=study.log, title=above, note=note)[0]


def measures_by_run(study: PicturedStudy) -> Drawn:
    """Draw the measures of each run, with their mean and null."""
    by_run, averages = study.of(study.analysis.by_run), study.of(study.analysis.measure_means)
    by_run = by_run[by_run["entropy_rank"].notna() & (by_run["rank"] > 1)]
    for name, by, what, rows in study.groups({str(method) for method in by_run["method"].unique()}, 99):
        part, means = matching(by_run, rows), matching(averages, rows)
        nulls = means[means["null_low"].notna()]
        several = (means["runs"] > 1).any()
        if part["run"].nunique() < 2 or not (several or len(nulls)):
            continue
        if by == "stack":
            part, means, nulls = (study.named(table, "method") for table in (part, means, nulls))
        each_task = nulls["task"] != ALL
        measures = [column for column in ("m_eff_1", "entropy_rank") if part[column].notna().any()]
        above = study.above(_about("Concentration by run", what), rows)
        axes = plot_measures(
            part,
            means=means[(means["task"] == ALL) & (means["runs"] > 1)] if several else None,
            nulls=nulls[each_task] if each_task.any() else nulls.drop(columns="task"),
            measures=measures,
            title=above,
        )
        yield f"measures-{name}", axes[0]


def measures_over_training(study: PicturedStudy) -> Drawn:
    """Draw measures over training, a line for each method (or stack) and scale, with a band over the runs."""
    recorded = study.recorded()
    if not recorded:
        return
    measured = study.of(study.analysis.courses)
    measured = measured[measured["entropy_rank"].notna() & (measured["rank"] > 1) & (measured["module"] == ALL)]
    averages = study.of(study.analysis.measure_means)
    averages = averages[(averages["task"] == ALL) & averages["null_low"].notna()].drop(columns="task")
    for name, by, what, rows in study.groups(recorded & set(measured["method"].astype(str)), MOST_METHODS):
        part = measured[measured["run"].isin(rows["run"].unique()) & measured["stack"].isin(rows["stack"].unique())]
        for clock, of_clock in part.groupby("clock", observed=True, sort=False):
            if of_clock["time"].nunique() < 2:
                continue
            shown, nulls = of_clock, matching(averages, rows)
            if by == "stack":
                shown, nulls = (study.named(table, "method") for table in (shown, nulls))
            above = study.above(_about("Concentration over training", what), rows)
            clocks = str(clock) if part["clock"].nunique() > 1 else ""
            yield (
                "-".join(filter(None, ["m-eff", name, clocks])),
                plot_effective_rank(shown, nulls=nulls, title=above)[0],
            )


def _about(seen: str, what: str) -> str:
    return f"{seen}: {what}" if what else seen


def _panel_name(panel: _Panel, panels: Sequence[_Panel]) -> str:
    """Return the parts of method, stack, scales and rank that distinguish a panel from the others."""
    method, stack, scales, rank = panel
    ranks = {other[3] for other in panels if other[:2] == panel[:2]}
    words = [
        title(method) if len({other[0] for other in panels}) > 1 else "",
        stack if len({other[1] for other in panels}) > 1 else "",
        *([scales, f"r={rank}"] if len(ranks) > 1 else []),
    ]
    return ", ".join(filter(None, words))
