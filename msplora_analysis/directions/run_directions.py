"""The directions of one run: overlap of its layers at the end, and shared energy over training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from msplora_analysis.directions.layer_directions import (
    Groups,
    LayerCosines,
    SideOverlap,
    layer_cosines,
    side_overlaps,
)
from msplora_analysis.kernels.direction_nulls import cosine_bound
from msplora_analysis.kernels.overlaps import direction_overlaps
from msplora_analysis.loading.adapter_updates import AdapterUpdates, read_updates
from msplora_analysis.loading.parallel import in_processes
from msplora_analysis.loading.source import Moment, Saved, Source
from msplora_core.errors import MSPLoraError, UnsupportedAdapterError
from msplora_core.linalg.inner_products import update_inner_products
from msplora_core.linalg.updates import LowRankUpdate, in_common_unit
from msplora_core.methods import title
from msplora_core.placement import stack_shape

_MANY_DIRECTIONS = 512
"""Number of directions of a module type above which several processes are faster, and overlaps are in float32."""


@dataclass(frozen=True, eq=False)
class LayerDirections:
    """The layers of one module type at the end of a run.

    Args:
        cosines: between the layers, with their shares.
        bound: the value that no |cosine| exceeds, with probability 0.95, if layers share nothing.
        sides: subspaces of inputs and outputs; empty if the factors are unknown.
    """

    cosines: LayerCosines
    bound: float
    sides: Sequence[SideOverlap] = ()


@dataclass(frozen=True, eq=False)
class TimedCosines:
    """The cosines between the layers of one module type at one step of a run.

    Args:
        epoch, step: as in `Moment`.
        cosines: between the whole updates of the layers.
    """

    epoch: float
    step: int | None
    cosines: LayerCosines


@dataclass(frozen=True, eq=False)
class RunDirections:
    """The directions of one run.

    Args:
        name: of the run.
        source: of the run.
        epoch, step: of the end.
        keys: of its components.
        final: by module type and scale, at the end.
        course: over training, if known.
        notes: remarks on the numbers, one sentence each.
    """

    name: str
    source: Source
    epoch: float
    step: int | None
    keys: Sequence[str]
    final: Sequence[LayerDirections]
    course: Sequence[TimedCosines]
    notes: Sequence[str]


def run_directions(
    name: str,
    source: Source,
    errors: list[MSPLoraError],
    groups: Groups = None,
    draws: int = 20,
    seed: int = 0,
    n_jobs: int = 1,
) -> RunDirections | None:
    """Measure the directions of one run or adapter.

    Args:
        name: of the run.
        source: of the run.
        errors: receives the errors of files that cannot be read.
        groups: of layers by depth (see `sharing_shares`).
        draws: of the null models.
        seed: of the draws.
        n_jobs: number of processes for the module types of a large adapter (see `load_spectra`).

    Returns:
        The directions, or None if nothing can be read.

    Raises:
        UnsupportedAdapterError: if the directions of its updates are unknown.
    """
    if source.no_spectra:
        raise UnsupportedAdapterError(f"{name}: {title(source.method)} has no spectra: {source.no_spectra}")
    unread = len(errors)
    moments = list(source.moments(errors)) if source.recorded else []
    saved = list(source.saved(errors))
    updates = _last(name, source, saved, errors)
    why = "no adapter was saved"
    if updates is not None and moments and moments[-1].inner and not _as_recorded(updates, moments[-1]):
        updates, why = None, "the saved adapter holds other updates than the run recorded (PiSSA: B·A, not its change)"
    if updates is not None:
        epoch, step, whole, notes = updates.epoch, updates.step, updates.whole, updates.notes
        keys = [str(key) for key in updates.updates]
        final = list(_from_factors(updates, groups, draws, seed, n_jobs))
    elif moments and moments[-1].inner:
        notes = [*source.notes, f"{name}: {why}, so inner products are known, but not subspaces."]
        keys = list(moments[-1].spectra)
        final = list(_from_record(source, moments[-1], groups, seed))
    elif len(errors) > unread:
        return None
    else:
        raise UnsupportedAdapterError(
            f"{name}: expected an adapter of low rank, or snapshots with inner products, found singular values alone"
        )
    if moments:
        epoch, step = moments[-1].epoch, moments[-1].step
        course = [point for moment in moments for point in _recorded_course(source, moment, groups)]
    else:
        course = [point for one in saved[:-1] for point in _saved_course(name, source, one, errors, groups)]
        course += [TimedCosines(epoch, step, one.cosines) for one in final if one.cosines.scale == whole]
    return RunDirections(name, source, epoch, step, keys, final, course, notes)


def _last(name: str, source: Source, saved: Sequence[Saved], errors: list[MSPLoraError]) -> AdapterUpdates | None:
    """The last updates that can be read."""
    for one in reversed(saved):
        try:
            return read_updates(name, source, one)
        except MSPLoraError as error:
            errors.append(error)
    return None


def _as_recorded(updates: AdapterUpdates, moment: Moment) -> bool:
    """Whether an adapter has the ranks of its run's spectra."""
    recorded = {key: len(moment.spectra[str(key)]) for key in updates.updates if str(key) in moment.spectra}
    return all(rank == updates.updates[key].rank for key, rank in recorded.items())


