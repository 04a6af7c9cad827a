"""The data that the page's pictures are drawn from: the numbers of an analysis, by column, to four digits."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.choices import by_choice
from msplora_analysis.comparison.chosen_layers import chosen_differences, chosen_divergences
from msplora_analysis.courses import COURSE, courses
from msplora_analysis.measures import average_spectra, measure, measure_averages
from msplora_analysis.plots.colours import DIFFERENCE, DIVERGENCE, MAGNITUDE, SCALE_COLOURS
from msplora_analysis.report.packing import packed
from msplora_core.methods import title

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from msplora_analysis.analysis import Analysis
    from msplora_analysis.comparison.difference import Comparison
    from msplora_analysis.comparison.layers import LayerDivergence

DIGITS = 4
"""Significant digits of the numbers in pictures; tables hold all digits."""
_MOST = 60_000
"""Limit on the numbers of one kind. Above it, times of the training are left out, then choices of task and module."""
_LETTERS = string.digits + string.ascii_letters
_MEASURES = ["entropy_rank", "m_eff_1", "m_eff_2", "m_eff_4", "stable_rank"]


def embedded(analysis: Analysis, tables: Mapping[str, DataFrame]) -> dict[str, Any]:
    """Return the data for the page's script.

    Args:
        analysis: from `analyse`.
        tables: its CSV tables by name (see `csv_tables`).

    Returns:
        Tables as from `as_columns` (spectra, layers, courses, scores, ...), matrices, comparisons, claims, titles of
        methods and colours. All of it can be written as JSON.
    """
    timed = _thinned(courses(_without_total(analysis.table, ["run"])), len(analysis.spectra))
    return {
        "colours": {
            "scales": SCALE_COLOURS, "magnitude": MAGNITUDE, "divergence": DIVERGENCE, "difference": DIFFERENCE,
        },
        "titles": {str(method): title(str(method)) for method in analysis.table["method"].unique()},
        "scale": analysis.scale,
        "spectra": _spectra(timed, analysis),
        "layers": _with_sigma(
            by_choice(average_spectra, analysis.compared, ["model", "method", "stack", "scale", "unit"], most=_MOST)
        ),
        "courses": _courses(tables, len(analysis.spectra)),
        "scores": as_columns(tables["score-means"].query("metric != 'loss'")) if "score-means" in tables else {},
        "matrices": [
            _divergence(one, analysis) for one in analysis.layers if len(one.layers) > 1 and one.length > 1
        ],
        "comparisons": [_comparison(one, analysis) for one in analysis.comparisons if len(one.layers) > 1],
        "nulls": as_columns(analysis.nulls.drop(columns=["rank", "value", "place", "draws", "seed"])),
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


def as_columns(frame: DataFrame, digits: int = DIGITS) -> dict[str, Any]:
    """Return a frame by column, numbers rounded; a column with few distinct values is a letter per row and a key.

    Example:
        >>> import pandas as pd
        >>> as_columns(pd.DataFrame({"method": ["lora", "msplora", "lora"], "rank": 8, "kl": [0.123456, np.nan, 2]}))
        {'method': {'values': ['lora', 'msplora'], 'letters': '010'}, 'rank': {'every': 8}, 'kl': [0.1235, None, 2.0]}
    """
    return {str(name): _column(frame[name], digits) for name in frame.columns}


def _column(values: Series[Any], digits: int) -> Any:
    import pandas as pd

    numbers = pd.api.types.is_numeric_dtype(values)
    whole = values.to_numpy(np.float64, na_value=np.nan) if numbers else values.astype(object)
    codes, found = pd.factorize(whole, use_na_sentinel=False)
    if numbers and (2 * len(found) > len(codes) + 1 or len(found) > len(_LETTERS)):
        return rounded(whole, digits)
    kept = rounded(found, digits) if numbers else [None if pd.isna(one) else str(one) for one in found]
    if len(kept) == 1 and len(codes) > 1:
        return {"every": kept[0]}
    many = len(kept) > len(_LETTERS)
    return {"values": kept, "letters": codes.tolist() if many else "".join(_LETTERS[code] for code in codes)}


def rounded(values: Any, digits: int = DIGITS) -> Any:
    """Return numbers as nested lists, to significant digits unless whole; None for values that are not finite.

    Example:
        >>> rounded([[1.23456, float("inf")], [12345.0, 8.0]])
        [[1.235, None], [12345, 8]]
    """
    array: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    if array.ndim > 1:
        return [rounded(row, digits) for row in array]
    if np.isfinite(array).all() and (array % 1 == 0).all():
        return [int(value) for value in array.tolist()]
    return [float(f"{value:.{digits}g}") if isfinite(value) else None for value in array.tolist()]


def square(matrix: Any) -> Any:
    """Return a square matrix in a short form: as `packed`, or as nested lists if its numbers have too many sizes."""
    text = packed(matrix)
    return rounded(matrix) if text is None else {"square": text}


def _without_total(table: DataFrame, by: Sequence[str]) -> DataFrame:
    """Leave out totals: they are the longest spectra, and the pictures over training show their scales instead."""
    others = table["scale"] != "total"
    return table[others | ~others.groupby([table[name] for name in by], observed=True).transform("any")]


def _thinned(timed: DataFrame, rows: int) -> DataFrame:
    """Keep only every second, third, ... time of each method, and the last, if all would make the page too large."""
    step = -(-rows // _MOST)
    if step == 1:
        return timed
    times = timed[["model", "method", "time"]].drop_duplicates().sort_values("time")
    groups = times.groupby(["model", "method"], observed=True)
    from_last = groups.cumcount(ascending=False)
    return timed.merge(times[from_last % step == 0], on=["model", "method", "time"])


def _spectra(timed: DataFrame, analysis: Analysis) -> dict[str, Any]:
    """Return averaged spectra over training with their measures, a row for each spectrum."""
    keys = [*COURSE, "task", "module"]
    spectra = by_choice(average_spectra, timed, COURSE, most=_MOST)
    if analysis.average == "spectra":
        measured = measure_averages(spectra, keys)
    else:
        measured = by_choice(partial(measure, average=analysis.average), timed, COURSE, most=_MOST)
    keys.append("rank")
    starts = spectra.loc[spectra["k"] == 1, [*keys, "runs"]]
    return as_columns(starts.merge(measured[[*keys, *_MEASURES[:2]]], on=keys, how="left")) | {"sigma": _split(spectra)}


def _courses(tables: Mapping[str, DataFrame], rows: int) -> dict[str, Any]:
    """Return the measures over training, of all tasks and of each."""
    if "course-means" not in tables:
        return {}
    frame = _thinned(_without_total(tables["course-means"], ["model", "method"]), rows)
    values = [f"{name}{end}" for name in _MEASURES for end in ("", "_low", "_high")]
    return as_columns(frame.loc[frame["rank"] > 1, [*COURSE, "task", "module", "line", "rank", "runs", *values]])


def _with_sigma(spectra: DataFrame) -> dict[str, Any]:
    starts = spectra[spectra["k"] == 1].drop(columns=["k", "sigma", "share", "m_eff", "components"])
    return as_columns(starts) | {"sigma": _split(spectra)}


def _split(spectra: DataFrame) -> Any:
    """Return the singular values of each spectrum of a frame ordered by spectrum and k, in a short form if possible."""
    ends = np.flatnonzero(spectra["k"].to_numpy() == 1)[1:]
    parts = np.split(spectra["sigma"].to_numpy(), ends)
    if packed(spectra["sigma"]) is None:
        return [rounded(part) for part in parts]
    return {"rows": [packed(part) for part in parts]}


def _most_chosen(analysis: Analysis, layers: int) -> int:
    """Return for how many choices of task and module each matrix is kept; single tasks and modules come first."""
    matrices = len(analysis.layers) + 3 * len(analysis.comparisons)
    return 2 * _MOST // (matrices * layers**2)


def _divergence(one: LayerDivergence, analysis: Analysis) -> dict[str, Any]:
    shown = one.scale == analysis.scale
    every = chosen_divergences(analysis.compared, one, analysis.floor, analysis.average) if shown else ()
    chosen = islice(every, _most_chosen(analysis, len(one.layers)))
    return {
        "model": one.model, "method": one.method, "scale": one.scale, "stack": one.stack, "modules": one.modules,
        "length": one.length, "layers": one.layers.tolist(), "kl": square(one.kl),
        "chosen": [{"task": part.task, "module": part.module, "kl": square(part.kl)} for part in chosen],
    }  # fmt: skip


def _comparison(one: Comparison, analysis: Analysis) -> dict[str, Any]:
    shown = one.scale == analysis.scale
    every = chosen_differences(analysis.compared, one, analysis.floor) if shown else ()
    chosen = islice(every, _most_chosen(analysis, len(one.layers)))
    return {
        "model": one.model, "method": one.method, "baseline": one.baseline, "scale": one.scale, "stack": one.stack,
        "modules": one.modules, "rule": one.rule, "layers": one.layers.tolist(), "pairs": len(one.pairs),
        "kl": rounded(one.kl), "kl_baseline": square(one.kl_baseline), "difference": square(one.difference),
        "chosen": [
            {"task": part.task, "module": part.module, "kl": rounded(part.kl), "kl_baseline": square(part.kl_baseline),
             "difference": square(part.kl - part.kl_baseline)}
            for part in chosen
        ],
        **{name: _matrix(one, name) for name in ("low", "high", "p_corrected")},
    }  # fmt: skip


def _matrix(one: Comparison, column: str) -> Any:
    """Return a column of the cells as (L, L), with no value on the diagonal."""
    count = len(one.layers)
    values = np.full((count, count), np.nan)
    values[~np.eye(count, dtype=bool)] = one.cells[column]  # the cells are in this order
    return square(values)
