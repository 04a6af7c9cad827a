"""Averages for each choice of task and module type: what the pictures of the page are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from msplora_analysis.choices import CHOICES, by_choice
from msplora_analysis.courses import COURSE
from msplora_analysis.measures import Average, average_spectra, measure, measure_averages

if TYPE_CHECKING:
    from pandas import DataFrame, Series

MOST = 300_000
"""Limit on the rows of a table. Above it, as for dozens of tasks, choices of both task and module are left out."""


def spectra_means(timed: DataFrame, average: Average = "spectra") -> tuple[DataFrame, DataFrame]:
    """Return averaged spectra over training and their measures, for each choice.

    Totals are left out, except of runs that have nothing else: they are the longest spectra.

    Args:
        timed: a spectra table with the columns `clock` and `time` (see `courses`).
        average: the order of averaging of the measures (see `measure`).

    Returns:
        The columns of `average_spectra` without m_eff, and those of `measure`, each after task and module (empty for
        all).
    """
    rows = timed[without_total(timed, ["run"])]
    spectra = by_choice(average_spectra, rows, COURSE, most=MOST).drop(columns="m_eff")
    if average == "spectra":
        return spectra, measure_averages(spectra, [*CHOICES, *COURSE])
    return spectra, by_choice(partial(measure, average=average), rows, COURSE, most=MOST)


def layer_spectra_means(compared: DataFrame) -> DataFrame:
    """Return averaged spectra of each layer and each shared component, for each choice.

    Args:
        compared: a spectra table, with one epoch per run.

    Returns:
        The columns of `average_spectra` without m_eff, after task and module (empty for all).
    """
    by = ["model", "method", "stack", "scale", "unit"]
    return by_choice(average_spectra, compared, by, most=MOST).drop(columns="m_eff")


def without_total(table: DataFrame, by: Sequence[str]) -> Series[bool]:
    """Return which rows are no totals, or of a group that has totals alone."""
    others = table["scale"] != "total"
    return others | ~others.groupby([table[name] for name in by], observed=True).transform("any")
