"""A snapshot: the measured values of all components at one step of training, in one safetensors file.

    key                         value, float64
    scale/module/unit           singular values of the weight update, scaling included
    factor_A/scale/module/unit  singular values of the factor A as stored, without the scaling
    factor_B/scale/module/unit  likewise of B; the factors of `total` are those of all scales, scaling folded into B
    inner/module                inner products ⟨ΔW_i, ΔW_j⟩ of the module type's layers, rows in ascending unit order
    between_scales/global-mid/module/layer   mean and standard deviation, over steps, of a cosine
    between_layers/scale/module/unit         likewise of the cosines between the layers of a component, (2, L, L)

The last two are optional (see `training.interference`). The header holds format, version, epoch and step as text.
Version 1 had only the first kind of key, version 2 all but the last two; a snapshot without these is still written as
version 2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from msplora_core.components import ComponentKey
from msplora_core.errors import FileError, ParameterError, RunDirectoryError
from msplora_core.pyramid import SCALES
from msplora_core.storage.atomic import write_atomically
from msplora_core.storage.safetensors_file import read_safetensors
from msplora_core.storage.tensors import Tensor

FORMAT = "msplora-snapshot"
VERSION = 3
LARGEST_FILE = 2**27
"""Bytes. The spectra of 1,000 modules of rank 1,000 and of their factors take a fifth of it."""
LONGEST_SPECTRUM = 2**16

_Arrays = Mapping[str, NDArray[np.float64]]

LAST_EPOCH = 100_000
"""Later epochs are refused, since figures have a column for each."""
LAST_STEP = 2**53
"""The largest whole number that JSON readers agree on."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The measured values of an adapter at one step of training.

    Args:
        epoch: 0 before the first step, n after the n-th epoch, a fraction within an epoch.
        step: optimiser steps so far.
        spectra: singular values by component key (`scale/module/unit`), 1-D float64, descending.
        factor_A: singular values of the factor A, likewise; empty in files of version 1.
        factor_B: singular values of the factor B, likewise.
        inner: by module type the inner products of its layers' updates, (L, L) float64, layers in ascending
            order of the unit; empty in files of version 1.
        between_scales: by `global-mid/module/layer` mean and standard deviation (2,) of the cosine between the steps
            of two scales; empty if not recorded.
        between_layers: by component (2, L, L), mean and standard deviation of the cosines between the gradients of
            its layers; likewise.
    """

    epoch: float
    step: int
    spectra: _Arrays
    factor_A: _Arrays = field(default_factory=dict)
    factor_B: _Arrays = field(default_factory=dict)
    inner: _Arrays = field(default_factory=dict)
    between_scales: _Arrays = field(default_factory=dict)
    between_layers: _Arrays = field(default_factory=dict)


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot atomically."""
    epoch = f"{snapshot.epoch:.9f}".rstrip("0").rstrip(".")
    version = VERSION if snapshot.between_scales or snapshot.between_layers else 2
    header = {"format": FORMAT, "version": str(version), "epoch": epoch, "step": str(snapshot.step)}
    arrays = {"": snapshot.spectra} | {f"{kind}/": getattr(snapshot, kind) for kind in _KINDS}
    tensors = {
        kind + key: np.ascontiguousarray(values, dtype=np.float64)
        for kind, members in arrays.items()
        for key, values in members.items()
    }
    write_atomically(path, save(tensors, metadata=header))


