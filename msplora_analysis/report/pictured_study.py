"""The part of an analysis on one model, as pictures use it: groups of rows, and titles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from msplora_analysis.courses import courses
from msplora_analysis.plots.words import few_names, heading, null_range, task_title
from msplora_analysis.remarks import doubts
from msplora_core.methods import title
from msplora_core.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame, Series

    from msplora_analysis.analysis import Analysis

    Drawn = Iterator[tuple[str, Axes]]
    """Pictures: the name of each, and one of its axes."""

MOST_PANELS = 24
OWN_COLOURS = "this picture has its own colour scale"


@dataclass(frozen=True)
class PicturedStudy:
    """The part of an analysis on one model.

    Args:
        analysis: the whole analysis.
        model: the model.
        log: use a logarithmic colour scale for singular values; None: only if most cells would be dark.
    """

    analysis: Analysis
    model: str
    log: bool | None

    @property
    def top(self) -> int | None:
        """How many leading singular values pictures show: 8 as the paper's; all on a logarithmic scale on request."""
        return None if self.log else 8

    def of(self, table: DataFrame) -> DataFrame:
        """Return the rows on this model."""
        return table[table["model"] == self.model] if len(table) else table

    @cached_property
    def table(self) -> DataFrame:
        return self.of(self.analysis.table)

    @cached_property
    def nulls(self) -> DataFrame:
        return self.of(self.analysis.nulls)

    @cached_property
    def timed(self) -> DataFrame:
        return courses(self.table, self.analysis.runs)

    @cached_property
    def stack_titles(self) -> dict[str, str]:
        """The name of each stack: its modules, where they tell the stacks of one list of layers apart."""
        members = self.table[["stack", "module"]].drop_duplicates().astype(str)
        titles = {str(stack): few_names(list(rows["module"])) for stack, rows in members.groupby("stack", sort=False)}
        lists = {stack.rpartition(" ")[0] for stack in titles}
        if members["module"].is_unique and len(lists) == 1 and len(set(titles.values())) == len(titles):
            return titles
        return {stack: stack for stack in titles}

    def named(self, rows: DataFrame, column: str = "stack") -> DataFrame:
        """Rows with the names of their stacks, in the column `stack` or in another."""
        return rows.assign(**{column: rows["stack"].astype(str).map(self.stack_titles)})

    def recorded(self) -> set[str]:
        """The methods whose spectra were recorded at more than one time of training."""
        spectra = self.of(self.analysis.spectra)
        moments = spectra[spectra["sigma"] > 0].groupby("method", observed=True)["time"].nunique()
        return {str(method) for method, count in moments.items() if count > 1}

    def above(self, what: str, rows: DataFrame) -> str:
        """Return a title: what is shown, the tasks, the model, the number of runs, and doubtful runs."""
        runs = rows.groupby("method", observed=True)["run"].nunique()
        counts = sorted({int(count) for count in runs})
        words = counted(counts[-1], "run") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} runs"
        several = " each" if len(runs) > 1 else ""
        names = few_names(list(map(str, rows["module"].unique())))
        text = heading(what + _source(rows), self.model, known_tasks(rows), words + several, [names])
        return self.marked(text, rows)

    def marked(self, text: str, rows: DataFrame) -> str:
        """Return a title with a line below it on how many of the runs shown are unfinished or learned nothing."""
        found = {method: words for (_, method), words in doubts(rows, self.analysis.runs).items()}
        if len(set(found.values())) > 1:
            return "\n".join([text, *doubts(rows.assign(method=""), self.analysis.runs).values()])
        which = "; ".join(map(title, found)) if rows["method"].nunique() > 1 else ""
        return "\n".join([text, *(": ".join(filter(None, [words, which])) for words in set(found.values()))])

    def groups(self, methods: set[str], most: int) -> Iterator[tuple[str, str, str, DataFrame]]:
        """Yield rows to draw together: a name, the column that distinguishes them, what else to show, the rows.

        With one stack of layers a group is the methods; otherwise each method is a group of its stacks.
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
                yield f"{method}-{stack}", "stack", f"{title(str(method))}, {self.stack_titles[str(stack)]}", of_stack


def known_tasks(rows: DataFrame) -> list[str]:
    """The tasks of runs; those that are not known are named after their runs and left out."""
    tasks = rows[["task", "run"]].drop_duplicates().astype(str)
    return list(dict.fromkeys(tasks["task"][tasks["task"] != tasks["run"]]))


def _source(rows: DataFrame) -> str:
    """The file of a single run whose task is not known, to follow what is seen."""
    runs = rows["run"].unique()
    return f", {task_title(str(runs[0]).rsplit('/', 1)[-1])}" if len(runs) == 1 and not any(known_tasks(rows)) else ""


def matching(frame: DataFrame, rows: DataFrame) -> DataFrame:
    """Return the rows of `frame` whose method and stack occur in `rows`."""
    return frame[frame["method"].isin(rows["method"].unique()) & frame["stack"].isin(rows["stack"].unique())]


def beside_null(study: PicturedStudy, rows: DataFrame, above: str) -> tuple[str, str]:
    """Return a title and a note on how the entropy rank of spectra compares with that of random factors.

    Args:
        study: the study, with its nulls.
        rows: the rows whose spectra are drawn.
        above: the title; a line is added below it for spectra within the range of random factors.
    """
    nulls = study.nulls
    if not len(nulls):
        return above, ""
    nulls = _of_entropy(matching(nulls, rows))
    if nulls.empty:
        return above, ""
    inside = int(_inside(nulls).sum())
    if inside == len(nulls):
        return f"{above}\nno different from chance", f"entropy rank within {null_range(nulls)}"
    if len(nulls) == 1:
        one = nulls.iloc[0]
        values = f"entropy rank {one['value']:.2f}; {one['null_low']:.2f} to {one['null_high']:.2f}"
        return above, f"{values} in {null_range(nulls)}"
    outside = f"{len(nulls) - inside} of {len(nulls)} averages"
    return above, f"entropy rank of {outside} outside {null_range(nulls)}"


def like_chance(nulls: DataFrame) -> Iterator[dict[str, str]]:
    """Yield the model and method whose spectra are no different from chance, with words that say so.

    Args:
        nulls: of an analysis.
    """
    for (model, method), rows in _of_entropy(nulls).groupby(["model", "method"], observed=True, sort=False):
        if _inside(rows).all():
            words = f"no different from chance: entropy rank within {null_range(rows)}"
            yield {"model": str(model), "method": str(method), "words": words}


def _of_entropy(nulls: DataFrame) -> DataFrame:
    nulls = nulls[nulls["measure"] == "entropy_rank"]
    return nulls[nulls["scale"] != "total"] if (nulls["scale"] != "total").any() else nulls


def _inside(nulls: DataFrame) -> Series[bool]:
    return (nulls["value"] >= nulls["null_low"]) & (nulls["value"] <= nulls["null_high"])


def sole_method(rows: DataFrame) -> list[str]:
    return [str(rows["method"].iloc[0])] if rows["method"].nunique() == 1 else []
