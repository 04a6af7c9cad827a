"""Effective ranks over training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from msplora_analysis.courses import SHARE
from msplora_analysis.plots.canvas import LINE, Frame, Row, given_axes, write_heading
from msplora_analysis.plots.colours import SCALE_COLOURS
from msplora_analysis.plots.epochs import tick_times, time_axis
from msplora_analysis.plots.lettering import write_around
from msplora_analysis.plots.paper import SMALL, paper_style, size_in_points
from msplora_analysis.plots.words import kind_titles, measure_title, null_range_of_runs, reading
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_FRAME = Frame(left=0.45, gap=0.45)
_HEIGHT = 0.72
_STYLES: tuple[dict[str, Any], ...] = (
    {"dashes": (None, None), "marker": "o", "linewidth": 2.6, "markersize": 3.6, "alpha": 0.5},
    {"dashes": (None, None), "marker": "s"},
    {"dashes": (3, 1.2), "marker": "^"},
    {"dashes": (1, 1), "marker": "D"},
    {"dashes": (5, 1, 1, 1), "marker": "v"},
)
"""The first is a wide, light line below the others, for methods with one scale, such as LoRA."""
MOST_METHODS = len(_STYLES)
"""Draw more methods than line styles in separate figures."""
_MOST_MARKERS = 15
_HALF_A_LABEL = 0.6 * SMALL
"""Points."""
_KEYS_A_LINE = 2


def plot_effective_rank(
    measured: DataFrame,
    *,
    nulls: DataFrame | None = None,
    measures: Sequence[str] = ("m_eff_1", "entropy_rank"),
    title: str = "",
    ax: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Draw measures over training: a row of panels for each rank, a line for each method and scale of that rank.

    Spectra of different rank have separate axes, since their measures are not comparable. With several runs, a line is
    their mean and the band reaches from the lowest to the highest run; points are hollow where not all runs have that
    time. If times are shares of training, which runs need not have in common, each run has its own line. Zero spectra
    have no value.

    Args:
        measured: measures over training (see `measure`), of one stack: columns method, scale, rank, epoch (or clock
            and time, see `courses`), the measures, and run, if there are several. `total` is not drawn.
        nulls: at the end of training: columns method, scale, rank, measure, null, null_low, null_high; drawn as a bar
            beside the end of each line. For several runs, pass the means over the runs, as in
            `Analysis.measure_means`.
        measures: columns to draw.
        title: above all panels.
        ax: an Axes for each rank and measure, rank by rank; by default a new figure of one column's width.

    Returns:
        The axes drawn on, rank by rank.

    Raises:
        ParameterError: if a column is missing, or `ax` has another length.
    """
    from matplotlib.ticker import MaxNLocator

    missing = [name for name in measures if name not in measured.columns]
    if missing:
        raise ParameterError("measured", expected=f"a column {missing[0]}", found=", ".join(measured.columns))
    rows = measured[measured["scale"] != "total"]
    rows = rows.astype({name: str for name in ("method", "scale", "run") if name in rows.columns})
    time, clock = time_axis(rows)
    styles, titles = _styles(rows), kind_titles(rows)
    ranks = {int(str(rank)): part for rank, part in rows.groupby("rank")}
    panels = [(rank, name) for rank in ranks for name in measures]
    given = given_axes(ax, len(panels), f": {' and '.join(measures)} at {len(ranks)} ranks")
    many = "run" in rows.columns and rows.groupby("method")["run"].nunique().max() > 1
    spread: dict[str, Any] = (
        {"units": "run", "estimator": None} if many and clock == SHARE
        else {"errorbar": ("pi", 100), "err_kws": {"alpha": 0.15, "linewidth": 0}}
    )  # fmt: skip
    nulls = None if nulls is None else drawn_nulls(nulls, rows)
    grey = [] if nulls is None or nulls.empty else [f"bars at the end: {null_range_of_runs(nulls)}"]
    foot = "; ".join([*(_spread(clock, rows, time) if many else []), *grey, *map(reading, measures)])
    with paper_style(ax is None):
        axes = given or _new_axes(ranks, len(measures), title, foot)
        for one, (rank, name) in zip(axes, panels, strict=True):
            one.set(xlabel=clock, ylabel=measure_title(name))  # seaborn makes the ticks of an axis without a name
            _draw(one, ranks[rank], time, name, styles, titles, spread)
            if nulls is not None:
                band = nulls[(nulls["rank"] == rank) & (nulls["measure"] == name)]
                _draw_nulls(one, band, float(ranks[rank][time].max()))
            one.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
            tick_times(one, ranks[rank][time].to_numpy(np.float64))
            if ax is None:
                _lower_ticks(one)
            if name == measures[0]:
                _add_key(one, rank, own=ax is None)
        for one in axes[: -len(measures)]:
            one.set_xlabel("")
        if ax is not None:
            write_around(axes, title, foot)
    return axes


