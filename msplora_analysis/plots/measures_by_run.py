"""The measures of each run, with the range of a null model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.plots.canvas import LINE, Frame, Row, given_axes, write_heading
from msplora_analysis.plots.colours import NULL_COLOUR, SCALE_COLOURS
from msplora_analysis.plots.effective_rank import drawn_nulls
from msplora_analysis.plots.lettering import count_lines, fitted, write_around
from msplora_analysis.plots.paired_differences import label_width
from msplora_analysis.plots.paper import SMALL, paper_style
from msplora_analysis.plots.words import INTERVAL, kind_titles, measure_title, null_range_of_runs, reading, task_title
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_ROW = 0.17
_MOST_LABEL = 1.4
"""Inches left of the panels; longer labels are broken into lines."""
_KEY = ["method", "scale"]
_MOST_TASKS = 6
_BAND = 0.86
"""Height of a band, as a share of its row."""


def plot_measures(
    by_run: DataFrame,
    *,
    means: DataFrame | None = None,
    nulls: DataFrame | None = None,
    measures: Sequence[str] = ("m_eff_1", "entropy_rank"),
    title: str = "",
    ax: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Draw measures of each run: a row of panels for each rank, with one line for each method and scale.

    A point is a run; within a line, points are ordered by task. Each rank has axes of its own, because measures of
    spectra of different rank are not comparable.

    Args:
        by_run: rows of one stack at one time (see `measure`): columns method, scale, rank, task, run and the measures.
            `total` is left out for methods without a shared scale, where it equals the layer scale.
        means: columns method, scale, rank, measure, mean, low, high, drawn as a diamond with its interval, which is
            said to be about these tasks.
        nulls: columns method, scale, rank, measure, null, null_low, null_high, drawn as a grey band; with a column
            task, one behind the points of each task. Pass those of single runs, averaged over the runs, as in
            `Analysis.measure_means`: the null of an average of several runs is another one. With the column `outside`,
            the number of runs outside their own null is written below.
        measures: which columns to draw.
        title: above all panels.
        ax: an Axes for each rank and measure, rank by rank; by default a new figure of one column's width.

    Returns:
        The axes drawn on, rank by rank.

    Raises:
        ParameterError: if a column is missing, or `ax` has another length.
    """
    missing = [name for name in ("rank", *measures) if name not in by_run.columns]
    if missing:
        raise ParameterError("by_run", expected=f"a column {missing[0]}", found=", ".join(by_run.columns))
    rows = by_run[by_run[list(measures)].notna().any(axis=1)].astype({"method": str, "scale": str, "task": str})
    plain = set(rows["method"]) - set(rows.loc[rows["scale"].isin(["global", "mid"]), "method"])
    rows = rows[(rows["scale"] != "total") | ~rows["method"].isin(plain)]
    ranks = {int(str(rank)): part for rank, part in rows.groupby("rank")}
    kinds = {rank: _kinds(part) for rank, part in ranks.items()}
    titles = kind_titles(rows)
    labels = {rank: [fitted(titles[kind], 72 * _MOST_LABEL, SMALL) for kind in kinds[rank]] for rank in kinds}
    panels = [(rank, name) for rank in ranks for name in measures]
    given = given_axes(ax, len(panels), f": {' and '.join(measures)} at {len(ranks)} ranks")
    apart = rows.groupby(["rank", *_KEY])["task"].nunique().max() > 1
    tasks = [task_title(str(task)) for task in by_run["task"].unique()] if apart else []
    bands = None if nulls is None or nulls.empty else drawn_nulls(nulls, rows)
    foot = "; ".join([*_marks(tasks, means, bands, measures), *map(reading, measures)])
    with paper_style(ax is None):
        axes = given or _new_axes(labels, measures, title, foot)
        for one, (rank, name) in zip(axes, panels, strict=True):
            if bands is not None:
                _draw_nulls(one, bands[(bands["rank"] == rank) & (bands["measure"] == name)], kinds[rank], ranks[rank])
            one.set(xlabel=measure_title(name), ylabel="row")  # seaborn makes the ticks of an axis without a name
            _draw_runs(one, ranks[rank], name, kinds[rank])
            if means is not None:
                _draw_means(one, means[(means["rank"] == rank) & (means["measure"] == name)], kinds[rank])
            count = len(labels[rank])
            one.set_yticks(range(count), labels[rank] if name == measures[0] else [""] * count)
            one.set_ylim(count - 0.5, -0.5)
            one.tick_params(axis="y", length=0)
            one.set_ylabel("")
            if ax is None and rank != list(ranks)[-1]:
                one.set_xlabel("")
        if ax is not None:
            write_around(axes, title, foot)
    return axes


