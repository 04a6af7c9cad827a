"""M_eff-k over epochs: how updates concentrate, or spread, while they are trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msplora_analysis.plots.canvas import Frame, paper_style, time_axis
from msplora_core.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_FRAME = Frame(height=2.1, left=0.54, bottom=0.66)
_COLOURS = {"global": "#0072B2", "mid": "#E69F00", "layer": "#009E73", "total": "#CC79A7"}  # Okabe and Ito
_LINES: tuple[Any, ...] = ("-", "--", ":", "-.")
MOST_METHODS = len(_LINES)
"""More methods than line styles would look alike: draw them apart."""


def plot_effective_rank(
    measured: DataFrame, *, ks: Sequence[int] = (1, 2, 4), ax: Sequence[Axes] | None = None
) -> list[Axes]:
    """Draw M_eff-k over epochs: a panel for each k, a colour for each scale, a line style for each method.

    Higher means more concentrated. Where M_eff-k says nothing (rank at most k, zero spectra) there is no line.

    Args:
        measured: measures by epoch (see `measure`): columns method, scale, epoch (or clock and time,
            see `courses`), m_eff_1, ... `total` is
            left out for methods that have other scales.
        ks: which k; those that say nothing for any method are left out.
        ax: an Axes for each k; a new figure of one column's width where not given.

    Returns:
        The axes drawn on, in the order of `ks`.

    Raises:
        ParameterError: if a column is missing, no k says anything, or `ax` has another length.
    """
    missing = [f"m_eff_{k}" for k in ks if f"m_eff_{k}" not in measured.columns]
    if missing:
        raise ParameterError("measured", expected=f"a column {missing[0]}", found=", ".join(measured.columns))
    if ax is None:
        ks = [k for k in ks if measured[f"m_eff_{k}"].notna().any()] or list(ks)[:1]
    elif len(ax) != len(ks):
        raise ParameterError("ax", expected=f"{len(ks)} axes, one for each k", found=len(ax))
    rows = measured[measured["scale"] != "total"]
    time, clock = time_axis(rows)
    methods = list(rows["method"].unique())
    with paper_style(ax is None):
        axes = list(ax) if ax is not None else _FRAME.panels(len(ks))[0]
        for panel, k in zip(axes, ks, strict=True):
            for names, line in rows.groupby(["method", "scale"], observed=True, sort=False):
                method, scale = (str(name) for name in names)
                style = _LINES[methods.index(method) % len(_LINES)]
                marker = "o" if line[f"m_eff_{k}"].notna().sum() < 2 else ""
                panel.plot(line[time], line[f"m_eff_{k}"], style, color=_COLOURS[scale], marker=marker)
            panel.set_title(f"M_eff-{k}")
            panel.set_xlabel(clock)
            panel.set_ylim(0, 1)
            margin = 0.05 * (rows[time].max() - rows[time].min()) or 0.5
            panel.set_xlim(rows[time].min() - margin, rows[time].max() + margin)
            panel.locator_params(axis="x", nbins=4, integer=bool((rows[time] % 1 == 0).all()))
            if panel is not axes[0]:
                panel.set_yticklabels([])
        axes[0].set_ylabel("share (higher =\nmore concentrated)")
        _key(axes[-1], [scale for scale in _COLOURS if (rows["scale"] == scale).any()], methods)
    return axes


def _key(panel: Axes, scales: Sequence[str], methods: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    keys = [Line2D([], [], color=_COLOURS[scale], label=scale) for scale in scales]
    if len(methods) > 1:
        keys += [
            Line2D([], [], color="0.3", linestyle=_LINES[number % len(_LINES)], label=method)
            for number, method in enumerate(methods)
        ]
    panel.figure.legend(handles=keys, loc="lower center", ncols=3, frameon=False, borderaxespad=0.2, handlelength=1.8)