def _new_axes(ranks: dict[int, DataFrame], count: int, title: str, foot: str) -> list[Axes]:
    layout = []
    for rank, rows in ranks.items():
        keys = -(-len(rows[["method", "scale"]].drop_duplicates()) // _KEYS_A_LINE)
        below = 0.16 + LINE * (rank == list(ranks)[-1])
        layout.append(Row([_HEIGHT] * count, below=below, panel_titles=keys, heading=True))
    nested = _FRAME.lay_out(layout, title=title, foot=foot)[0]
    for rank, row, shape in zip(ranks, nested, layout, strict=True):
        write_heading(row[0], f"rank {rank}", shape.panel_titles)
    return [one for row in nested for one in row]


def drawn_nulls(nulls: DataFrame, rows: DataFrame) -> DataFrame:
    """Return the nulls of the methods, scales and ranks that are drawn."""
    keys = ["method", "scale", "rank"]
    return nulls.astype({"method": str, "scale": str}).merge(rows[keys].drop_duplicates(), on=keys)


def _draw_nulls(ax: Axes, nulls: DataFrame, end: float) -> None:
    """A bar for each line, behind the end of training."""
    scales, values = nulls["scale"].tolist(), nulls[["null_low", "null_high"]].to_numpy(np.float64)
    step = 0.035 * (end - ax.dataLim.x0)
    for place, (scale, ends) in enumerate(zip(scales, values, strict=True), start=1):
        x = [end + place * step] * 2
        ax.plot(x, ends, color=SCALE_COLOURS[scale], alpha=0.45, linewidth=2.2, solid_capstyle="butt")


def _styles(rows: DataFrame) -> dict[str, dict[str, Any]]:
    """A style for each method that is unique at each of its ranks; methods with one scale come first."""
    kinds = rows.groupby("method", sort=False)[["scale", "rank"]].agg(set)
    found = dict[str, int]()
    for method in sorted(kinds.index, key=lambda name: len(kinds["scale"][name])):
        ranks = kinds["rank"][method]
        taken = {style for other, style in found.items() if kinds["rank"][other] & ranks}
        free = (style for style in range(len(found) + 2) if style not in taken)
        found[method] = next(style for style in free if style or len(kinds["scale"][method]) == 1)
    return {method: _STYLES[style % len(_STYLES)] for method, style in found.items()}


def _draw(
    ax: Axes,
    rows: DataFrame,
    time: str,
    name: str,
    styles: dict[str, dict[str, Any]],
    titles: dict[tuple[str, str], str],
    spread: dict[str, Any],
) -> None:
    import seaborn as sns

    few = rows[time].nunique() <= _MOST_MARKERS
    for method, style in styles.items():
        part = rows[(rows["method"] == method) & rows[name].notna()]
        scales = [scale for scale in SCALE_COLOURS if scale in set(part["scale"])]
        if not scales:
            continue
        before, look = len(ax.lines), {**style, "marker": style["marker"] if few else None, "markeredgewidth": 0}
        draw = partial(sns.lineplot, x=time, y=name, hue="scale", palette=SCALE_COLOURS, legend=False, ax=ax)
        draw(part, hue_order=scales, **look, **spread)
        first = {line.get_color(): line for line in reversed(ax.lines[before:])}
        for scale in scales:
            first[SCALE_COLOURS[scale]].set_label(titles[method, scale])
        counts = part.groupby(["scale", time])[name].transform("count")
        fewer = part[counts < counts.groupby(part["scale"]).transform("max")]
        if len(fewer) and "units" not in spread:
            draw(fewer, errorbar=None, linestyle="", marker=style["marker"], markersize=style.get("markersize"),
                 markeredgewidth=0.8, markeredgecolor=None, markerfacecolor="white")  # fmt: skip


def _lower_ticks(ax: Axes) -> None:
    """Make room between the highest tick's label and the legend above a panel."""
    low, high = ax.get_ylim()
    room = _HALF_A_LABEL / size_in_points(ax)[1] * (high - low)
    highest = max((tick for tick in ax.get_yticks() if tick <= high), default=low)
    ax.set_ylim(low, max(high, highest + room))


def _add_key(ax: Axes, rank: int, *, own: bool) -> None:
    """Add a legend of lines: above the row of a new figure, or within the caller's axes."""
    if not own:
        ax.legend(title=f"rank {rank}", fontsize="small")
        return
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=_KEYS_A_LINE, frameon=False, borderaxespad=0.1,
        borderpad=0, labelspacing=0.15, columnspacing=1.0, handlelength=2.4,
    )  # fmt: skip


def _spread(clock: str, rows: DataFrame, time: str) -> list[str]:
    if clock == SHARE:
        return ["each line is a run"]
    counts = rows.groupby(["method", time])["run"].nunique().groupby("method").agg(["min", "max"])
    counts = counts[counts["min"] < counts["max"]]
    fewer = [f"hollow: fewer runs, down to {counts['min'].min()}"] if len(counts) else []
    return ["line: mean of the runs; band: lowest to highest run", *fewer]