def _from_factors(
    adapter: AdapterUpdates, groups: Groups, draws: int, seed: int, n_jobs: int
) -> Iterator[LayerDirections]:
    kinds = [(module, scale) for module in adapter.modules for scale in adapter.scales]
    kinds = [kind for kind in kinds if len(adapter.layers(*kind)) > 1]
    most = max((sum(update.rank for update in adapter.layers(*kind).values()) for kind in kinds), default=0)
    many = most >= _MANY_DIRECTIONS
    import scipy.linalg
    import scipy.special  # noqa: F401  before processes are forked, each of which would load it anew

    def directions(kind: tuple[str, str]) -> LayerDirections:
        layers = adapter.layers(*kind)
        updates, _ = in_common_unit(list(layers.values()))
        overlaps = direction_overlaps(updates, np.float32 if many else np.float64)
        shape, rank = _size(layers)
        stack, inner = adapter.stacks.get(kind[0], ""), overlaps.inner_products()
        found = layer_cosines(*kind, stack, list(layers), rank, inner, shape, groups)
        sides = side_overlaps(overlaps, shape, draws, seed)
        return LayerDirections(found, cosine_bound(overlaps.sigma, shape, seed=seed), sides)

    found = in_processes(directions, kinds, n_jobs if many else 1)
    import pandas  # noqa: F401  for the tables; here, the processes compute meanwhile

    return found


def _from_record(source: Source, moment: Moment, groups: Groups, seed: int) -> Iterator[LayerDirections]:
    spectra = {one.module: one.spectra for one in moment.inner}
    for point in _recorded_course(source, moment, groups):
        shape = stack_shape(point.cosines.stack)
        bound = cosine_bound(spectra[point.cosines.module], shape, seed=seed) if shape else float("nan")
        yield LayerDirections(point.cosines, bound)


def _recorded_course(source: Source, moment: Moment, groups: Groups) -> Iterator[TimedCosines]:
    for one in moment.inner:
        stack = source.stacks.get(one.module, "")
        shape = stack_shape(stack) or (nan, nan)
        if len(one.layers) > 1:
            rank = max(map(len, one.spectra))
            cosines = layer_cosines(one.module, one.scale, stack, one.layers, rank, one.inner, shape, groups)
            yield TimedCosines(moment.epoch, moment.step, cosines)


def _saved_course(
    name: str, source: Source, saved: Saved, errors: list[MSPLoraError], groups: Groups
) -> Iterator[TimedCosines]:
    try:
        adapter = read_updates(name, source, saved)
    except MSPLoraError as error:
        errors.append(error)
        return
    for module in adapter.modules:
        layers = adapter.layers(module)
        if len(layers) > 1:
            shape, rank = _size(layers)
            updates, _ = in_common_unit(list(layers.values()))
            stack, inner = adapter.stacks.get(module, ""), update_inner_products(updates)
            cosines = layer_cosines(module, adapter.whole, stack, list(layers), rank, inner, shape, groups)
            yield TimedCosines(saved.epoch, saved.step, cosines)


def _size(layers: Mapping[int, LowRankUpdate]) -> tuple[tuple[int, int], int]:
    """The shape of the updates, and the largest rank."""
    updates = list(layers.values())
    return updates[0].shape, max(update.rank for update in updates)
