"""The results of `overlap` and `plan` read back for the page of an analysis. They are files: nothing is trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.planning import plan_summary
from msplora_analysis.report import overlap_summary
from msplora_analysis.run_means import bound_of_mean
from msplora_core.errors import FileError, one_line
from msplora_core.storage.folder import first_present
from msplora_core.storage.json_file import read_json_object

if TYPE_CHECKING:
    from pandas import DataFrame

OVERLAP, PLAN, INTRUDERS = "overlap/summary.json", "plan/plan.json", "overlap/intruders.json"
_FORMATS = {
    OVERLAP: (overlap_summary.FORMAT, overlap_summary.VERSION),
    PLAN: (plan_summary.FORMAT, plan_summary.VERSION),
    INTRUDERS: ("msplora-intruders", 1),
}
_MOST_TABLE = 20_000
"""Limit on the rows that are read from a table."""


@dataclass(frozen=True)
class Kept:
    """A file of results in a known format.

    Args:
        path: the file.
        content: the object in it.
    """

    path: Path
    content: dict[str, Any]

    @property
    def written(self) -> str:
        """When the file was written."""
        return datetime.fromtimestamp(self.path.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M UTC")

    def sentences(self, name: str) -> list[str]:
        """Return the texts of a list."""
        values = self.content.get(name)
        return [one_line(one) for one in values if isinstance(one, str)] if isinstance(values, list) else []

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the objects of a list.

        Raises:
            FileError: if it is not a list of objects.
        """
        values = self.content.get(name)
        if not isinstance(values, list) or not all(isinstance(one, dict) for one in values):
            raise FileError(self.path, key=name, expected="a list of objects", found=type(values).__name__)
        return values

    def table(self, name: str, numbers: Sequence[str], words: Sequence[str] = ()) -> DataFrame:
        """Return the objects of a list as a table.

        Args:
            name: the name of the list.
            numbers: required columns of numbers.
            words: required columns of text. Any other column is numeric if it holds only numbers.

        Raises:
            FileError: if it is not a list of objects, or a required column is missing.
        """
        import pandas as pd

        found = pd.DataFrame(self.rows(name)[:_MOST_TABLE])
        for column in found:
            kinds = {type(value) for value in found[column] if value is not None and value == value}
            if column in numbers or (kinds and kinds <= {int, float} and column not in words):
                values = pd.to_numeric(found[column], errors="coerce").astype("float64")
                found[column] = values.astype("Int64") if (values.dropna() % 1 == 0).all() else values
            else:
                found[column] = found[column].map(lambda value: "" if value is None else one_line(str(value)))
        missing = [column for column in (*numbers, *words) if column not in found] if len(found) else []
        if missing:
            raise FileError(self.path, key=name, expected=f"the column {missing[0]}", found=", ".join(map(str, found)))
        return found


def read_kept(name: str, *folders: Path) -> Kept | None:
    """Return a file of results from the first folder that has it; None if none has.

    Raises:
        FileError: if it cannot be read, or is of another format or version.
    """
    for folder in folders:
        path = first_present(folder, name)
        if path is not None:
            content = read_json_object(path)
            known = dict(zip(("format", "version"), _FORMATS[name], strict=True))
            if (found := {key: content.get(key) for key in known}) != known:
                raise FileError(path, expected=f"{known}", found=f"{found}", hint="run the command again")
            return Kept(path, content)
    return None


