"""The files that `overlap --base` writes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msplora_analysis.directions.intrusion import NULL_DRAWS, Intrusion
from msplora_analysis.report.homes import home
from msplora_analysis.report.pictures import pictures
from msplora_analysis.report.summary import records
from msplora_analysis.report.writing import write_files
from msplora_core.storage.strict_json import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def summarise_intruders(found: Intrusion) -> dict[str, Any]:
    """Return the result of `find_intruders` as plain values for strict JSON: null for values that are not finite."""
    value: dict[str, Any] = plain(
        {
            "format": "msplora-intruders",
            "version": 1,
            "path": str(found.path),
            "base": str(found.base),
            "k": found.k,
            "epsilon": found.epsilon,
            "null_draws": NULL_DRAWS,
            "seed": found.seed,
            "modules": records(found.modules),
            "directions": records(found.directions),
            "notes": found.notes,
        }
    )
    return value


def write_intruders(found: Intrusion, out: str | os.PathLike[str] | None = None, *, figures: bool = True) -> list[Path]:
    """Write `intruders.csv` (a row for each direction), `intruder-modules.csv`, `intruders.json` and pictures.

    Args:
        found: from `find_intruders`.
        out: the folder; by default `analysis/overlap` in the adapter or run.
        figures: whether to draw pictures.

    Returns:
        The files written.

    Raises:
        FileError: if the folder cannot be written to.
    """
    folder = Path(out) if out is not None else home(found.path) / "overlap"
    return write_files(folder, _files(found, figures))


def _files(found: Intrusion, figures: bool) -> Iterator[tuple[str, bytes]]:
    if figures:
        yield from pictures(_drawn(found), 1)
    yield "intruders.csv", found.directions.to_csv(index=False).encode()
    yield "intruder-modules.csv", found.modules.to_csv(index=False).encode()
    yield "intruders.json", (json.dumps(summarise_intruders(found), indent=2, allow_nan=False) + "\n").encode()


def _drawn(found: Intrusion) -> Iterator[tuple[str, Figure]]:
    from msplora_analysis.plots.intruder_cosines import plot_intruders
    from msplora_analysis.plots.paper import figure_of, offscreen
    from msplora_analysis.plots.words import task_title
    from msplora_analysis.report.gallery import file_name

    several = found.directions["run"].nunique() > 1
    for run, rows in found.directions.groupby("run", sort=False):
        name = task_title(str(run) if several else found.path.name)
        with offscreen():
            title = f"{name}: the {found.k} leading directions of each weight"
            ax = plot_intruders(rows, epsilon=found.epsilon, title=title)
        yield file_name("intruders", str(run) if several else ""), figure_of(ax)
