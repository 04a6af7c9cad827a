"""A run directory as a source of spectra."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.loading.adapter_source import saved_updates
from msplora_analysis.loading.source import Moment, Recorded, Saved, Source
from msplora_core.checkup.diagnosis import value_findings
from msplora_core.checkup.finding import Finding
from msplora_core.components import ComponentKey
from msplora_core.errors import FileError, MSPLoraError, RunDirectoryError
from msplora_core.formats import read_adapter, recognise_saved
from msplora_core.placement import joint_stack
from msplora_core.runs import RunDirectory, RunRecord, Snapshot


def run_source(path: Path, *, factors: bool = False, inner: bool = False) -> Source:
    """Open a run directory.

    Args:
        path: the run directory.
        factors: whether to read the spectra of both factors, too.
        inner: whether to read the inner products of layers, too.

    Raises:
        FileError: if its record cannot be read, or it has no snapshots.
    """
    run = RunDirectory(path)
    record = run.read_record()
    if not run.snapshot_paths():
        raise RunDirectoryError(
            path / "snapshots",
            expected="a snapshot for each epoch (epoch-0000.safetensors, ...)",
            found="none",
            hint="the run has not recorded anything yet, or its snapshots were not copied with it",
        )

    def moments(errors: list[MSPLoraError]) -> Iterator[Moment]:
        failed: list[FileError] = []
        for snapshot in run.snapshots(failed):
            if not snapshot.spectra:
                continue
            found = Moment(snapshot.epoch, snapshot.step, snapshot.spectra)
            if factors:
                found = found._replace(factor_A=snapshot.factor_A, factor_B=snapshot.factor_B)
            yield found._replace(inner=list(_recorded(snapshot))) if inner else found
        errors.extend(failed)

    return Source(
        record.method,
        record.model,
        record.task,
        record.seed,
        record.modules,
        moments,
        stacks=_stacks_of(record),
        scalings=_scalings_of(record),
        settings=record.hyperparameters,
        recorded=True,
        saved=partial(_saved, run),
        no_spectra=record.no_spectra,
        check=partial(_check, run),
    )


def _check(run: RunDirectory) -> list[Finding]:
    """The findings of the adapter that a run saved; none where there is none, or none that can be opened."""
    with contextlib.suppress(MSPLoraError):
        if run.adapter_path.is_dir():
            return value_findings(read_adapter(run.adapter_path))
    return []


def _scalings_of(record: RunRecord) -> dict[str, float]:
    """Scaling by component key; older records lack it."""
    known = dict[str, float]()
    for component in record.components:
        scaling = component.get("scaling")
        with contextlib.suppress(OverflowError):  # an untrusted record
            if isinstance(scaling, int | float) and math.isfinite(scaling):
                known[component["key"]] = float(scaling)
    return known


def _recorded(snapshot: Snapshot) -> Iterator[Recorded]:
    """The inner products of each module type, if their size is the number of its layers."""
    layers: dict[tuple[str, str], dict[int, NDArray[np.float64]]] = {}
    if not snapshot.inner:  # version 1
        return
    for key, sigma in snapshot.spectra.items():
        scale, module, unit = key.split("/")
        layers.setdefault((scale, module), {})[int(unit)] = sigma
    for module, inner in snapshot.inner.items():
        scale = "total" if ("total", module) in layers else "layer"
        spectra = layers.get((scale, module), {})
        if len(spectra) == len(inner):
            units = sorted(spectra)
            yield Recorded(module, scale, units, inner, [spectra[unit] for unit in units])


def _saved(run: RunDirectory, errors: list[MSPLoraError]) -> Iterator[Saved]:
    """The final adapter, or the checkpoints of an unfinished run."""
    opened = recognise_saved(run)
    if opened is not None:
        yield from saved_updates(opened, read_adapter, errors)


def _stacks_of(record: RunRecord) -> dict[str, str]:
    """Stack by module type, from the components of the record.

    Older records do not name stacks. There, if a model has several stacks, module types begin with their names.
    """
    shapes: dict[str, list[str]] = {}
    named: dict[str, list[str]] = {}
    for component in record.components:
        with contextlib.suppress(MSPLoraError, KeyError, TypeError, ValueError):  # an untrusted record
            module = ComponentKey.parse(component["key"]).module
            out, columns = component["shape"]
            shapes.setdefault(module, []).append(f"{int(out)}x{int(columns)}")
            if isinstance(component.get("stack"), str):
                named.setdefault(module, []).append(component["stack"])
    prefixes = {module: module.partition(".")[0] for module in shapes if "." in module}
    if len(prefixes) < len(shapes) or len(set(prefixes.values())) < 2:
        prefixes = {}
    return {
        module: joint_stack(named[module])
        if module in named
        else f"{prefixes.get(module, '')} {joint_stack(members)}".strip()
        for module, members in shapes.items()
    }
