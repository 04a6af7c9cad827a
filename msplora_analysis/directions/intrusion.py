"""Whether an adapter has put foreign directions into its base: intruder dimensions, module by module."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msplora_analysis.kernels.intruders import leading_directions
from msplora_analysis.loading.adapter_updates import load_updates
from msplora_analysis.loading.base_weights import BaseWeights
from msplora_analysis.loading.basis_cache import cache_folder, kept_basis
from msplora_core.errors import ParameterError
from msplora_core.linalg.pyramid_fit import rotated

if TYPE_CHECKING:
    from pandas import DataFrame

NULL_DRAWS = 3
_SEED = 0


@dataclass(frozen=True, eq=False)
class Intrusion:
    """What `find_intruders` found.

    Args:
        path: of the adapter.
        base: of the base model.
        k: how many leading directions of each weight were looked at.
        epsilon: a direction whose cosine is below is an intruder.
        directions: a row a module and direction: `module`, `layer`, `place` (path in the model), `k` (from 1), `sigma`
            (singular value of W₀ + ΔW), `cosine` (the largest with a left singular vector of W₀), `intruder`,
            `base_sigma` (k-th singular value of W₀).
        modules: a row a module: `module`, `layer`, `place`, `intruders`, `null_intruders` (the mean for updates with
            the same singular values and random directions), `enters_at` (the singular value of the first intruder; NaN
            without), `least_cosine`.
        kept: how many bases of weights came from the cache.
        cache: the folder of the cache.
        notes: sentences that a reader should know.
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
    """Find the intruder dimensions of an adapter: leading directions of W₀ + ΔW that W₀ does not have.

    Algorithm 1 of Shuttleworth et al. 2024 (arXiv 2410.21228), beside the number for updates with the same singular
    values and random directions. The left singular vectors of W₀ are kept in the user's cache. Weights are (out, in);
    that of an embedding is transposed to (dimensions, tokens), as its update is.

    Args:
        path: an adapter, a run, or a folder of checkpoints, of which the last is read.
        base: the base model's folder or file, in safetensors or as torch saves it.
        k: how many leading directions of each weight to look at.
        epsilon: a direction whose largest cosine is below is an intruder.
        alpha, module: how the adapter is read (see `load_spectra`).
        progress: called after each weight with the number done and the number of all.

    Returns:
        Directions and modules as tables.

    Raises:
        AdapterFileError: if the base is not that of the adapter: a weight is missing or of another shape.
        RunDirectoryError: if there are several adapters.
        UnsupportedAdapterError: if no update has low-rank factors.
        ParameterError: for a k below 1, an epsilon outside (0, 1], or a base on the hub.
    """
    import pandas as pd

    if k < 1:
        raise ParameterError("k", expected="at least 1", found=k)
    if not 0 < epsilon <= 1:
        raise ParameterError("epsilon", expected="above 0 and at most 1", found=epsilon)
    adapter = load_updates(path, alpha=alpha, module=module)
    keys = [key for name in adapter.modules for key in adapter.keys(name)]
    shapes = {adapter.places[key]: adapter.updates[key].shape for key in keys}
    weights = BaseWeights(base, shapes, adapter.path, adapter.model)
    rows: list[list[Any]] = []
    summary: list[list[Any]] = []
    kept, zero = 0, []
    for done, key in enumerate(keys, start=1):
        update, place = adapter.updates[key], adapter.places[key]
        W = weights.read(place)
        basis, cached = kept_basis(W)
        kept += cached
        found = leading_directions(W, basis, update, k)
        foreign = found.cosine < epsilon
        nulls = [
            np.count_nonzero(leading_directions(W, basis, rotated([update], _SEED + draw)[0], k).cosine < epsilon)
            for draw in range(NULL_DRAWS)
        ]
        about = [key.module, key.unit, place]
        numbers = zip(found.sigma, found.cosine, foreign, found.base_sigma, strict=True)
        rows += [[*about, place_of, *one] for place_of, one in enumerate(numbers, start=1)]
        first = float(found.sigma[foreign][0]) if foreign.any() else np.nan
        summary.append([*about, int(foreign.sum()), float(np.mean(nulls)), first, float(found.cosine.min())])
        zero += [] if update.singular_values().any() else [place]
        if progress is not None:
            progress(done, len(keys))
    notes = list(adapter.notes)
    if zero:
        notes.append(f"Zero updates, which leave the weight as it is: {len(zero)} ({', '.join(zero[:3])}).")
    about_columns = ["module", "layer", "place"]
    return Intrusion(
        path=Path(path),
        base=weights.path,
        k=k,
        epsilon=epsilon,
        directions=pd.DataFrame(rows, columns=[*about_columns, "k", "sigma", "cosine", "intruder", "base_sigma"]),
        modules=pd.DataFrame(
            summary, columns=[*about_columns, "intruders", "null_intruders", "enters_at", "least_cosine"]
        ),
        kept=kept,
        cache=cache_folder(),
        notes=notes,
    )
