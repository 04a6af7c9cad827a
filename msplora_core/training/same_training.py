"""Whether the records in a folder are those of the training that goes on there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import FileError, RunDirectoryError
from msplora_core.methods import configured_name
from msplora_core.runs import RunDirectory, RunRecord, read_snapshot

_HINT = "use the folder of this training, or another one"
_ROUNDING = 1e-3
"""Relative to the largest singular value: checkpoints may be in half precision."""


def check_record(run: RunDirectory, record: RunRecord) -> None:
    """Refuse a folder whose run.json is of a training with another method, seed or components.

    Args:
        run: the folder, with a run.json; one without components, written by hand, fits every training.
        record: of the training, from `describe_run`.

    Raises:
        RunDirectoryError: if they differ.
    """
    found = run.read_record()
    if not found.components:
        return
    method = configured_name(found.configuration) if "peft_type" in found.configuration else ""
    for name, one, other in (("method", method, record.method), ("seed", found.seed, record.seed)):
        if one not in ("", None) and other not in ("", None) and one != other:
            raise _other(run, name, one, other)
    there, now = ({one["key"]: one for one in each.components} for each in (found, record))
    for key in sorted(there.keys() | now.keys()):
        if not (key in there and key in now):
            raise _other(run, key, *("a component" if key in each else "none" for each in (there, now)))
        if there[key]["shape"] != now[key]["shape"]:
            raise _other(run, f"shape of {key}", there[key]["shape"], now[key]["shape"])
        if "rank" in there[key] and there[key]["rank"] < now[key]["rank"]:  # AdaLoRA has fewer in the end
            raise _other(run, f"rank of {key}", there[key]["rank"], now[key]["rank"])


def check_spectra(run: RunDirectory, step: int, spectra: Mapping[str, NDArray[np.float64]]) -> None:
    """Refuse a snapshot of the same step with other spectra; a folder without a snapshot of this step fits.

    Args:
        run: the folder.
        step: optimiser steps done.
        spectra: of the model now, as in a snapshot.

    Raises:
        RunDirectoryError: if they differ.
    """
    for path in reversed(run.snapshot_paths()):
        with suppress(FileError):  # a damaged snapshot is replaced
            recorded = read_snapshot(path)
            if recorded.step == step:
                break
    else:
        return
    for key, sigma in spectra.items():
        there = recorded.spectra.get(key, np.zeros(0))
        place = f"{path.parent.name}/{path.name}: {key}"
        if len(there) != len(sigma):
            raise _other(run, place, f"{len(there)} singular values", len(sigma))
        if np.abs(there - sigma).max() > _ROUNDING * max(there[0], sigma[0]):
            raise _other(run, place, f"σ₁ {there[0]:.4g}", f"{sigma[0]:.4g}")


def _other(run: RunDirectory, name: str, there: object, now: object) -> RunDirectoryError:
    expected = f"{there}, as in this folder's records"
    return RunDirectoryError(run.path, key=name, expected=expected, found=f"{now}, of another training", hint=_HINT)
