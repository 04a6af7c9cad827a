"""What `svd` leaves on disk: figures, tables and a summary, each file whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.interference_courses import interference_by_epoch
from msplora_analysis.loading.parallel import in_processes
from msplora_analysis.report.latex import latex_tables
from msplora_analysis.report.summary import claims_frame, to_json
from msplora_core.errors import FileError
from msplora_core.storage.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from msplora_analysis.analysis import Analysis


DPI = 300


def write_analysis(
    analysis: Analysis,
    out: str | os.PathLike[str] | None = None,
    *,
    figures: Iterable[tuple[str, Figure]] = (),
    latex: bool = False,
    n_jobs: int = 1,
) -> list[Path]:
    """Write an analysis to a folder, replacing files of the same names.

    | file | holds |
    |---|---|
    | fig3.png, .pdf | singular values by scale over epochs, a row of panels a method |
    | spectra.png, .pdf | the same by layer, for adapters whose training was not recorded |
    | measures.png, .pdf | M_eff-1 and entropy rank of each run, their means, and what a null model gives |
    | m-eff.png, .pdf | the same over training |
    | kl-SCALE.png, .pdf | KL between layers, a panel a method |
    | fig4-METHOD-vs-BASELINE-SCALE.png, .pdf | KL between layers, minus the baseline's; below it each pair of runs |
    | interference-METHOD.png, .pdf | cosines between scales and between layers over training, where recorded |
    | fig3-by-task-METHOD.png, ... | with `by`: fig3 or spectra, and kl, of each method, a panel a task or a module |
    | spectra.csv | averaged spectra over training, with shares, M_eff-k and the number of runs: the data of Fig. 3 |
    | trajectory.csv | measures over training, with the number of runs |
    | measures.csv | measures by model, method, stack and scale, at the epoch compared |
    | measures-by-run.csv | the same for each run |
    | kl.csv | KL of every pair of layers, by method and scale |
    | kl-difference.csv | the same beside the baseline's, and the difference: the data of Fig. 4 |
    | pairs.csv | KL of adjacent layers for each pair of runs |
    | cells.csv | each cell of the difference with its interval, p, and whether it is decided after correction |
    | spread.csv | KL between the same layer's spectra of two seeds |
    | nulls.csv | what a null model gives for each number of measures.csv |
    | interference.csv | cosines between scales and between layers by epoch, where recorded |
    | interference-by-run.csv | the same of each run |
    | scores.csv | evaluation metrics by run and epoch |
    | claims.csv | each verdict on each claim |
    | measures.tex, comparisons.tex, claims.tex, scores.tex | tables for a paper (booktabs), where asked for |
    | summary.json | `summarise(analysis)`: all of it, the claims, what to know; written last |

    Those of Fig. 4 are there where there is a baseline: of equal rank, if one is. measures needs several runs of a
    method, or a null. With several models the model stands behind the kind of picture; with several stacks of layers
    pictures are of one method, and its name follows, as that of a single method does in spectra and kl.

    Args:
        analysis: what `analyse` found.
        out: the folder; `analysis` in the run or study, or beside a single file, where not given.
        figures: names and pictures to save: `draw_figures(analysis)`.
        latex: whether to write the tables for a paper, too.
        n_jobs: how many processes turn pictures into files (see `load_spectra`).

    Returns:
        The files written.

    Raises:
        FileError: if the folder cannot be written to.
    """
    folder = Path(out) if out is not None else home(analysis.path)
    return write_files(folder, _files(analysis, figures, n_jobs, latex=latex))


def write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> list[Path]:
    """Write files to a folder, each whole or not at all.

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


def home(path: Path) -> Path:
    """Return where an analysis belongs: in the folder it is of; here for what is no folder on this disk, a hub id."""
    if path.is_file():
        path = path.parent
    return path / "analysis" if path.is_dir() else Path("analysis")


def _files(
    analysis: Analysis, figures: Iterable[tuple[str, Figure]], n_jobs: int, *, latex: bool
) -> Iterator[tuple[str, bytes]]:
    yield from pictures(figures, n_jobs)
    for name, table in _tables(analysis):
        yield f"{name}.csv", table.to_csv(index=False).encode()
    if latex:
        for name, text in latex_tables(analysis):
            yield f"{name}.tex", text.encode()
    yield "summary.json", to_json(analysis).encode()