def mean_cosines(kept: Kept, sharing: DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the cosines between layers by model, method, stack, scale and module type, for all tasks and for each task.

    Args:
        kept: results of `overlap`.
        sharing: their table `sharing`.

    Yields:
        The names, `layers`, and `parts`: for all tasks (an empty name) and for each task, the number of runs, the mean,
        lowest and highest cosine, (L, L), NaN on the diagonal, and the bound of the mean (see `Overlap.sharing`).

    Raises:
        FileError: if a matrix does not have one row and one column for each layer.
    """
    sharing = sharing.astype({"cosine_bound": "float64"})  # without shapes there is none
    members = [(row, _matrix(kept.path, one)) for row, one in _with_facts(kept, "cosines", sharing)]
    for about, group in _alike([(row, layers, matrix) for row, (layers, matrix) in members]):
        layers = group[0][1]
        parts = _parts(group)
        for part in parts:
            bounds = [row["cosine_bound"] for row, _, _ in group if part["task"] in ("", row["task"])]
            part["bound"] = bound_of_mean(float(np.mean(bounds)), len(bounds))
        yield about | {"layers": list(layers), "parts": parts}


def mean_grids(kept: Kept, sharing: DataFrame) -> Iterator[dict[str, Any]]:
    """Yield φ(i, j) of neighbouring layers by model, method, stack, scale, module type and side, likewise.

    Args:
        kept: of `overlap`.
        sharing: its table.

    Yields:
        The names, `side`, and `parts` as of `mean_cosines`, (I, I): the directions that all runs have.

    Raises:
        FileError: if a grid is no square matrix.
    """
    if "grids" not in kept.content:
        return  # of an older version
    members = [(row, str(one.get("side")), _grid(kept.path, one)) for row, one in _with_facts(kept, "grids", sharing)]
    for about, group in _alike(members):
        size = min(len(grid) for _, _, grid in group)
        cropped = [(row, side, grid[:size, :size]) for row, side, grid in group]
        yield about | {"side": group[0][1], "parts": _parts(cropped)}


def known_course(kept: Kept, sharing: DataFrame) -> DataFrame:
    """Return what layers share over training, with the names of each run.

    Args:
        kept: of `overlap`.
        sharing: its table.

    Returns:
        Columns run, model, method, task, stack, scale, module, epoch, step, excess and deviation_own; empty where no
        training was recorded.

    Raises:
        FileError: if the table lacks a column.
    """
    numbers, words = ["epoch", "step", "excess", "deviation_own"], ["run", "scale", "module"]
    found = kept.table("course", numbers, words) if "course" in kept.content else sharing.iloc[:0]
    if not len(found) or not len(sharing):
        return found.iloc[:0]
    about = sharing[["run", "model", "method", "task"]].drop_duplicates("run")
    known = found[found["excess"].notna()].merge(about, on="run")
    return known.merge(sharing[["run", "module", "stack"]].drop_duplicates(["run", "module"]), on=["run", "module"])


_Member = tuple[dict[str, Any], Any, NDArray[np.float64]]
_NAMES = ("model", "method", "stack", "scale", "module")


def _with_facts(kept: Kept, name: str, sharing: DataFrame) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The objects of a list, each after the row of the table that is about the same component type."""
    rows: Any = sharing.to_dict("records")
    facts = {(row["run"], row["scale"], row["module"]): row for row in rows}
    for one in kept.rows(name):
        if row := facts.get((one.get("run"), one.get("scale"), one.get("module"))):
            yield row, one


def _alike(members: list[_Member]) -> Iterator[tuple[dict[str, Any], list[_Member]]]:
    """Matrices of the same kind on the same layers or side, after the names that they have in common."""

    def kind(one: _Member) -> tuple[list[str], Any]:
        return [one[0][name] for name in _NAMES], one[1]

    for (about, _), group in groupby(sorted(members, key=kind), key=kind):
        yield dict(zip(_NAMES, about, strict=True)), list(group)


def _parts(group: list[_Member]) -> list[dict[str, Any]]:
    """The mean, lowest and highest over all runs, and over those of each task where there are several."""
    tasks = list(dict.fromkeys(row["task"] for row, _, _ in group if row["task"]))
    parts = []
    for task in ["", *(tasks if len(tasks) > 1 else ())]:
        chosen = np.array([matrix for row, _, matrix in group if task in ("", row["task"])])
        parts.append({"task": task, "runs": len(chosen), "mean": chosen.mean(axis=0), "low": chosen.min(axis=0),
                      "high": chosen.max(axis=0)})  # fmt: skip
    return parts


def _grid(path: Path, one: dict[str, Any]) -> NDArray[np.float64]:
    try:
        grid = np.array(one["phi"], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        grid = np.empty(0)
    if grid.ndim != 2 or not len(grid) or grid.shape[0] != grid.shape[1]:
        raise FileError(path, key="grids", expected="a square matrix phi", found=f"{one}"[:80])
    return grid


def _matrix(path: Path, one: dict[str, Any]) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Return the layers and the cosines between them, with NaN on the diagonal."""
    try:
        layers = tuple(int(layer) for layer in one["layers"])
        matrix = np.array(one["cosines"], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        layers, matrix = (), np.empty(0)
    if not layers or matrix.shape != (len(layers), len(layers)):
        raise FileError(path, key="cosines", expected="layers, and cosines between them", found=f"{one}"[:80])
    np.fill_diagonal(matrix, np.nan)
    return layers, matrix
