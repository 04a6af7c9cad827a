"""A snapshot: the singular values of every component at the end of one epoch, in one safetensors file."""

from __future__ import annotations

from typing import Any

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from msplora_core.components import ComponentKey
from msplora_core.errors import MSPLoraError, RunDirectoryError
from msplora_core.storage.atomic import write_atomically

FORMAT = "msplora-snapshot"
VERSION = 1


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The spectra at one moment of training.

    Args:
        epoch: 0 before the first step, n after the n-th epoch.
        step: optimiser steps so far.
        spectra: singular values by component key (`scale/module/unit`), 1-D float64, descending.
    """

    epoch: int
    step: int
    spectra: Mapping[str, NDArray[np.float64]]


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot, whole or not at all."""
    header = {"format": FORMAT, "version": str(VERSION), "epoch": str(snapshot.epoch), "step": str(snapshot.step)}
    tensors = {key: np.ascontiguousarray(sigma, dtype=np.float64) for key, sigma in snapshot.spectra.items()}
    write_atomically(path, save(tensors, metadata=header))


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot.

    Raises:
        RunDirectoryError: if the file is truncated, foreign, of a newer version, or holds what is no spectrum.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            _check_header(path, header)
            names = file.keys()  # an open file is no mapping: it cannot be iterated itself
            spectra = {key: _checked(path, key, file.get_tensor(key)) for key in names}
    except (SafetensorError, OSError, ValueError, struct.error, json.JSONDecodeError) as error:
        raise RunDirectoryError(path, expected="a whole snapshot in safetensors format", found=str(error)) from error
    return Snapshot(int(header["epoch"]), int(header["step"]), spectra)


def _check_header(path: Path, header: Mapping[str, str]) -> None:
    if header.get("format") != FORMAT:
        raise RunDirectoryError(path, key="format", expected=FORMAT, found=header.get("format", "none"))
    for key in ("version", "epoch", "step"):
        if not header.get(key, "").isdecimal():
            raise RunDirectoryError(path, key=key, expected="a whole number", found=header.get(key, "none"))
    if int(header["version"]) > VERSION:
        raise RunDirectoryError(
            path, key="version", expected=f"at most {VERSION}", found=header["version"], hint="update msplora"
        )


def _checked(path: Path, key: str, sigma: NDArray[Any]) -> NDArray[np.float64]:
    try:
        ComponentKey.parse(key)
    except MSPLoraError as error:
        raise RunDirectoryError(path, key=key, expected="a key scale/module/unit", found=key) from error
    whole = sigma.ndim == 1 and sigma.dtype == np.float64 and sigma.size
    # Where every value is at most the one before (NaN never is), the ends answer for all.
    if not (whole and np.isfinite(sigma[0]) and sigma[-1] >= 0 and (sigma[1:] <= sigma[:-1]).all()):
        raise RunDirectoryError(
            path, key=key, expected="finite float64 singular values in descending order", found=sigma
        )
    return sigma
