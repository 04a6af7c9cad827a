"""The data that the page's pictures are drawn from: the numbers of an analysis, by column, to four digits."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.choice_means import without_total
from msplora_analysis.choices import ALL, CHOICES
from msplora_analysis.courses import COURSE
from msplora_analysis.plots.colours import (
    ALL_LAYERS_ALIKE,
    DIFFERENCE,
    DISTINCT,
    DIVERGENCE,
    MAGNITUDE,
    PAIR_COLOURS,
    SCALE_COLOURS,
)
from msplora_analysis.report.packing import packed
from msplora_analysis.report.pictured_study import like_chance
from msplora_core.methods import title
from msplora_core.wording import natural_order

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from msplora_analysis.analysis import Analysis
    from msplora_analysis.comparison.difference import Comparison
    from msplora_analysis.comparison.layers import LayerDivergence

DIGITS = 4
"""Significant digits of the numbers in pictures; tables hold all digits."""
_MOST, _MOST_OF_RUN = 50_000, 1_500
"""Limit on the numbers of the tables below, and what each run adds to it."""
_REDUCTIONS = ((1, 2), (2, 2), (2, 1), (3, 1), (3, 0))
"""Until they fit: every how manieth time of the training is kept, and how many of task and module can be chosen."""
_LETTERS = string.digits + string.ascii_letters
_LINE = ["model", "method", "stack", "scale"]
_MEASURES = ["entropy_rank", "m_eff_1", "m_eff_2", "m_eff_4", "stable_rank"]
_NUMBERS = {"spectra-means": 1, "layer-spectra-means": 1, "course-means": 3 * len(_MEASURES), "kl-means": 1,
            "kl-difference-means": 3}  # fmt: skip
"""In a row of each table."""


def embedded(analysis: Analysis, tables: Mapping[str, DataFrame]) -> dict[str, Any]:
    """Return the data for the page's script.

    Args:
        analysis: from `analyse`.
        tables: its CSV tables by name (see `csv_tables`).

    Returns:
        Tables as from `as_columns` (spectra, layers, courses, scores, ...), matrices, comparisons, claims, titles of
        methods and colours. All of it can be written as JSON.
    """
    tables = {**tables, **_fitting(tables, analysis.table["run"].nunique())}
    methods = sorted(map(str, analysis.table["method"].unique()), key=natural_order)
    return {
        "colours": {
            "scales": SCALE_COLOURS, "pairs": PAIR_COLOURS | {"mid-layer": "var(--ink)"}, "distinct": DISTINCT,
            "magnitude": MAGNITUDE, "divergence": DIVERGENCE, "difference": DIFFERENCE,
        },
        "titles": {name: title(name) for name in methods},
        "all_layers_alike": ALL_LAYERS_ALIKE,
        "scale": analysis.scale,
        "spectra": _spectra(tables),
        "layers": _with_sigma(tables["layer-spectra-means"]),
        "courses": _courses(tables),
        "scores": as_columns(tables["score-means"].query("metric != 'loss'")) if "score-means" in tables else {},
        "matrices": [
            _divergence(one, analysis, tables) for one in analysis.layers if len(one.layers) > 1 and one.length > 1
        ],
        "comparisons": [_comparison(one, analysis, tables) for one in analysis.comparisons if len(one.layers) > 1],
        "like_chance": list(like_chance(analysis.nulls)),
        "nulls": _nulls(tables["measure-means"]),
        "spread": as_columns(analysis.spread),
        "interference": as_columns(tables["interference"].drop(columns="spread")) if "interference" in tables else {},
        "claims": [{"differences": rounded(claim.differences), "tasks": claim.tasks, "unit": claim.verdict.unit}
                   for claim in analysis.claims],
    }  # fmt: skip


def as_script(data: dict[str, Any]) -> str:
    """Return JSON that is safe inside a script element: no string in it can end the element or begin a comment.

    Example:
        >>> as_script({"module": "</script><!--"})
        '{"module":"\\\\u003c/script\\\\u003e\\\\u003c!--"}'
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def as_columns(frame: DataFrame) -> dict[str, Any]:
    """Return a frame by column, numbers rounded; a column with few distinct values is a letter per row and a key.

    Example:
        >>> import pandas as pd
        >>> as_columns(pd.DataFrame({"method": ["lora", "dora", "lora"], "rank": 8, "kl": [0.123456, np.nan, 2]}))
        {'method': {'values': ['lora', 'dora'], 'letters': '010'}, 'rank': {'every': 8}, 'kl': {'numbers': ']dd#:E`B#'}}
    """
    return {str(name): _column(frame[name]) for name in frame.columns}