def _tables(analysis: Analysis) -> Iterator[tuple[str, DataFrame]]:
    import pandas as pd

    yield "spectra", analysis.spectra
    yield "trajectory", analysis.trajectory
    yield "measures", analysis.final
    yield "measures-by-run", analysis.by_run
    kinds = ["model", "method", "scale", "stack", "modules"]
    if analysis.claims:
        yield "claims", claims_frame(analysis.claims)
    for name in ("spread", "nulls"):
        if len(table := getattr(analysis, name)):
            yield name, table
    if len(analysis.scores):
        yield "scores", analysis.scores
    if len(analysis.interference):
        yield "interference", interference_by_epoch(analysis.interference)
        yield "interference-by-run", analysis.interference
    if analysis.layers:
        tables = [_pairs_of_layers(one, [*kinds, "runs", "length"], kl=one.kl) for one in analysis.layers]
        yield "kl", pd.concat(tables, ignore_index=True)
    if analysis.comparisons:
        kinds.insert(2, "baseline")
        tables = [
            _pairs_of_layers(
                pair, [*kinds, "rule"], kl=pair.kl, kl_baseline=pair.kl_baseline, difference=pair.difference
            )
            for pair in analysis.comparisons
        ]
        yield "kl-difference", pd.concat(tables, ignore_index=True)
        tables = [_described(pair.pairs.copy(), pair, kinds) for pair in analysis.comparisons]
        yield "pairs", pd.concat(tables, ignore_index=True)
        tables = [_described(pair.cells.copy(), pair, kinds) for pair in analysis.comparisons]
        yield "cells", pd.concat(tables, ignore_index=True)


def _pairs_of_layers(source: Any, columns: list[str], **matrices: NDArray[np.float64]) -> DataFrame:
    """A row for each ordered pair of layers."""
    import pandas as pd

    count = len(source.layers)
    pairs = {"layer_from": np.repeat(source.layers, count), "layer_to": np.tile(source.layers, count)}
    return _described(
        pd.DataFrame(pairs | {name: matrix.ravel() for name, matrix in matrices.items()}), source, columns
    )


def _described(table: DataFrame, source: Any, columns: list[str]) -> DataFrame:
    """What the rows are about, before them."""
    for place, column in enumerate(columns):
        value = getattr(source, column)
        table.insert(place, column, "+".join(value) if column == "modules" else value)
    return table


def pictures(figures: Iterable[tuple[str, Figure]], n_jobs: int) -> Iterator[tuple[str, bytes]]:
    """Yield each picture as PNG and as PDF, with its file's name."""
    yield from in_processes(_picture, [(*named, kind) for named in figures for kind in ("png", "pdf")], n_jobs)


def _picture(named: tuple[str, Figure, str]) -> tuple[str, bytes]:
    name, figure, kind = named
    return f"{name}.{kind}", saved(figure, kind)


def saved(figure: Figure, kind: str) -> bytes:
    """Return a picture as bytes, the same for the same data: no date in it. Text in a PDF stays text, in TrueType.

    The figure stays as it was.
    """
    import matplotlib

    buffer = BytesIO()
    with _one_font(figure), matplotlib.rc_context({"pdf.fonttype": 42, "axes.unicode_minus": False}):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata={"CreationDate": None} if kind == "pdf" else None)
    return buffer.getvalue()


@contextmanager
def _one_font(figure: Figure) -> Iterator[None]:
    """Keep text to Latin-1: a hyphen for a minus, and letters for their ligatures (set from matplotlib 3.11 on).

    Embedding a font is the slowest part of a PDF, and other characters take a second copy of it.
    """
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if hasattr(text, "set_fontfeatures")]
    before = [text.get_fontfeatures() for text in texts]
    for text in texts:
        text.set_fontfeatures(["-liga"])
    try:
        yield
    finally:
        for text, features in zip(texts, before, strict=True):
            text.set_fontfeatures(features)
