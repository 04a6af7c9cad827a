"""The files that `svd` writes: figures, tables and a summary. Each file is written completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from msplora_analysis.report.csv_tables import csv_tables
from msplora_analysis.report.homes import home
from msplora_analysis.report.latex import latex_tables
from msplora_analysis.report.page import page, with_pictures
from msplora_analysis.report.pictures import pictures
from msplora_analysis.report.summary import to_json
from msplora_core.errors import FileError
from msplora_core.storage.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from msplora_analysis.analysis import Analysis


def write_analysis(
    analysis: Analysis,
    out: str | os.PathLike[str] | None = None,
    *,
    figures: Iterable[tuple[str, Figure]] = (),
    latex: bool = False,
    n_jobs: int = 1,
    report: bool = True,
    made: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write an analysis to a folder, replacing files with the same names.

    | file | holds |
    |---|---|
    | fig3.png, .pdf | singular values by scale over epochs, a row of panels for each method and stack |
    | spectra.png, .pdf | the same by layer, for adapters whose training was not recorded |
    | measures.png, .pdf | M_eff-1 and entropy rank of each run, their means, and the null of single runs |
    | m-eff.png, .pdf | the same over training |
    | kl-SCALE.png, .pdf | KL between layers, a panel for each method |
    | fig4-METHOD-vs-BASELINE-SCALE.png, .pdf | KL between layers, minus the baseline's; below it each pair of runs |
    | interference-METHOD.png, .pdf | cosines between scales and between layers over training, if recorded |
    | fig3-by-task-METHOD.png, ... | with `by`: fig3 or spectra, and kl, of each method, by task or module |
    | spectra.csv | averaged spectra over training, with shares, M_eff-k and the number of runs: the data of Fig. 3 |
    | trajectory.csv | measures over training, with the number of runs |
    | courses.csv | the same for each run, of all module types and of each, if there are several times of training |
    | course-means.csv | their means over runs with the lowest and the highest, of all tasks and of each |
    | spectra-means.csv, trajectory-means.csv | spectra and trajectory without totals, of all and of each choice |
    | layer-spectra-means.csv | averaged spectra of each layer and shared component at the epoch compared, likewise |
    | measures.csv | measures by model, method, stack and scale, at the epoch compared |
    | measures-by-run.csv | the same for each run |
    | measure-means.csv | their means over runs, of all tasks and of each, with intervals and the runs' nulls |
    | kl.csv | KL of every pair of layers, by method and scale |
    | kl-difference.csv | the same with the baseline's KL and the difference: the data of Fig. 4 |
    | kl-means.csv, kl-difference-means.csv | both for the compared scale, of all and of each choice |
    | pairs.csv | KL of adjacent layers for each pair of runs |
    | cells.csv | each cell of the difference with its interval, p, and whether it is decided after correction |
    | findings.csv | findings of the check-up in each run, worst first |
    | spread.csv | KL between the same layer's spectra of two seeds |
    | nulls.csv | the values of a null model for each number of measures.csv |
    | nulls-by-run.csv | the same for each number of measures-by-run.csv |
    | interference.csv | cosines between scales and between layers by epoch, of all tasks and of each, if recorded |
    | interference-by-run.csv | the same for each run |
    | scores.csv | evaluation metrics by run and epoch |
    | score-means.csv | their means over the seeds of each task, with the lowest and the highest |
    | claims.csv | each verdict on each claim |
    | measures.tex, comparisons.tex, claims.tex, scores.tex | tables for a paper (booktabs), with `latex` |
    | report.html | the analysis as one page, with the results of `overlap` and `plan` (see `write_report`) |
    | summary.json | `summarise(analysis)`; written last |

    A choice is a task, a module type, or both; their columns are empty for all. Above 300,000 rows, as for dozens of
    tasks, choices of both are left out of the averaged spectra. The page is drawn from these files.

    The files of Fig. 4 need a baseline; one of equal rank is preferred. measures needs several runs of a method, or a
    null. If there are several models, the model follows the kind of picture in file names. If there are several stacks
    of layers, spectra, measures and m-eff are of one method each, whose name follows; so it does in spectra and kl of a
    single method. Above six rows of panels, fig3 is of one stack each, whose name follows, and then of six rows each.

    Args:
        analysis: from `analyse`.
        out: the folder; by default `analysis` in the run or study, or beside a single file.
        figures: names and pictures to save: `draw_figures(analysis)`.
        latex: whether to write tables for a paper.
        n_jobs: how many processes save pictures (see `load_spectra`), to which these are pickled.
        report: whether to write report.html.
        made: how the page was made: for example the command and the date, by name.

    Returns:
        The files written.

    Raises:
        FileError: if the folder cannot be written to.
    """
    folder = Path(out) if out is not None else home(analysis.path)
    return write_files(
        folder, _files(analysis, folder, figures, n_jobs, latex=latex, made=(made or {}) if report else None)
    )


def write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> list[Path]:
    """Write files to a folder, each completely or not at all.

    Raises:
        FileError: if the folder cannot be written to.
    """
    written = []
    try:
        for name, data in files:
            write_atomically(folder / name, data)
            written.append(folder / name)
    except FileError as error:
        expected = "a folder that can be written to"
        raise FileError(folder, expected=expected, found=error.found, hint="choose another with --out") from error
    return written


def _files(
    analysis: Analysis,
    folder: Path,
    figures: Iterable[tuple[str, Figure]],
    n_jobs: int,
    *,
    latex: bool,
    made: Mapping[str, str] | None,
) -> Iterator[tuple[str, bytes]]:
    """Yield all files; with `made`, also report.html."""
    saved = pictures(figures, n_jobs, ("png", "pdf") if made is None else ("png", "pdf", "svg"))
    first = list(islice(saved, 1))  # starts the processes that save pictures while the other files are made
    tables = dict(csv_tables(analysis))
    html = "" if made is None else page(analysis, tables, made, folder)
    for name, table in tables.items():
        yield f"{name}.csv", table.to_csv(index=False).encode()
    if latex:
        for name, text in latex_tables(analysis):
            yield f"{name}.tex", text.encode()
    summary = to_json(analysis).encode()
    static = {}
    for name, data in chain(first, saved):
        if name.endswith(".svg"):
            static[name] = data
        else:
            yield name, data
    if made is not None:
        yield "report.html", with_pictures(html, static).encode()
    yield "summary.json", summary