def _column(values: Series[Any]) -> Any:
    import pandas as pd

    numbers = pd.api.types.is_numeric_dtype(values)
    whole = values.to_numpy(np.float64, na_value=np.nan) if numbers else values.astype(object)
    codes, found = pd.factorize(whole, use_na_sentinel=False)
    if numbers and (2 * len(found) > len(codes) + 1 or len(found) > len(_LETTERS)):
        return _numbers(whole)
    kept = rounded(found) if numbers else [None if pd.isna(one) else str(one) for one in found]
    if len(kept) == 1 and len(codes) > 1:
        return {"every": kept[0]}
    many = len(kept) > len(_LETTERS)
    return {"values": kept, "letters": codes.tolist() if many else "".join(_LETTERS[code] for code in codes)}


def _numbers(values: Any) -> Any:
    """Return a column in a short form, unless its numbers are whole or have too many sizes."""
    whole = not (np.isfinite(values) & (values % 1 != 0)).any()
    text = None if whole else packed(values)
    return rounded(values) if text is None else {"numbers": text}


def rounded(values: Any) -> Any:
    """Return numbers as nested lists, to significant digits unless whole; None for values that are not finite.

    Example:
        >>> rounded([[1.23456, float("inf")], [12345.0, 8.0]])
        [[1.235, None], [12345, 8]]
    """
    array: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    if array.ndim > 1:
        return [rounded(row) for row in array]
    if np.isfinite(array).all() and (array % 1 == 0).all():
        return [int(value) for value in array.tolist()]
    return [float(f"{value:.{DIGITS}g}") if isfinite(value) else None for value in array.tolist()]


def square(matrix: Any) -> Any:
    """Return a square matrix in a short form: as `packed`, or as nested lists if its numbers have too many sizes."""
    text = packed(matrix)
    return rounded(matrix) if text is None else {"square": text}


def _fitting(tables: Mapping[str, DataFrame], runs: int) -> dict[str, DataFrame]:
    """Return the tables of many numbers, reduced until they fit in the page."""
    large = {name: tables[name] for name in _NUMBERS if name in tables}
    if (means := large.get("course-means")) is not None:
        large["course-means"] = means[without_total(means, ["model", "method"]) & (means["rank"] > 1)]
    for step, together in _REDUCTIONS:
        found = {name: _reduced(table, step, together) for name, table in large.items()}
        if sum(_NUMBERS[name] * len(table) for name, table in found.items()) <= _MOST + _MOST_OF_RUN * runs:
            break
    return found


def _reduced(table: DataFrame, step: int, together: int) -> DataFrame:
    """Keep every so many times of each method, with the last, and choices of as many of task and module together."""
    chosen = (table["task"] != ALL).to_numpy() * 1 + (table["module"] != ALL).to_numpy()
    kept = table[chosen <= together]
    if step == 1 or "time" not in kept:
        return kept
    times = kept[["model", "method", "time"]].drop_duplicates().sort_values("time")
    from_last = times.groupby(["model", "method"], observed=True).cumcount(ascending=False)
    return kept.merge(times[from_last % step == 0], on=["model", "method", "time"])


def _spectra(tables: Mapping[str, DataFrame]) -> dict[str, Any]:
    """Return averaged spectra over training with their measures, a row for each spectrum."""
    spectra = tables["spectra-means"]
    keys = [*CHOICES, *COURSE, "rank"]
    measured = tables["trajectory-means"][[*keys, *_MEASURES[:2]]]
    starts = spectra.loc[spectra["k"] == 1, [*keys, "runs"]].merge(measured, on=keys, how="left")
    return as_columns(starts) | {"sigma": _split(spectra)}


