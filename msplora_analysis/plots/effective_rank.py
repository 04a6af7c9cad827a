"""M_eff-k over training: how updates concentrate, or spread, while they are trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msplora_analysis.courses import SHARE
from msplora_analysis.plots.canvas import (
    M_EFF,
    Frame,
    paper_style,
    time_axis,
    write_around,
)
from msplora_analysis.plots.colours import SCALE_COLOURS
from msplora_analysis.plots.words import counted
from msplora_core.errors import ParameterError
from msplora_core.methods import title as method_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from pandas import DataFrame

_FRAME = Frame(height=1.25, left=0.5, gap=0.26)
_DASHES: tuple[Any, ...] = ((), (3, 1.5), (1, 1), (4, 1, 1, 1))
MOST_METHODS = len(_DASHES)
"""More methods than line styles would look alike: draw them apart."""
_MOST_MARKERS = 15


def plot_effective_rank(
    measured: DataFrame, *, ks: Sequence[int] = (1, 2, 4), title: str = "", ax: Sequence[Axes] | None = None
) -> list[Axes]:
    """Draw M_eff-k over training: a panel for each k, a colour for each scale, a line style for each method.

    Higher means more concentrated. Where M_eff-k is not informative (rank at most k, zero spectra) there is no line.
    With several runs of a method, the line is their mean and the band reaches from the lowest to the highest run;
    where their times are shares of training, which they need not have in common, each run has a line of its own.

    Args:
        measured: measures over training (see `measure`), of one stack: columns method, scale, epoch (or clock and
            time, see `courses`), m_eff_1, ... and run, if there are several. `total` is left out.
        ks: which k; those without a value for any method are left out.
        title: written above all panels.
        ax: an Axes for each k; a new figure of one column's width where not given.

    Returns:
        The axes drawn on, in the order of `ks`.

    Raises:
        ParameterError: if a column is missing, or `ax` has another length.
    """
    missing = [f"m_eff_{k}" for k in ks if f"m_eff_{k}" not in measured.columns]
    if missing:
        raise ParameterError("measured", expected=f"a column {missing[0]}", found=", ".join(measured.columns))
    if ax is None:
        ks = [k for k in ks if measured[f"m_eff_{k}"].notna().any()] or list(ks)[:1]
    elif len(ax) != len(ks):
        raise ParameterError("ax", expected=f"{len(ks)} axes, one for each k", found=len(ax))
    rows = measured[measured["scale"] != "total"]
    rows = rows.astype({name: str for name in ("method", "scale", "run") if name in rows.columns})
    time, clock = time_axis(rows)
    methods, scales = list(rows["method"].unique()), [one for one in SCALE_COLOURS if (rows["scale"] == one).any()]
    runs = rows.groupby("method", sort=False)["run"].nunique() if "run" in rows.columns else None
    many = runs is not None and runs.max() > 1
    foot = _foot(clock) if many else ""
    labels = [method_title(one) + (f", {counted(runs[one], 'run')}" if runs is not None else "") for one in methods]
    with paper_style(ax is None):
        key_lines = 0 if ax is not None else 1 + max(len(scales), len(methods))
        axes = (
            list(ax)
            if ax is not None
            else _FRAME.panels(len(ks), title=title, foot=foot, lines=1 + key_lines)[0]
        )  # fmt: skip
        for panel, k in zip(axes, ks, strict=True):
            _draw(panel, rows, time, f"m_eff_{k}", methods, scales, apart=bool(many and clock == SHARE))
            panel.set_title(f"{M_EFF}-{k}")
            panel.set_xlabel(clock)
            panel.set_ylabel("")
        axes[0].set_ylabel("higher = more concentrated")
        _add_keys(axes, scales, methods, labels, own=ax is None)
        if ax is not None:
            write_around(axes[0], title, foot)
    return axes


def _foot(clock: str) -> str:
    return "each line is a run" if clock == SHARE else "line: mean of the runs; band: lowest to highest run"


def _draw(panel: Axes, rows: DataFrame, time: str, column: str, methods: list[str], scales: list[str], *, apart: bool
          ) -> None:  # fmt: skip
    import seaborn as sns
    from matplotlib.ticker import MaxNLocator

    spread: dict[str, Any] = {"estimator": None, "units": "run"} if apart else {"errorbar": ("pi", 100)}
    few = rows[time].nunique() <= _MOST_MARKERS
    sns.lineplot(
        rows.reset_index(drop=True), x=time, y=column, hue="scale", hue_order=scales, palette=SCALE_COLOURS,
        style="method", style_order=methods, dashes=dict(zip(methods, _DASHES * len(methods), strict=False)),
        marker="o" if few else None, markeredgewidth=0, legend=False, ax=panel, err_kws={"alpha": 0.2, "linewidth": 0},
        **spread,
    )  # fmt: skip
    whole = bool((rows[time].dropna() % 1 == 0).all())
    panel.xaxis.set_major_locator(MaxNLocator(3, integer=whole, steps=[1, 2, 5, 10]))
    panel.yaxis.set_major_locator(MaxNLocator(5))


def _add_keys(axes: list[Axes], scales: list[str], methods: list[str], labels: list[str], *, own: bool) -> None:
    """Add a key to the colours and one to the line styles: below a new figure, within the last of the caller's axes."""
    from matplotlib.lines import Line2D

    colours = [Line2D([], [], color=SCALE_COLOURS[scale], label=scale) for scale in scales]
    styles = [Line2D([], [], color="0.3", label=label) for label in labels]
    for line, dashes in zip(styles, _DASHES * len(methods), strict=False):
        if dashes:
            line.set_dashes(dashes)
    if not own:
        axes[-1].legend(handles=[*colours, *(styles if len(methods) > 1 else [])], fontsize="small")
        return
    _below(axes, colours, "scale", 0)
    _below(axes, styles, "method", 1)


def _below(axes: list[Axes], handles: list[Line2D], name: str, column: int) -> None:
    figure = axes[0].figure
    bottom = axes[0].get_position().y0 * figure.get_size_inches()[1]  # type: ignore[union-attr]
    y = (bottom - 0.32) / figure.get_size_inches()[1]  # type: ignore[union-attr]
    figure.legend(
        handles=handles, title=name, loc="upper left", bbox_to_anchor=(0.12 + 0.25 * column, y), frameon=False,
        borderaxespad=0, borderpad=0, labelspacing=0.2, handlelength=2.2, alignment="left",
    )  # fmt: skip
