"""Intruder dimensions of adapters, module by module."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.kernels.intruders import leading_directions
from msplora_analysis.loading.adapter_updates import AdapterUpdates, last_updates
from msplora_analysis.loading.base_weights import BaseWeights
from msplora_analysis.loading.basis_cache import cache_folder, kept_basis
from msplora_analysis.loading.sources import find_sources
from msplora_core.errors import MSPLoraError, ParameterError, UnsupportedAdapterError
from msplora_core.formats import read_adapter
from msplora_core.formats.notes import DORA
from msplora_core.linalg.pyramid_fit import rotated
from msplora_core.wording import listed

if TYPE_CHECKING:
    from pandas import DataFrame

NULL_DRAWS = 3
_SEED = 0
_DORA = "DoRA: intruders of the whole weight, whose rows are rescaled to the magnitudes."


@dataclass(frozen=True, eq=False)
class Intrusion:
    """The result of `find_intruders`.

    Args:
        path: of the adapter, or of a folder of several.
        base: of the base model.
        k: number of leading directions examined in each weight.
        epsilon: a direction whose cosine is below is an intruder.
        directions: a row a module and direction: `run`, `module`, `layer`, `place` (path in the model), `k` (from 1),
            `sigma` (singular value of W₀ + ΔW), `cosine` (the largest with a left singular vector of W₀), `intruder`,
            `base_sigma` (k-th singular value of W₀).
        modules: a row a module: `run`, `module`, `layer`, `place`, `intruders`, `null_intruders` (the mean for updates
            with the same singular values and random directions), `enters_at` (the singular value of the first
            intruder; NaN without), `least_cosine`.
        kept: number of bases of weights from the cache.
        cache: the folder of the cache.
        notes: remarks on the numbers, one sentence each.
        skipped: for several adapters, messages on those that could not be compared with the base.
        seed: of the null.
    """

    path: Path
    base: Path
    k: int
    epsilon: float
    directions: DataFrame
    modules: DataFrame
    kept: int
    cache: Path
    notes: list[str]
    skipped: list[str] = field(default_factory=list)
    seed: int = _SEED


def find_intruders(
    path: str | os.PathLike[str],
    base: str | os.PathLike[str],
    *,
    k: int = 10,
    epsilon: float = 0.5,
    alpha: float | None = None,
    module: str | Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Intrusion:
    """Find the intruder dimensions of an adapter: leading directions of W₀ + ΔW far from all those of W₀.

    Algorithm 1 of Shuttleworth et al. 2024 (arXiv 2410.21228), with the number for updates of the same singular values
    and random directions as null. The left singular vectors of W₀ are kept in the user's cache. Weights are (out, in);
    that of an embedding is transposed to (dimensions, tokens), like its update. For DoRA, the rows of W₀ + ΔW are
    rescaled to its magnitudes.

    Args:
        path: an adapter, a run, or a folder of checkpoints, to read the last; or a folder of several of these on one
            base model.
        base: the base model's folder or file, in safetensors or torch's format.
        k: number of leading directions of each weight to examine.
        epsilon: a direction whose largest cosine is below is an intruder.
        alpha, module: how the adapter is read (see `load_spectra`).
        progress: called after each weight, or each of several adapters, with the number done and the number of all.

    Returns:
        Directions and modules as tables.

    Raises:
        AdapterFileError: if the base is not that of the adapter, i.e. a weight is missing or of another shape.
        RunDirectoryError: if there is no adapter.
        UnsupportedAdapterError: if no update has low-rank factors, or DoRA's magnitudes are not saved as PEFT does.
        ParameterError: for a k below 1, an epsilon outside (0, 1], or a base on the hub.
    """
    import pandas as pd

    if k < 1:
        raise ParameterError("k", expected="at least 1", found=k)
    if not 0 < epsilon <= 1:
        raise ParameterError("epsilon", expected="above 0 and at most 1", found=epsilon)
    sources = find_sources(path, alpha=alpha, module=module)
    directions, modules = [], []
    kept, notes, skipped = 0, list[str](), list[MSPLoraError]()
    for done, (name, opened) in enumerate(sources, start=1):
        try:
            adapter = last_updates(name, opened(), path)
            found = _held_against(adapter, base, k, epsilon, progress if len(sources) == 1 else None)
        except MSPLoraError as error:
            skipped.append(error)
        else:
            directions += found.directions
            modules += found.modules
            kept += found.kept
            notes += [_DORA if note == DORA else note for note in adapter.notes]
            if found.zero:
                where = f" of {name}" if len(sources) > 1 else ""
                shown = ", ".join(found.zero[:3])
                notes.append(f"Zero updates{where}, which do not change the weight: {len(found.zero)} ({shown}).")
        if progress is not None and len(sources) > 1:
            progress(done, len(sources))
    if not modules:
        raise skipped[-1]
    about = ["run", "module", "layer", "place"]
    return Intrusion(
        path=Path(path),
        base=Path(base),
        k=k,
        epsilon=epsilon,
        directions=pd.DataFrame(directions, columns=[*about, "k", "sigma", "cosine", "intruder", "base_sigma"]),
        modules=pd.DataFrame(modules, columns=[*about, "intruders", "null_intruders", "enters_at", "least_cosine"]),
        kept=kept,
        cache=cache_folder(),
        notes=list(dict.fromkeys(notes)),
        skipped=list(map(str, skipped)),
    )


@dataclass(frozen=True)
class _Held:
    """One adapter compared with its base: rows of both tables, number of cached bases, paths of zero updates."""

    directions: list[list[Any]]
    modules: list[list[Any]]
    kept: int
    zero: list[str]


def _held_against(
    adapter: AdapterUpdates,
    base: str | os.PathLike[str],
    k: int,
    epsilon: float,
    progress: Callable[[int, int], None] | None,
) -> _Held:
    keys = [key for name in adapter.modules for key in adapter.keys(name)]
    shapes = {adapter.places[key]: adapter.updates[key].shape for key in keys}
    weights = BaseWeights(base, shapes, adapter.path, adapter.model)
    magnitudes = _magnitudes(adapter, shapes) if "dora" in adapter.method else {}
    rows, modules = list[list[Any]](), list[list[Any]]()
    kept, zero = 0, list[str]()
    for done, key in enumerate(keys, start=1):
        update, place = adapter.updates[key], adapter.places[key]
        W = weights.read(place)
        basis, cached = kept_basis(W)
        kept += cached
        directions = partial(leading_directions, W, basis, k=k, magnitudes=magnitudes.get(place))
        found = directions(update)
        foreign = found.cosine < epsilon
        nulls = [
            np.count_nonzero(directions(rotated([update], _SEED + draw)[0]).cosine < epsilon)
            for draw in range(NULL_DRAWS)
        ]
        about = [adapter.name, key.module, key.unit, place]
        numbers = zip(found.sigma, found.cosine, foreign, found.base_sigma, strict=True)
        rows += [[*about, place_of, *one] for place_of, one in enumerate(numbers, start=1)]
        first = float(found.sigma[foreign][0]) if foreign.any() else np.nan
        modules.append([*about, int(foreign.sum()), float(np.mean(nulls)), first, float(found.cosine.min())])
        zero += [] if update.singular_values().any() or place in magnitudes else [place]
        if progress is not None:
            progress(done, len(keys))
    return _Held(rows, modules, kept, zero)


def _magnitudes(adapter: AdapterUpdates, places: Collection[str]) -> dict[str, NDArray[Any]]:
    """The magnitudes of DoRA by the path of the module: (out,), whatever the layer."""
    stored = read_adapter(adapter.path).magnitudes
    missing = [place for place in places if place not in stored]
    if missing:
        raise UnsupportedAdapterError(
            f"{adapter.path}: expected DoRA's magnitudes under PEFT's names, found none of {listed(missing)}"
        )
    return {place: stored[place].read().ravel() for place in places}
