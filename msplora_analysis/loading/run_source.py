"""A run directory as a source of spectra."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

from msplora_analysis.loading.source import Moment, Source
from msplora_core.components import ComponentKey
from msplora_core.errors import FileError, MSPLoraError, RunDirectoryError
from msplora_core.placement import joint_stack
from msplora_core.runs import RunDirectory, RunRecord


def run_source(path: Path, *, factors: bool = False) -> Source:
    """Open a run directory.

    Args:
        path: of it.
        factors: whether its moments hold the spectra of both factors, too.

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
            of_factors = (snapshot.factor_A, snapshot.factor_B) if factors else ()
            yield Moment(snapshot.epoch, snapshot.step, snapshot.spectra, *of_factors)
        errors.extend(failed)

    return Source(
        record.method, record.model, record.task, record.seed, record.modules, moments, stacks=_stacks_of(record),
        scalings=_scalings_of(record),
    )  # fmt: skip


def _scalings_of(record: RunRecord) -> dict[str, float]:
    """Scaling by component key; older records lack it."""
    known = dict[str, float]()
    for component in record.components:
        scaling = component.get("scaling")
        with contextlib.suppress(OverflowError):  # an untrusted record
            if isinstance(scaling, int | float) and math.isfinite(scaling):
                known[component["key"]] = float(scaling)
    return known


def _stacks_of(record: RunRecord) -> dict[str, str]:
    """Stack by module type, of the components as the record describes them.

    Older records do not name stacks. There, if a model has several, every module type begins with the name of its own.
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
