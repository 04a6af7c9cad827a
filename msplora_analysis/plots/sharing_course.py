"""How much the layers share over training, beyond chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msplora_analysis.courses import SHARE
from msplora_analysis.plots.canvas import LINE, Frame, Row
from msplora_analysis.plots.colours import DISTINCT, NULL_COLOUR
from msplora_analysis.plots.epochs import tick_times, time_axis
from msplora_analysis.plots.lettering import write_around
from msplora_analysis.plots.paper import paper_style
from msplora_core.methods import title as method_title
from msplora_core.wording import counted, natural_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_FRAME = Frame(left=0.5)
_HEIGHT = 1.5
_BAND = 2.0
"""Half width of the null model's band, in standard deviations."""


def plot_sharing_course(course: DataFrame, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw the share of the energy that layers share beyond chance, over training, one line for each method.

    The line is the mean over module types and runs; the band reaches from the lowest to the highest run. If times are
    shares of training, which runs need not have in common, each run has its own line. The grey band is 0 ± two standard
    deviations of one run whose layers share nothing.

    Args:
        course: of one model: columns method, run, module, epoch (or clock and time, see `courses`), excess and
            deviation_own (see `Overlap.course`).
        title: above the axes.
        ax: an Axes to draw on; by default a new figure of one column's width.

    Returns:
        The axes drawn on.
    """
    import seaborn as sns

    time, clock = time_axis(course)
    known = course[course["excess"].notna()].astype({"method": str, "run": str})
    rows = known.groupby(["method", "run", time], sort=False)[["excess", "deviation_own"]].mean().reset_index()
    methods = sorted(rows["method"].unique(), key=natural_order)
    colours = [DISTINCT[place % len(DISTINCT)] for place in range(len(methods))]
    runs = rows.groupby("method", sort=False)["run"].nunique()
    apart = clock == SHARE
    drawn = "each line is a run" if apart else "line: mean of the runs; band: lowest to highest"
    spread: dict[str, Any] = (
        {"units": "run", "estimator": None} if apart
        else {"errorbar": ("pi", 100), "err_kws": {"alpha": 0.2, "linewidth": 0}}
    )  # fmt: skip
    foot = f"{drawn}; grey: layers that share nothing"
    own = ax is None
    with paper_style(own):
        if ax is None:
            key = 1 + len(methods)
            row = Row([_HEIGHT], below=0.2 + LINE * (1 + key), panel_titles=0)
            ((ax,),), _ = _FRAME.lay_out([row], title=title, foot=foot)
        half = _BAND * rows["deviation_own"].mean()
        ax.axhspan(-half, half, color=NULL_COLOUR, linewidth=0)
        sns.lineplot(rows, x=time, y="excess", hue="method", hue_order=methods, style="method", style_order=methods,
                     palette=colours, markers=True, markeredgewidth=0, ax=ax, **spread)  # fmt: skip
        ax.set_xlabel(clock)
        ax.set_ylabel("shared beyond chance")
        tick_times(ax, rows[time].to_numpy(float), 6)
        handles, names = ax.get_legend_handles_labels()
        labels = [f"{method_title(name)}, {counted(int(runs[name]), 'run')}" for name in names]
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.22)} if own else {"loc": "best"}
        ax.legend(handles, labels, frameon=False, **place)
        if not own:
            write_around([ax], title, foot)
    return ax
