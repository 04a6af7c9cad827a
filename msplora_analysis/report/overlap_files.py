"""The files that `overlap` writes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msplora_analysis.choices import by_choice
from msplora_analysis.courses import courses
from msplora_analysis.directions.findings import by_module
from msplora_analysis.directions.overlap import Overlap
from msplora_analysis.report.homes import home
from msplora_analysis.report.overlap_summary import MOST_DIRECTIONS, overlap_json
from msplora_analysis.report.pictures import pictures
from msplora_analysis.report.writing import write_files
from msplora_analysis.run_means import cosine_means, phi_means, sharing_course_means

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def write_overlap(
    found: Overlap,
    out: str | os.PathLike[str] | None = None,
    *,
    figures: Iterable[tuple[str, Figure]] = (),
    n_jobs: int = 1,
) -> list[Path]:
    """Write an overlap to a folder, replacing files with the same names.

    | file | holds |
    |---|---|
    | cosines-METHOD-SCALE-MODULE.png, .pdf, .svg | cosines between layers, the mean over the runs |
    | phi-METHOD-SCALE-MODULE.png, .pdf, .svg | φ(i, j) of neighbouring layers, the mean over neighbours and runs |
    | shares.png, .pdf, .svg | how much the layers share, with the values for layers that share nothing |
    | course.png, .pdf, .svg | the same over training |
    | adapters.png, .pdf, .svg | cosines between adapters, if there are more than two |
    | phi-FIRST-with-SECOND.png, .pdf, .svg | φ(i, j) of two adapters, the mean over modules |
    | sharing.csv | how much the layers of each run share at its end (`Overlap.sharing`) |
    | course.csv | the same over training |
    | subspaces.csv | how the layers' subspaces overlap |
    | sharing-means.csv, course-means.csv, subspaces-means.csv, cosine-means.csv, phi-means.csv | means over runs |
    | cosines.csv | the cosine of every pair of layers |
    | methods.csv | mean excess of each method, with intervals over runs and over tasks |
    | adapters.csv | each module of each pair of adapters, if there are several adapters (`AdapterPair.modules`) |
    | angles.csv | the principal angles of each module of each pair, inputs and outputs (`AdapterPair.angles`) |
    | summary.json | `summarise_overlap(found)`; written last |

    Args:
        found: from `overlap`.
        out: the folder; by default `analysis/overlap` in the run or study, or beside a single file.
        figures: names and pictures to save: `draw_overlap(found)`.
        n_jobs: how many processes save pictures, to which these are pickled.

    Returns:
        The files written.

    Raises:
        FileError: if the folder cannot be written to.
    """
    folder = Path(out) if out is not None else home(found.path) / "overlap"
    return write_files(folder, _files(found, figures, n_jobs))


def _files(found: Overlap, figures: Iterable[tuple[str, Figure]], n_jobs: int) -> Iterator[tuple[str, bytes]]:
    shown = []
    for name, data in pictures(figures, n_jobs, ("png", "pdf", "svg")):
        shown += [name] if name.endswith(".svg") else []
        yield name, data
    tables = {"sharing": found.sharing, "course": found.course, "subspaces": found.subspaces,
              "cosines": _cosines(found), "methods": found.methods,
              "adapters": _of_pairs(found, "modules"), "angles": _of_pairs(found, "angles")}  # fmt: skip
    if len(found.runs) > 1:
        for name in ("sharing", "subspaces"):
            tables[f"{name}-means"] = by_choice(by_module, tables[name], [], choices=["task"])
        if len(found.course):
            tables["course-means"] = sharing_course_means(courses(found.course))
        tables["cosine-means"] = cosine_means(tables["cosines"], found.sharing)
        if len(grids := _grids(found)):
            tables["phi-means"] = phi_means(grids, found.sharing)
    for name, table in tables.items():
        if len(table):
            yield f"{name}.csv", table.to_csv(index=False).encode()
    yield "summary.json", overlap_json(found, shown).encode()


def _of_pairs(found: Overlap, name: str) -> DataFrame:
    """Return the rows of a table of each pair of adapters."""
    import pandas as pd

    pairs = found.adapters.pairs if found.adapters else ()
    parts = [getattr(pair, name).assign(adapter=pair.first, other=pair.second) for pair in pairs]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _grids(found: Overlap) -> DataFrame:
    """Return φ(i, j) of neighbouring layers of each run, module type, scale and side, in rows."""
    import pandas as pd

    parts = []
    for run in found.runs:
        for one in run.final:
            for side in one.sides:
                phi = side.grid[:MOST_DIRECTIONS, :MOST_DIRECTIONS]
                i, j = (places.ravel() + 1 for places in np.indices(phi.shape))
                about = {"run": run.name, "scale": one.cosines.scale, "module": one.cosines.module, "side": side.side}
                parts.append(pd.DataFrame({**about, "i": i, "j": j, "phi": phi.ravel()}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _cosines(found: Overlap) -> DataFrame:
    """Return a row for each pair of layers of each run, module type and scale."""
    import pandas as pd

    parts = []
    for run in found.runs:
        for one in run.final:
            first, second = np.triu_indices(len(one.cosines.layers), 1)
            parts.append(
                pd.DataFrame(
                    {
                        "run": run.name,
                        "scale": one.cosines.scale,
                        "module": one.cosines.module,
                        "layer": one.cosines.layers[first],
                        "other_layer": one.cosines.layers[second],
                        "cosine": one.cosines.cosines[first, second],
                    }
                )
            )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
