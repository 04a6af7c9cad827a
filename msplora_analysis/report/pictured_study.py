"""What an analysis has on one model, as pictures need it: rows to draw together, and titles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from msplora_analysis.courses import courses
from msplora_analysis.plots.words import counted, heading, listed
from msplora_core.methods import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

    from msplora_analysis.analysis import Analysis

    Drawn = Iterator[tuple[str, Axes]]
    """Pictures: the name of each, and axes on it."""

MOST_PANELS = 24
OWN_COLOURS = "colours are those of this picture alone"
_CHANCE = {"rotation": "B and A give in random alignment", "gaussian": "random factors give"}


@dataclass(frozen=True)
class PicturedStudy:
    """What an analysis has on one model.

    Args:
        analysis: all of it.
        model: the model.
        log: whether colours of singular values are logarithmic.
    """

    analysis: Analysis
    model: str
    log: bool

    def of(self, table: DataFrame) -> DataFrame:
        """The rows on this model."""
        return table[table["model"] == self.model] if len(table) else table

    @cached_property
    def table(self) -> DataFrame:
        return self.of(self.analysis.table)

    @cached_property
    def nulls(self) -> DataFrame:
        return self.of(self.analysis.nulls)

    @cached_property
    def timed(self) -> DataFrame:
        return courses(self.table)

    def recorded(self) -> set[str]:
        """The methods of which more than one moment of training is known."""
        spectra = self.of(self.analysis.spectra)
        moments = spectra[spectra["sigma"] > 0].groupby("method", observed=True)["time"].nunique()
        return {str(method) for method, count in moments.items() if count > 1}

    def above(self, what: str, rows: DataFrame, *, modules: Sequence[str] = (), details: Sequence[str] = ()) -> str:
        """A title: what is seen, on which tasks and model, how many runs, which of them are doubtful."""
        runs = rows.groupby("method", observed=True)["run"].nunique()
        counts = sorted({int(count) for count in runs})
        words = counted(counts[-1], "run") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} runs"
        several = " each" if len(runs) > 1 else ""
        tasks = [str(task) for task in rows["task"].unique()]
        names = listed(list(modules or map(str, rows["module"].unique())))
        text = heading(what, self.model, tasks, words + several, [names, *details])
        return self.marked(text, *map(str, rows["method"].unique()))

    def marked(self, text: str, *methods: str) -> str:
        """A title, and beneath it which of the runs were not finished or learned nothing."""
        known = self.analysis.doubts
        found = {method: known[self.model, method] for method in methods if (self.model, method) in known}
        alike: dict[str, list[str]] = {}
        for method, words in found.items():
            alike.setdefault(words, []).append(title(method))
        lines = [f"{words}: {'; '.join(names)}" if len(methods) > 1 else words for words, names in alike.items()]
        return "\n".join([text, *lines])

    def groups(self, methods: set[str], most: int) -> Iterator[tuple[str, str, str, DataFrame]]:
        """Rows to draw together: a name, the column that tells them apart, what is seen beside it, the rows.

        The methods side by side, if there is one stack of layers; else the stacks of each method.
        """
        rows = self.table[self.table["method"].isin(methods)]
        if rows.empty:
            return
        one_stack = rows["stack"].nunique() == 1
        if one_stack and rows["method"].nunique() <= most:
            yield "", "method", title(str(rows["method"].iloc[0])) if rows["method"].nunique() == 1 else "", rows
            return
        for method, part in rows.groupby("method", observed=True, sort=False):
            stacks = list(part.groupby("stack", observed=True, sort=False))
            if len(stacks) <= most:
                yield str(method), "method" if one_stack else "stack", title(str(method)), part
                continue
            for stack, of_stack in stacks:
                yield f"{method}-{stack}", "stack", f"{title(str(method))}, {stack}", of_stack


def matching(frame: DataFrame, rows: DataFrame) -> DataFrame:
    """The rows of a frame that are of the methods and stacks of some rows of the table."""
    return frame[frame["method"].isin(rows["method"].unique()) & frame["stack"].isin(rows["stack"].unique())]


def beside_null(study: PicturedStudy, rows: DataFrame, above: str) -> tuple[str, str]:
    """Return a title and a note of how the entropy rank of spectra compares with what random factors give.

    Args:
        study: with its nulls.
        rows: whose spectra are drawn.
        above: the title; spectra that are no more than random get a line below it.
    """
    nulls = study.nulls
    if not len(nulls):
        return above, ""
    nulls = matching(nulls[nulls["measure"] == "entropy_rank"], rows)
    nulls = nulls[nulls["scale"] != "total"] if (nulls["scale"] != "total").any() else nulls
    if nulls.empty:
        return above, ""
    kind = " and ".join(map(str, nulls["null"].unique()))
    inside = int(((nulls["value"] >= nulls["null_low"]) & (nulls["value"] <= nulls["null_high"])).sum())
    if inside == len(nulls):
        return (
            f"{above}\nno more than {_CHANCE.get(kind, 'chance gives')}",
            f"entropy rank within 95% of the {kind} null",
        )
    if len(nulls) == 1:
        one = nulls.iloc[0]
        return above, f"entropy rank {one['value']:.2f}; {kind} null: {one['null_low']:.2f} to {one['null_high']:.2f}"
    return above, f"entropy rank outside 95% of the {kind} null in {len(nulls) - inside} of {len(nulls)} averages"


def sole_method(rows: DataFrame) -> list[str]:
    return [str(rows["method"].iloc[0])] if rows["method"].nunique() == 1 else []