def _courses(tables: Mapping[str, DataFrame]) -> dict[str, Any]:
    """Return the measures over training, of all tasks and of each."""
    if "course-means" not in tables:
        return {}
    values = [f"{name}{end}" for name in _MEASURES for end in ("", "_low", "_high")]
    return as_columns(tables["course-means"][[*COURSE, *CHOICES, "line", "rank", "runs", *values]])


def _nulls(means: DataFrame) -> dict[str, Any]:
    """Return the null models of the runs that a course ends with."""
    known = means[means["null"].notna() & means["measure"].isin(_MEASURES)]
    return as_columns(known[["task", *_LINE, "measure", "null_mean", "null_low", "null_high", "null"]])


def _with_sigma(spectra: DataFrame) -> dict[str, Any]:
    starts = spectra[spectra["k"] == 1].drop(columns=["k", "sigma", "share", "components"])
    return as_columns(starts) | {"sigma": _split(spectra)}


def _split(spectra: DataFrame) -> Any:
    """Return the singular values of each spectrum of a frame ordered by spectrum and k, in a short form if possible."""
    ends = np.flatnonzero(spectra["k"].to_numpy() == 1)[1:]
    parts = np.split(spectra["sigma"].to_numpy(), ends)
    if packed(spectra["sigma"]) is None:
        return [rounded(part) for part in parts]
    return {"rows": [packed(part) for part in parts]}


def _chosen(
    tables: Mapping[str, DataFrame], name: str, one: LayerDivergence | Comparison, analysis: Analysis
) -> list[dict[str, Any]]:
    """Return the matrices of each choice but that of all."""
    if one.scale != analysis.scale:
        return []
    rows, size = tables[name], len(one.layers) ** 2
    about = {key: getattr(one, key) for key in ("model", "method", "baseline", "stack") if hasattr(one, key)}
    about["modules"] = "+".join(one.modules)
    rows = rows[np.logical_and.reduce([rows[key] == value for key, value in about.items()])]
    values = [key for key in ("kl", "kl_baseline", "difference") if key in rows]
    return [
        {"task": part["task"].iloc[0], "module": part["module"].iloc[0]}
        | {key: square(part[key].to_numpy().reshape(len(one.layers), -1)) for key in values}
        for start in range(size, len(rows), size)
        for part in [rows.iloc[start : start + size]]
    ]


def _divergence(one: LayerDivergence, analysis: Analysis, tables: Mapping[str, DataFrame]) -> dict[str, Any]:
    return {
        "model": one.model, "method": one.method, "scale": one.scale, "stack": one.stack, "modules": one.modules,
        "length": one.length, "runs": one.runs, "layers": one.layers.tolist(), "kl": square(one.kl),
        "chosen": _chosen(tables, "kl-means", one, analysis),
    }  # fmt: skip


def _comparison(one: Comparison, analysis: Analysis, tables: Mapping[str, DataFrame]) -> dict[str, Any]:
    return {
        "model": one.model, "method": one.method, "baseline": one.baseline, "scale": one.scale, "stack": one.stack,
        "modules": one.modules, "rule": one.rule, "layers": one.layers.tolist(), "pairs": len(one.pairs),
        "kl": square(one.kl), "kl_baseline": square(one.kl_baseline), "difference": square(one.difference),
        "chosen": _chosen(tables, "kl-difference-means", one, analysis),
        **{name: _matrix(one, name) for name in ("low", "high", "p_corrected")},
    }  # fmt: skip


def _matrix(one: Comparison, column: str) -> Any:
    """Return a column of the cells as (L, L), with no value on the diagonal; None if no cell has a value."""
    count = len(one.layers)
    if one.cells[column].isna().all():
        return None
    values = np.full((count, count), np.nan)
    values[~np.eye(count, dtype=bool)] = one.cells[column]  # the cells are in this order
    return square(values)
