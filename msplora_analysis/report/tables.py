"""The tables for the terminal and for a paper, with rounded numbers as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msplora_analysis.comparison.controls import CONTROLS, control_means, controlled
from msplora_analysis.interference_courses import interference_by_method
from msplora_analysis.loading.scores import last_scores
from msplora_analysis.statistics.distance import seeds_kl
from msplora_core.methods import RANDOM_LABELS
from msplora_core.wording import counted

if TYPE_CHECKING:
    from pandas import DataFrame

    from msplora_analysis.analysis import Analysis
    from msplora_analysis.comparison.difference import Comparison

NONE = "–"
"""In a cell without a number."""
_MOST_COLUMNS = 6
_COMPARISONS = "How far apart adjacent layers are"
_INTERFERENCE = "Do scales and layers move the same way? Mean cosine over training"
_INTERFERENCE_KEY = (
    "Below 0 one undoes part of what the other does; unrelated directions give 0. Between scales: of the steps in "
    "weight space. Layers: of the gradients that they send to the component they share. Interval: over runs, about "
    "these tasks."
)


@dataclass(frozen=True)
class TextTable:
    """A table of texts.

    Args:
        name: the file name, without ending.
        title: the title.
        headers: the column headers.
        left: how many columns at the left hold words.
        rows: the texts of the cells.
        sections: the indexes of the rows after which a group ends.
        key: the meaning of the columns.
    """

    name: str
    title: str
    headers: tuple[str, ...]
    left: int
    rows: tuple[tuple[str, ...], ...]
    sections: tuple[int, ...] = ()
    key: str = ""


def text_tables(analysis: Analysis) -> Iterator[TextTable]:
    """Yield the tables of an analysis: measures with their nulls, comparisons, task metrics, interference.

    Each model has tables of its own, and each stack one of measures; the title names it where there are several.
    """
    final = analysis.final[analysis.final["rank"] > 1]
    several = analysis.final["model"].nunique() > 1
    for model, of in final.groupby("model", observed=True, sort=False):
        stacks = short_stacks(map(str, of["stack"].unique()))
        for stack, rows in of.groupby("stack", observed=True, sort=False):
            about = [*([str(model)] if several else []), *([stacks[str(stack)]] if len(stacks) > 1 and stack else [])]
            yield _measures(analysis, rows, about)
    compared = [one for one in analysis.comparisons if len(one.layers) > 1]
    for name in dict.fromkeys(one.model for one in compared):
        title = _COMPARISONS + (f": {name}" if several else "")
        yield _comparisons([one for one in compared if one.model == name], analysis.spread, title)
    if len(analysis.scores):
        yield scores_table(analysis.scores)
    if len(analysis.interference):
        means = interference_by_method(analysis.interference)
        for model, rows in means.groupby("model", observed=True, sort=False):
            yield _interference(rows, _INTERFERENCE + (f": {model!s}" if several else ""))


def _measures(analysis: Analysis, final: DataFrame, about: list[str]) -> TextTable:
    """Return a row for each scale, with the mean of its null below it and arrows on numbers outside its range."""
    ratios = [column for column in final.columns if column.startswith("m_eff_") and final[column].notna().any()]
    digits = {**dict.fromkeys(ratios, 3), "entropy_rank": 2, "stable_rank": 2}
    words = ["method", *(["scale"] if final["scale"].nunique() > 1 else [])]
    counts = ["rank", *(["runs"] if final["runs"].nunique() > 1 else [])]
    nulls = {_key(row): row for row in analysis.nulls.itertuples()}
    rows, sections = list[tuple[str, ...]](), []
    for method, part in final.groupby("method", observed=True, sort=False):
        shown = part if set(part["scale"]) - {"layer", "total"} else part[part["scale"] == "layer"]
        name = _shown(str(method)) + ("*" if (part["model"].iloc[0], method) in analysis.doubts else "")
        for row in shown.itertuples():
            names = [name, str(row.scale)][: len(words)]
            beside = {name: nulls.get((*_key(row)[:-1], name)) for name in digits}
            numbers = [_number(getattr(row, name), places, beside[name]) for name, places in digits.items()]
            rows.append((*names, *(str(getattr(row, name)) for name in counts), *numbers))
            if any(beside.values()):
                means = [f"{null.null_mean:.{digits[name]}f} " if null else "" for name, null in beside.items()]
                rows.append((*[""] * (len(words) - 1), "  null", *[""] * len(counts), *means))
            name = ""
        sections.append(len(rows) - 1)
    if final["runs"].nunique() == 1:
        count = final["runs"].iloc[0]
        about = [*about, counted(count, "run") + (" each" if final["method"].nunique() > 1 else "")]
    title = "How concentrated each scale is" + (f": {', '.join(about)}" if about else "")
    headers = (*words, *counts, *(name.replace("m_eff_", "M_eff-").removesuffix("_rank") for name in digits))
    key = _measures_key(analysis)
    return TextTable("measures", title, headers, len(words), tuple(rows), tuple(sections), key)


def short_stacks(stacks: Iterable[str]) -> dict[str, str]:
    """Return short names of stacks: only the shape of their matrices if all have the same list of layers."""
    names = dict.fromkeys(stacks)
    one_list = len({stack.rpartition(" ")[0] for stack in names}) == 1
    return {stack: stack.rpartition(" ")[2] if one_list else stack for stack in names}


def _key(row: Any) -> tuple[str, ...]:
    """Return the key of a row of the measures or of their nulls."""
    return (*(str(getattr(row, name)) for name in ("model", "method", "stack", "scale", "rank")),
            getattr(row, "measure", ""))  # fmt: skip


def _measures_key(analysis: Analysis) -> str:
    lines = [
        "M_eff-k: share of the k largest singular values, high = simple; – at k ≥ rank (1 by definition) or all zero.",
        "entropy, stable: ranks, high = complex.",
    ]
    if len(analysis.nulls):
        kinds = {
            "rotation": "B·Q·A, Q a random rotation: the factors without their alignment",
            "gaussian": "random factors of the same shape",
        }
        found = analysis.nulls.drop_duplicates("null")
        words = "; ".join(kinds[kind] for kind in found["null"])
        draws, seed = int(found["draws"].iloc[0]), int(found["null_seed"].iloc[0])
        lines.append(f"null: mean of {draws} draws of {words} (seed {seed}); ↑ ↓: above or below 95% of them.")
    return "\n".join(lines)


def _comparisons(comparisons: list[Comparison], kl_of_seeds: DataFrame, title: str) -> TextTable:
    """Return a row for each comparison: KL of adjacent layers, KL between seeds, and how many cells are decided.

    The result with random labels is below it, not in a separate comparison.
    """
    methods = {name for one in comparisons for name in (one.method, one.baseline)}
    shown = [one for one in comparisons if controlled(one.method) not in methods]
    short = short_stacks(one.stack for one in shown)
    place = "stack" if len(short) > 1 else "modules"
    several = len({one.modules for one in shown}) > 1
    rules = list(dict.fromkeys(one.rule for one in shown if not one.equal_ranks))
    marks = {rule: f"†{place if len(rules) > 1 else ''}" for place, rule in enumerate(rules, 1)}
    words = ["method", "baseline", *([place] if several else []), "scale"]
    spread = [[kl for kl in seeds_kl(one, kl_of_seeds) if kl == kl] for one in shown]
    rows = list[tuple[str, ...]]()
    for one, seeds in zip(shown, spread, strict=True):
        where = [short[one.stack] if place == "stack" else " ".join(one.modules)] if several else []
        adjacent, positive = one.adjacent, int((one.pairs["difference"] > 0).sum())
        numbers = [f"{adjacent[name]:.2g}" for name in ("adjacent_kl", "adjacent_kl_baseline")]
        numbers += [f"{adjacent['difference']:+.2g}"]
        numbers += [f"{max(seeds):.2g}" if seeds else NONE] if any(spread) else []
        counts = f"{positive}/{len(one.pairs)}", f"{int(one.cells['decided'].sum())}/{len(one.cells)}"
        scale = one.scale + ("" if one.equal_ranks else marks[one.rule])
        rows.append((_shown(one.method), _shown(one.baseline), *where, scale, *numbers, *counts))
        controls = control_means(one)
        if any(value == value for value in controls):
            texts = [NONE if value != value else f"{value:{form}}"
                     for value, form in zip(controls, (".2g", ".2g", "+.2g"), strict=True)]  # fmt: skip
            rows.append(("  random labels", *[""] * (len(words) - 1), *texts, *[""] * (len(numbers) + 2 - len(texts))))
    headers = (*words, "KL", "base's", "diff.", *(["seeds"] if any(spread) else []), "> 0", "cells")
    key = [
        "KL, base's, diff.: of adjacent layers, nats, both directions, mean over pairs of runs. > 0: pairs with a "
        "positive difference. cells: pairs of layers whose difference is decided after correction."
    ]
    if any(spread):
        key.append("seeds: KL of one layer in two seeds, the larger of both methods'; less than this says little.")
    trained = {task for one in shown if CONTROLS[0] in one.pairs
               for task in one.pairs.loc[one.pairs[list(CONTROLS)].notna().any(axis=1), "task"]}  # fmt: skip
    if trained:
        key.append(f"random labels: both methods trained on permuted labels, on {', '.join(sorted(trained))}.")
    key += [f"{mark} Ranks differ, and no verdict rests on it: {rule}." for rule, mark in marks.items()]
    return TextTable("comparisons", title, headers, len(words), tuple(rows), (), "\n".join(key))


def scores_table(scores: DataFrame) -> TextTable:
    """Return a row for each method, with the mean over seeds of each task's metric at the last epoch.

    More than `_MOST_COLUMNS` metrics are rows, and the methods columns.

    Args:
        scores: as from `load_scores`.
    """
    scores = last_scores(scores)
    methods = scores["method"].map(str) + (" on " + scores["model"].map(str) if scores["model"].nunique() > 1 else "")
    scores = scores.assign(method=methods, metric=scores["task"] + " " + scores["metric"])
    means = scores.pivot(index="method", columns="metric", values="mean")
    means = means.reindex(index=scores["method"].unique(), columns=scores["metric"].unique())
    if len(means.columns) > _MOST_COLUMNS:
        means = means.T
    rows = [
        (_shown(name), *(NONE if value != value else f"{value:.3f}" for value in values))
        for name, *values in means.itertuples(name=None)
    ]
    title = "Task metrics at the last epoch, mean over seeds"
    headers = (str(means.index.name), *map(_shown, means.columns))
    return TextTable("scores", title, headers, 1, tuple(rows))


def _interference(means: DataFrame, title: str) -> TextTable:
    rows, before = list[tuple[str, ...]](), ""
    for _, row in means.iterrows():
        pair = row["pair"].replace("-", ", ") if row["between"] == "scales" else f"layers, by {row['pair']}"
        interval = f"{row['low']:+.3f} to {row['high']:+.3f}" if row["low"] == row["low"] else NONE
        numbers = (f"{row[name]:+.3f}" for name in ("first", "last", "cosine"))
        negative = f"{round(row['negative'] * row['runs'])} of {row['runs']}"
        rows.append((_shown(row["method"]) if row["method"] != before else "", pair, *numbers, interval, negative))
        before = row["method"]
    headers = ("method", "between", "first", "last", "mean", "95% interval", "runs < 0")
    return TextTable("interference", title, headers, 2, tuple(rows), (), _INTERFERENCE_KEY)


def _number(value: float, digits: int, null: Any) -> str:
    if value != value:
        return NONE
    arrow = "" if null is None else "↑" if value > null.null_high else "↓" if value < null.null_low else " "
    return f"{value:.{digits}f}{arrow}"


def _shown(method: str) -> str:
    """Return a method's name with a space at which it can break."""
    return method.replace(f"-{RANDOM_LABELS}", f" {RANDOM_LABELS}")
