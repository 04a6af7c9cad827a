"""Load cosines between scales and between layers, recorded in trainings with `interference=True`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

from msplora_analysis.loading.sources import run_directories
from msplora_analysis.loading.table import SkippedWarning
from msplora_core.components import ComponentKey
from msplora_core.errors import FileError

if TYPE_CHECKING:
    from pandas import DataFrame

    from msplora_core.runs import RunDirectory, RunRecord, Snapshot

_COLUMNS = ["run", "method", "model", "task", "seed", "epoch", "step", "between", "pair", "module", "unit", "first",
            "second", "cosine", "spread"]  # fmt: skip


def load_interference(path: str | os.PathLike[str]) -> DataFrame:
    """Read the cosines that trainings recorded with `interference=True`.

    Damaged snapshots are left out with a `SkippedWarning`; runs without such records have no rows.

    Args:
        path: a run directory, or a folder of such.

    Returns:
        One row a cosine and epoch, with columns

        | column | type | |
        |---|---|---|
        | run, method, model, task, seed, epoch, step | | as in `load_spectra` |
        | between | str | `scales`: of the steps that two scales of a layer make in weight space; `layers`: of the \
gradients that two layers send to a component that they share |
        | pair | str | `global-mid`, `global-layer`, `mid-layer`; or the component's scale, `global` or `mid` |
        | module | str | module type |
        | unit | int64 | the layer, or the component's unit |
        | first, second | Int64 | the two layers; missing between scales |
        | cosine, spread | float64 | mean and standard deviation over the recorded steps of the epoch |

    Example:
        >>> import tempfile, numpy as np
        >>> from msplora_core.runs import RunDirectory, RunRecord, Snapshot
        >>> run = RunDirectory(tempfile.mkdtemp())
        >>> run.write_record(RunRecord(method="msplora-8-4-2", model="minilm", task="mrpc", seed=0))
        >>> cosines = {"global-mid/query/3": np.array([-0.25, 0.1])}
        >>> spectra = {"global/query/0": np.ones(2)}
        >>> run.write_snapshot(Snapshot(1, 20, spectra, between_scales=cosines))
        >>> load_interference(run.path)[["epoch", "between", "pair", "module", "unit", "cosine"]]
           epoch between        pair module  unit  cosine
        0    1.0  scales  global-mid  query     3   -0.25
    """
    import pandas as pd

    rows: list[tuple[Any, ...]] = []
    errors: list[FileError] = []
    for name, run in run_directories(path):
        try:
            record = run.read_record()
            if _records_any(run):
                for snapshot in run.snapshots(errors):
                    who = (name, record.method, record.model, record.task, record.seed, snapshot.epoch, snapshot.step)
                    rows += [(*who, *row) for row in _rows(snapshot, record)]
        except FileError as error:
            errors.append(error)
    for left_out in errors:
        warnings.warn(f"left out: {left_out}", SkippedWarning, stacklevel=2)
    table = pd.DataFrame(rows, columns=_COLUMNS)
    whole = dict.fromkeys(["seed", "step", "first", "second"], "Int64")
    return table.astype({"epoch": "float64", "unit": "int64", "cosine": "float64", "spread": "float64", **whole})


def _records_any(run: RunDirectory) -> bool:
    """Whether a run's last snapshot holds cosines, so that the others need not be read if it does not."""
    from msplora_core.runs import read_snapshot

    paths = run.snapshot_paths()
    last = read_snapshot(paths[-1]) if paths else None
    return last is not None and bool(last.between_scales or last.between_layers)


def _rows(snapshot: Snapshot, record: RunRecord) -> Iterator[tuple[Any, ...]]:
    for key, (cosine, spread) in snapshot.between_scales.items():
        pair, module, unit = key.split("/")
        yield "scales", pair, module, int(unit), None, None, cosine, spread
    layers = {component["key"]: component.get("layers") for component in record.components}
    for key, (cosines, spreads) in snapshot.between_layers.items():
        component = ComponentKey.parse(key)
        members = layers.get(key)
        known = isinstance(members, list) and len(members) == len(cosines) and all(type(one) is int for one in members)
        numbers = members if known and members else range(len(cosines))
        for (i, one), (j, other) in combinations(enumerate(numbers), 2):
            place = (component.module, component.unit, one, other)
            yield "layers", component.scale, *place, cosines[i, j], spreads[i, j]