def _kinds(rows: DataFrame) -> dict[tuple[str, str], int]:
    """Return the row of each method and scale, with the scales from global to total."""
    found = rows[_KEY].drop_duplicates().itertuples(index=False, name=None)
    order = list(SCALE_COLOURS)
    ordered = sorted(found, key=lambda kind: (rows["method"].tolist().index(kind[0]), order.index(kind[1])))
    return {(method, scale): place for place, (method, scale) in enumerate(ordered)}


def _new_axes(labels: dict[int, list[str]], measures: Sequence[str], title: str, foot: str) -> list[Axes]:
    names = [line for found in labels.values() for label in found for line in label.split("\n")]
    frame = Frame(left=label_width(names, _MOST_LABEL), right=0.13, gap=0.2)
    layout = [
        Row(
            [_ROW * len(found) * (1.4 if max(map(count_lines, found)) > 1 else 1)] * len(measures),
            below=0.16 + LINE * (rank == list(labels)[-1]),
            panel_titles=0,
            heading=True,
        )
        for rank, found in labels.items()
    ]
    nested = frame.lay_out(layout, title=title, foot=foot)[0]
    for rank, row in zip(labels, nested, strict=True):
        write_heading(row[0], f"rank {rank}", 0)
    return [one for row in nested for one in row]


def _draw_runs(ax: Axes, rows: DataFrame, name: str, kinds: dict[tuple[str, str], int]) -> None:
    import seaborn as sns

    heights = rows["task"].map(_lines(rows)) + [kinds[kind] for kind in zip(rows["method"], rows["scale"], strict=True)]
    sns.scatterplot(x=rows[name], y=heights, hue=rows["scale"], palette=SCALE_COLOURS, legend=False, ax=ax,
                    s=2.2**2, alpha=0.75, linewidth=0)  # fmt: skip


def _lines(rows: DataFrame) -> dict[str, float]:
    """The line of each task, relative to the middle of its row."""
    tasks = list(dict.fromkeys(rows["task"]))
    return {task: _BAND * ((place + 0.5) / len(tasks) - 0.5) for place, task in enumerate(tasks)}


def _draw_nulls(ax: Axes, nulls: DataFrame, kinds: dict[tuple[str, str], int], rows: DataFrame) -> None:
    lines = _lines(rows)
    if "task" in nulls.columns:
        height, shifts = _BAND / len(lines), nulls["task"].astype(str).map(lines).fillna(0.0).tolist()
    else:
        height, shifts = _BAND, [0.0] * len(nulls)
    for place, (low, high, shift) in _placed(nulls.assign(shift=shifts), kinds, ["null_low", "null_high", "shift"]):
        ax.barh(place + shift, high - low, height, low, color=NULL_COLOUR, linewidth=0, zorder=0)
    ax.use_sticky_edges = False  # else no margin beside a null at the end of the axis


def _draw_means(ax: Axes, means: DataFrame, kinds: dict[tuple[str, str], int]) -> None:
    look: dict[str, Any] = {"marker": "D", "markersize": 2.8, "color": "black", "markeredgecolor": "white"}
    for place, (mean, low, high) in _placed(means, kinds, ["mean", "low", "high"]):
        ax.plot([low, high], [place, place], color="black", linewidth=0.9)
        ax.plot([mean], [place], linestyle="", markeredgewidth=0.3, **look)


def _placed(
    table: DataFrame, kinds: dict[tuple[str, str], int], columns: list[str]
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield the position and the numbers of each row that is drawn."""
    values = table[columns].to_numpy(np.float64)
    for method, scale, numbers in zip(table["method"], table["scale"], values, strict=True):
        place = kinds.get((str(method), str(scale)))
        if place is not None:
            yield place, numbers


def _marks(
    tasks: Sequence[str], means: DataFrame | None, nulls: DataFrame | None, measures: Sequence[str]
) -> Iterator[str]:
    """What a point, a diamond and a band are."""
    lines = f", its task from top to bottom {', '.join(tasks)}" if 1 < len(tasks) <= _MOST_TASKS else ""
    yield f"a point: a run{lines}"
    if means is not None:
        known = means["low"].notna().any()
        yield "diamond: mean over the runs" + (f", with its {INTERVAL}" if known else "")
    if nulls is None:
        return
    yield f"grey: {null_range_of_runs(nulls)}"
    if {"outside", "runs"} <= set(nulls.columns):
        shown = nulls[nulls["measure"].isin(measures)]
        yield f"points outside the null of their own run: {shown['outside'].sum():.0f} of {shown['runs'].sum()}"
