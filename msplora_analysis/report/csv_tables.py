"""The tables of an analysis that are written as CSV files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.choice_means import layer_spectra_means, spectra_means
from msplora_analysis.choices import CHOICES, by_choice
from msplora_analysis.comparison.chosen_layers import ChosenDivergence, chosen_differences, chosen_divergences
from msplora_analysis.comparison.controls import controlled
from msplora_analysis.courses import courses
from msplora_analysis.interference_courses import interference_by_epoch
from msplora_analysis.report.summary import claims_frame
from msplora_analysis.run_means import course_means, score_means

if TYPE_CHECKING:
    from pandas import DataFrame

    from msplora_analysis.analysis import Analysis
    from msplora_analysis.comparison.difference import Comparison
    from msplora_analysis.comparison.layers import LayerDivergence


def csv_tables(analysis: Analysis) -> Iterator[tuple[str, DataFrame]]:
    """Yield the name and content of each table that `write_analysis` lists."""
    import pandas as pd

    yield "spectra", analysis.spectra
    yield "trajectory", analysis.trajectory
    spectra, trajectory = spectra_means(courses(analysis.table, analysis.runs), analysis.average)
    yield "spectra-means", spectra
    yield "trajectory-means", trajectory
    yield "layer-spectra-means", layer_spectra_means(analysis.compared)
    if len(analysis.trajectory) > len(analysis.final):
        yield "courses", analysis.courses
        yield "course-means", course_means(analysis.courses)
    yield "measures", analysis.final
    yield "measures-by-run", analysis.by_run
    yield "measure-means", analysis.measure_means
    kinds = ["model", "method", "scale", "stack", "modules"]
    if analysis.claims:
        yield "claims", claims_frame(analysis.claims)
    for name, table in (
        ("findings", analysis.findings), ("spread", analysis.spread),
        ("nulls", analysis.nulls), ("nulls-by-run", analysis.run_nulls),
    ):  # fmt: skip
        if len(table):
            yield name, table
    if len(analysis.scores):
        yield "scores", analysis.scores
        yield "score-means", score_means(analysis.scores)
    if len(analysis.interference):
        yield "interference", by_choice(interference_by_epoch, analysis.interference, [], choices=["task"])
        yield "interference-by-run", analysis.interference
    if analysis.layers:
        tables = [_pairs_of_layers(one, [*kinds, "runs", "length"], **_with_control(one, analysis.layers))
                  for one in analysis.layers]  # fmt: skip
        yield "kl", pd.concat(tables, ignore_index=True)
        if shown := [one for one in analysis.layers if one.scale == analysis.scale]:
            tables = [_chosen_kl(one, [*kinds, "length"], analysis) for one in shown]
            yield "kl-means", pd.concat(tables, ignore_index=True)
    if analysis.comparisons:
        kinds.insert(2, "baseline")
        tables = [
            _pairs_of_layers(
                pair, [*kinds, "rule"], kl=pair.kl, kl_baseline=pair.kl_baseline, difference=pair.difference
            )
            for pair in analysis.comparisons
        ]
        yield "kl-difference", pd.concat(tables, ignore_index=True)
        if compared := [one for one in analysis.comparisons if one.scale == analysis.scale]:
            tables = [_chosen_differences(one, [*kinds, "rule"], analysis) for one in compared]
            yield "kl-difference-means", pd.concat(tables, ignore_index=True)
        tables = [_described(pair.pairs.copy(), pair, kinds) for pair in analysis.comparisons]
        yield "pairs", pd.concat(tables, ignore_index=True)
        tables = [_described(pair.cells.copy(), pair, kinds) for pair in analysis.comparisons]
        yield "cells", pd.concat(tables, ignore_index=True)


def _pairs_of_layers(source: Any, columns: list[str], **matrices: NDArray[np.float64]) -> DataFrame:
    """Return a row for each ordered pair of layers of each (L, L) matrix; several are (n, L, L)."""
    import pandas as pd

    count, numbers = len(source.layers), next(iter(matrices.values())).size
    pairs = {"layer_from": np.resize(np.repeat(source.layers, count), numbers),
             "layer_to": np.resize(source.layers, numbers)}  # fmt: skip
    return _described(
        pd.DataFrame(pairs | {name: matrix.ravel() for name, matrix in matrices.items()}), source, columns
    )


def _chosen_kl(one: LayerDivergence, columns: list[str], analysis: Analysis) -> DataFrame:
    parts = list(chosen_divergences(analysis.compared, one, analysis.floor, analysis.average))
    return _after_choice(parts, _pairs_of_layers(one, columns, kl=np.array([part.kl for part in parts])))


def _chosen_differences(one: Comparison, columns: list[str], analysis: Analysis) -> DataFrame:
    parts = list(chosen_differences(analysis.compared, one, analysis.floor))
    kl, kl_baseline = (np.array([getattr(part, name) for part in parts]) for name in ("kl", "kl_baseline"))
    with np.errstate(invalid="ignore"):
        matrices = {"kl": kl, "kl_baseline": kl_baseline, "difference": kl - kl_baseline}
    return _after_choice(parts, _pairs_of_layers(one, columns, **matrices))


def _after_choice(parts: Sequence[ChosenDivergence], rows: DataFrame) -> DataFrame:
    """Add the task, module and number of runs of each matrix, whose rows follow one another."""
    for place, name in enumerate(("task", "module", "runs")):
        values = np.repeat([getattr(part, name) for part in parts], len(rows) // len(parts))
        rows.insert(place if name in CHOICES else list(rows).index("layer_from"), name, values)
    return rows


def _with_control(one: LayerDivergence, others: Sequence[LayerDivergence]) -> dict[str, NDArray[np.float64]]:
    """Return the KL, and that of the same method trained on random labels if available."""
    place = attrgetter("model", "scale", "stack", "modules", "length")
    for other in others:
        if controlled(other.method) == one.method and place(other) == place(one) and len(other.kl) == len(one.kl):
            return {"kl": one.kl, "kl_random_labels": other.kl}
    return {"kl": one.kl}


def _described(table: DataFrame, source: Any, columns: list[str]) -> DataFrame:
    """Add columns that describe the rows, before the other columns."""
    for place, column in enumerate(columns):
        value = getattr(source, column)
        table.insert(place, column, "+".join(value) if column == "modules" else value)
    return table