_KINDS = ("factor_A", "factor_B", "inner", "between_scales", "between_layers")


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot.

    Raises:
        FileError: if the file is truncated, too large, of another format or a newer version, or holds invalid
            tensors.
    """
    file = read_safetensors(path)
    epoch, step = _read_header(path, file.metadata)
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise RunDirectoryError(path, expected=f"a snapshot of at most {LARGEST_FILE} bytes", found=size)
    found: dict[str, dict[str, NDArray[np.float64]]] = {kind: {} for kind in ("spectra", *_KINDS)}
    for name, tensor in file.tensors.items():
        kind, _, key = name.partition("/")
        if kind == "inner":
            found[kind][key] = _inner_products(tensor)
        elif kind == "between_scales":
            found[kind][key] = _scale_cosines(tensor, key)
        elif kind == "between_layers":
            found[kind][key] = _layer_cosines(tensor, key)
        elif kind in _KINDS:
            found[kind][key] = _spectrum(tensor, key)
        else:
            found["spectra"][name] = _spectrum(tensor, name)
    for kind in ("factor_A", "factor_B"):
        for key, sigma in found[kind].items():
            rank = len(found["spectra"].get(key, ()))
            if len(sigma) != rank:
                expected = f"{rank} values, as many as {key} has"
                raise RunDirectoryError(path, key=f"{kind}/{key}", expected=expected, found=len(sigma))
    return Snapshot(epoch, step, **found)


def _read_header(path: Path, header: Mapping[str, str]) -> tuple[float, int]:
    """Epoch (an integer, or a float within an epoch) and step."""
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
    if not _NUMBER.fullmatch(epoch) or float(epoch) > LAST_EPOCH:
        raise RunDirectoryError(path, key="epoch", expected=f"a number from 0 to {LAST_EPOCH}", found=epoch or "none")
    return float(epoch) if "." in epoch else int(epoch), int(header["step"])


_NUMBER = re.compile(r"[0-9]{1,10}(\.[0-9]{1,10})?")


def _spectrum(tensor: Tensor, key: str) -> NDArray[np.float64]:
    if not _is_key(key):
        raise tensor.error("a key scale/module/unit", key)
    if tensor.dtype == "float64" and len(tensor.shape) == 1 and 0 < tensor.shape[0] <= LONGEST_SPECTRUM:
        sigma = tensor.load()
        # In descending order (which excludes NaN), all values are finite and non-negative if the first and last are.
        if np.isfinite(sigma[0]) and sigma[-1] >= 0 and (sigma[1:] <= sigma[:-1]).all():
            return sigma
    raise _described(tensor, f"finite float64 singular values in descending order, 1 to {LONGEST_SPECTRUM} of them")


def _inner_products(tensor: Tensor) -> NDArray[np.float64]:
    if tensor.dtype == "float64" and len(tensor.shape) == 2 and tensor.shape[0] == tensor.shape[1] > 0:
        products = tensor.load()
        if np.isfinite(products).all():
            return products
    raise _described(tensor, "a square matrix of finite float64 inner products")


def _scale_cosines(tensor: Tensor, key: str) -> NDArray[np.float64]:
    pair, _, place = key.partition("/")
    if pair not in SCALE_PAIRS or not _is_key(f"total/{place}"):
        raise tensor.error("a key global-mid/module/layer", key)
    if tensor.dtype == "float64" and tensor.shape == (2,) and _are_cosines(values := tensor.load()):
        return values
    raise _described(tensor, "mean and spread of a cosine, in float64")


def _layer_cosines(tensor: Tensor, key: str) -> NDArray[np.float64]:
    if not _is_key(key):
        raise tensor.error("a key scale/module/unit", key)
    shape = tensor.shape
    square = len(shape) == 3 and shape[0] == 2 and shape[1] == shape[2] > 1
    if tensor.dtype == "float64" and square and _are_cosines(values := tensor.load()):
        return values
    raise _described(tensor, "mean and spread of a square matrix of cosines, in float64")


SCALE_PAIRS = tuple("-".join(pair) for pair in combinations(SCALES, 2))


def _are_cosines(values: NDArray[np.float64]) -> bool:
    mean, spread = values
    return bool((np.abs(mean) <= _ONE).all() and (spread >= 0).all() and (spread <= _ONE).all())


_ONE = 1 + 1e-9  # rounded


def _described(tensor: Tensor, expected: str) -> FileError:
    return tensor.error(expected, tensor.load() if math.prod(tensor.shape) < 9 else tensor.shape)


@lru_cache(maxsize=2**16)
def _is_key(text: str) -> bool:
    """Whether a text is a component's key; the same keys occur in every snapshot."""
    try:
        ComponentKey.parse(text)
    except ParameterError:
        return False
    return True
