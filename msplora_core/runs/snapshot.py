"""A snapshot: what is measured of every component at one moment of training, in one safetensors file.

    key                         value, float64
    scale/module/unit           singular values of the weight update, scaling included
    factor_A/scale/module/unit  singular values of the factor A as stored, without the scaling
    factor_B/scale/module/unit  likewise of B; the factors of `total` are those of all scales, scaling folded into B
    inner/module                inner products ⟨ΔW_i, ΔW_j⟩ of the module type's layers, rows in ascending unit order

The header holds format, version, epoch and step as text. Version 1 had the first kind of key alone.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from msplora_core.components import ComponentKey
from msplora_core.errors import MSPLoraError, RunDirectoryError
from msplora_core.storage.atomic import write_atomically

FORMAT = "msplora-snapshot"
VERSION = 2


_Arrays = Mapping[str, NDArray[np.float64]]

LAST_EPOCH = 100_000
"""A later one is refused: pictures have a column for each."""
LAST_STEP = 2**53
"""The largest whole number that JSON readers agree on."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What is known of an adapter at one moment of training.

    Args:
        epoch: 0 before the first step, n after the n-th epoch, a fraction within an epoch.
        step: optimiser steps so far.
        spectra: singular values by component key (`scale/module/unit`), 1-D float64, descending.
        factor_A: those of the factor A, likewise; empty in files of version 1.
        factor_B: those of the factor B, likewise.
        inner: by module type the inner products of its layers' updates, (L, L) float64, layers in ascending
            order of the unit; empty in files of version 1.
    """

    epoch: float
    step: int
    spectra: _Arrays
    factor_A: _Arrays = field(default_factory=dict)
    factor_B: _Arrays = field(default_factory=dict)
    inner: _Arrays = field(default_factory=dict)


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot, whole or not at all."""
    epoch = f"{snapshot.epoch:.9f}".rstrip("0").rstrip(".")
    header = {"format": FORMAT, "version": str(VERSION), "epoch": epoch, "step": str(snapshot.step)}
    arrays = {"": snapshot.spectra} | {f"{kind}/": getattr(snapshot, kind) for kind in _KINDS}
    tensors = {
        kind + key: np.ascontiguousarray(values, dtype=np.float64)
        for kind, members in arrays.items()
        for key, values in members.items()
    }
    write_atomically(path, save(tensors, metadata=header))


_KINDS = ("factor_A", "factor_B", "inner")


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot.

    Raises:
        RunDirectoryError: if the file is truncated, of another format or a newer version, or holds something else.
    """
    found: dict[str, dict[str, NDArray[np.float64]]] = {kind: {} for kind in ("spectra", *_KINDS)}
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            epoch, step = _read_header(path, header)
            names = file.keys()  # an open file is no mapping: it cannot be iterated itself
            for name in names:
                kind, _, key = name.partition("/")
                kind, key = (kind, key) if kind in _KINDS else ("spectra", name)
                check = _check_inner if kind == "inner" else _check_spectrum
                found[kind][key] = check(path, name, key, file.get_tensor(name))
    except (SafetensorError, OSError, ValueError, struct.error, json.JSONDecodeError) as error:
        raise RunDirectoryError(path, expected="a whole snapshot in safetensors format", found=str(error)) from error
    return Snapshot(epoch, step, **found)


def _read_header(path: Path, header: Mapping[str, str]) -> tuple[float, int]:
    """Epoch and step; the epoch as a whole number where it is one."""
    if header.get("format") != FORMAT:
        raise RunDirectoryError(path, key="format", expected=FORMAT, found=header.get("format", "none"))
    for key in ("version", "step"):
        if not _NUMBER.fullmatch(header.get(key, "")) or "." in header[key]:
            raise RunDirectoryError(path, key=key, expected="a whole number", found=header.get(key, "none"))
    if int(header["version"]) > VERSION:
        raise RunDirectoryError(
            path, key="version", expected=f"at most {VERSION}", found=header["version"], hint="update msplora"
        )
    epoch = header.get("epoch", "")
    if not _NUMBER.fullmatch(epoch):
        raise RunDirectoryError(path, key="epoch", expected="a number of at least 0", found=epoch or "none")
    return float(epoch) if "." in epoch else int(epoch), int(header["step"])


_NUMBER = re.compile(r"[0-9]{1,10}(\.[0-9]{1,10})?")


def _check_spectrum(path: Path, name: str, key: str, sigma: NDArray[Any]) -> NDArray[np.float64]:
    try:
        ComponentKey.parse(key)
    except MSPLoraError as error:
        raise RunDirectoryError(path, key=name, expected="a key scale/module/unit", found=key) from error
    whole = sigma.ndim == 1 and sigma.dtype == np.float64 and sigma.size
    # Where every value is at most the one before (NaN never is), the ends answer for all.
    if not (whole and np.isfinite(sigma[0]) and sigma[-1] >= 0 and (sigma[1:] <= sigma[:-1]).all()):
        raise RunDirectoryError(
            path, key=name, expected="finite float64 singular values in descending order", found=sigma
        )
    return sigma


def _check_inner(path: Path, name: str, key: str, products: NDArray[Any]) -> NDArray[np.float64]:
    square = products.ndim == 2 and len(products) == products.shape[1] > 0
    if not (square and products.dtype == np.float64 and np.isfinite(products).all()):
        raise RunDirectoryError(
            path, key=name, expected="a square matrix of finite float64 inner products", found=products
        )
    return products
