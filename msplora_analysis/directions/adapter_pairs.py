"""Compare adapters of one base model: overlap of directions, and what a merge would overwrite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.kernels.overlaps import SIDES, DirectionOverlaps, Side, direction_overlaps
from msplora_analysis.loading.adapter_updates import AdapterUpdates
from msplora_analysis.loading.variants import short_name
from msplora_core.components import ComponentKey
from msplora_core.errors import ComparisonError
from msplora_core.linalg.updates import LowRankUpdate, in_common_unit
from msplora_core.wording import counted, listed

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class AdapterPair:
    """Two adapters, module by module.

    Args:
        first, second: their names.
        modules: a row for each module that both adapt, the strongest conflict first, zero updates (conflict NaN) last:

            | column | |
            |---|---|
            | module, layer, path | the module |
            | size_outputs, size_inputs, rank, rank_other | shape and ranks |
            | norm, norm_other, cosine | Frobenius norms, and the cosine between the updates |
            | deviation_cosine | its standard deviation for updates rotated at random, whose mean is 0 |
            | phi_SIDE, chance_SIDE | φ at full rank for inputs and outputs, and that of random subspaces |
            | angle_SIDE | the smallest principal angle, in radians |
            | within_SIDE, within_SIDE_other | share of the energy in the other's subspace |
            | null_SIDE, null_SIDE_other | likewise for random subspaces |
            | overwritten, overwritten_other | share of the energy in both the other's inputs and outputs |
            | null_overwritten, null_overwritten_other | likewise for random subspaces |
            | conflict | share of both adapters' energy in this module, times (√overwritten − cosine)/2 of the smaller |

        angles: a row for each principal angle: module, layer, path, side, k (from 1), angle (radians, ascending).
        grids: by side the mean over the modules of φ(i, j), for the ranks that all have.
        cosine: over all common modules as one vector.
        deviation: its standard deviation for updates rotated at random.
        overwritten: share of the energy of each in both the other's inputs and outputs.
        null: likewise for random subspaces.
        kept: the component of the sum along each adapter, relative to that adapter: 1 + ⟨a, b⟩/‖a‖².
        equal: whether the updates of these modules are the same.
        alone: number of modules that only one of the two adapts.
    """

    first: str
    second: str
    modules: DataFrame
    angles: DataFrame
    grids: Mapping[Side, NDArray[np.float64]]
    cosine: float
    deviation: float
    overwritten: tuple[float, float]
    null: tuple[float, float]
    kept: tuple[float, float]
    equal: bool
    alone: int


@dataclass(frozen=True, eq=False)
class AdapterComparison:
    """Several adapters of one base model.

    Args:
        names: of the N adapters.
        cosines: (N, N) over common modules; NaN if an adapter is zero.
        pairs: all pairs, in the order of the names.
        notes: on modules that not all adapters have, and on zero adapters.
    """

    names: Sequence[str]
    cosines: NDArray[np.float64]
    pairs: Sequence[AdapterPair]
    notes: Sequence[str]


def compare_adapters(adapters: Sequence[AdapterUpdates]) -> AdapterComparison:
    """Compare the whole updates of adapters of one base model.

    Their methods, ranks, formats, tasks, seeds and epochs may differ.

    Args:
        adapters: at least two, from `load_updates`.

    Raises:
        ComparisonError: if two have different base models or shapes, or no module in common.
    """
    names = _distinct(adapters)
    modules = _common_modules(adapters, names)
    scaled, units = list[Mapping[ComponentKey, LowRankUpdate]](), list[int]()
    for adapter in adapters:
        updates, unit = in_common_unit(list(adapter.updates.values()))
        scaled.append(dict(zip(adapter.updates, updates, strict=True)))
        units.append(unit)
    overlaps: list[tuple[str, dict[int, ComponentKey], list[int], DirectionOverlaps]] = []
    for path, keys in modules.items():
        members = sorted(keys)
        updates = [scaled[place][keys[place]] for place in members]
        shapes = {update.shape: names[place] for place, update in zip(members, updates, strict=True)}
        if len(shapes) > 1:
            (one, name), (two, other) = list(shapes.items())[:2]
            raise ComparisonError(
                f"{name} has {path} of shape {one[0]} × {one[1]}, but {other} {two[0]} × {two[1]}; "
                "compare adapters of the same base model"
            )
        overlaps.append((path, keys, members, direction_overlaps(updates)))
    cosines = np.eye(len(adapters))
    pairs = []
    for i, j in combinations(range(len(adapters)), 2):
        common = [
            _Common(path, keys[i], adapters[i].updates[keys[i]].shape, found, members.index(i), members.index(j))
            for path, keys, members, found in overlaps
            if i in keys and j in keys
        ]
        if not common:
            raise ComparisonError(
                f"{names[i]} adapts {listed(list(adapters[i].places.values()))}, but {names[j]} "
                f"{listed(list(adapters[j].places.values()))}: no module in common"
            )
        alone = sum((i in keys) != (j in keys) for keys in modules.values())
        pair = _pair(names[i], names[j], (units[i], units[j]), common, alone)
        cosines[i, j] = cosines[j, i] = pair.cosine
        pairs.append(pair)
    notes = list(_alone(modules, names))
    for place, adapter in enumerate(adapters):
        if not any(update.singular_values().any() for update in adapter.updates.values()):
            cosines[place, place] = np.nan
            notes.append(f"{names[place]}: every update is zero, so it has no cosines")
    return AdapterComparison(names, cosines, pairs, notes)


@dataclass(frozen=True, eq=False)
class _Common:
    """A module that two adapters have, and their indices in its overlaps."""

    path: str
    key: ComponentKey
    shape: tuple[int, int]
    overlaps: DirectionOverlaps
    one: int
    two: int


def _pair(first: str, second: str, units: tuple[int, int], common: Sequence[_Common], alone: int) -> AdapterPair:
    import pandas as pd

    table = pd.DataFrame([_row(one) for one in common])
    energy, other = table["norm"] ** 2, table["norm_other"] ** 2
    whole, whole_other = energy.sum() or np.nan, other.sum() or np.nan
    weight = (energy / whole + other / whole_other) / 2
    least = np.sqrt(table[["overwritten", "overwritten_other"]].min(axis=1))
    table["conflict"] = weight * (least - table["cosine"]) / 2
    inner = table.pop("inner").sum()
    deviation = np.sqrt((energy * other * table["deviation_cosine"] ** 2).sum() / whole / whole_other)
    equal = units[0] == units[1] and bool(np.isclose([inner, inner], [whole, whole_other], rtol=1e-9).all())
    for name, unit in zip(("norm", "norm_other"), units, strict=True):
        table[name] = np.ldexp(table[name], unit)
    apart = units[1] - units[0]
    return AdapterPair(
        first=first,
        second=second,
        modules=table.sort_values("conflict", ascending=False, ignore_index=True),
        angles=_angles(common),
        grids={side: _mean_grid(common, side) for side in SIDES},
        cosine=float(np.clip(inner / np.sqrt(whole * whole_other), -1, 1)),
        deviation=float(deviation),
        overwritten=(
            float((table["overwritten"] * energy).sum() / whole),
            float((table["overwritten_other"] * other).sum() / whole_other),
        ),
        null=(
            float((table["null_overwritten"] * energy).sum() / whole),
            float((table["null_overwritten_other"] * other).sum() / whole_other),
        ),
        kept=(float(1 + np.ldexp(inner / whole, apart)), float(1 + np.ldexp(inner / whole_other, -apart))),
        equal=equal,
        alone=alone,
    )


def _row(common: _Common) -> dict[str, Any]:
    found, i, j, (out, in_) = common.overlaps, common.one, common.two, common.shape
    sizes: dict[Side, int] = {"inputs": in_, "outputs": out}
    rank, other = found.ranks[i], found.ranks[j]
    norms = [float(np.linalg.norm(found.sigma[place])) for place in (i, j)]
    inner = float((found.block("outputs", i, j) * found.block("inputs", i, j)).T @ found.sigma[i] @ found.sigma[j])
    row: dict[str, Any] = {
        "module": common.key.module, "layer": common.key.unit, "path": common.path, "size_outputs": out,
        "size_inputs": in_, "rank": rank, "rank_other": other, "norm": norms[0], "norm_other": norms[1],
        "inner": inner, "cosine": inner / (norms[0] * norms[1]) if rank and other else np.nan,
        "deviation_cosine": 1 / np.sqrt(out * in_),
    }  # fmt: skip
    for side in SIDES:
        angles = found.angles(side, i, j)
        row |= {
            f"phi_{side}": found.similarity(side, i, j)[-1, -1] if rank and other else np.nan,
            f"chance_{side}": max(rank, other) / sizes[side],
            f"angle_{side}": angles[0] if len(angles) else np.nan,
            f"within_{side}": found.energy_within(i, j, side),
            f"within_{side}_other": found.energy_within(j, i, side),
            f"null_{side}": other / sizes[side],
            f"null_{side}_other": rank / sizes[side],
        }
    return row | {
        "overwritten": found.energy_within(i, j, "both"),
        "overwritten_other": found.energy_within(j, i, "both"),
        "null_overwritten": other**2 / (out * in_),
        "null_overwritten_other": rank**2 / (out * in_),
    }


def _angles(common: Sequence[_Common]) -> DataFrame:
    import pandas as pd

    rows = [
        [one.key.module, one.key.unit, one.path, side, place, angle]
        for one in common
        for side in SIDES
        for place, angle in enumerate(one.overlaps.angles(side, one.one, one.two).tolist(), start=1)
    ]
    return pd.DataFrame(rows, columns=["module", "layer", "path", "side", "k", "angle"])


def _mean_grid(common: Sequence[_Common], side: Side) -> NDArray[np.float64]:
    grids = [one.overlaps.similarity(side, one.one, one.two) for one in common]
    grids = [grid for grid in grids if grid.size]
    if not grids:
        return np.empty((0, 0))
    rows, columns = (min(grid.shape[axis] for grid in grids) for axis in (0, 1))
    return np.asarray(np.mean([grid[:rows, :columns] for grid in grids], axis=0))


def _common_modules(adapters: Sequence[AdapterUpdates], names: Sequence[str]) -> dict[str, dict[int, ComponentKey]]:
    """The adapters that have each module, by its path. Paths are compared from their ends, since prefixes differ."""
    known = {name: adapter.model for name, adapter in zip(names, adapters, strict=True) if adapter.model}
    bases = {model.rstrip("/").rpartition("/")[2].lower(): name for name, model in known.items()}
    if len(bases) > 1:
        one, two = list(bases.values())[:2]
        raise ComparisonError(
            f"{one} adapts {known[one]}, but {two} {known[two]}; compare adapters of the same base model; if the names "
            "mean the same model, set --model"
        )
    found: dict[str, dict[int, ComponentKey]] = {}
    by_end: dict[str, list[str]] = {}
    for place, adapter in enumerate(adapters):
        for module in adapter.modules:
            for key in adapter.keys(module):
                path = adapter.places[key].replace("/", ".")
                end = path.rpartition(".")[2]
                alike = [
                    one for one in by_end.get(end, []) if f".{one}".endswith(f".{path}") or path.endswith(f".{one}")
                ]
                if len(alike) != 1 or place in found[alike[0]]:
                    by_end.setdefault(end, []).append(path)
                    alike = [path]
                found.setdefault(alike[0], {})[place] = key
    return found


def _alone(modules: Mapping[str, Mapping[int, ComponentKey]], names: Sequence[str]) -> Sequence[str]:
    """Notes on modules that not all adapters have."""
    missing: dict[tuple[int, ...], list[str]] = {}
    for path, keys in modules.items():
        if len(keys) < len(names):
            missing.setdefault(tuple(sorted(keys)), []).append(path)
    return [
        f"{counted(len(paths), 'module')} only in {listed([names[place] for place in places])} ({listed(paths)}): "
        "left out of pairs without them"
        for places, paths in missing.items()
    ]


def _distinct(adapters: Sequence[AdapterUpdates]) -> list[str]:
    """The shortest unique names of adapters, with a number for one given twice."""
    places = [adapter.name for adapter in adapters]
    names: list[str] = []
    for place in places:
        name = short_name(place, dict.fromkeys(places))
        count = places[: len(names)].count(place)
        names.append(f"{name} (again)" if count == 1 else f"{name} (again, {count})" if count else name)
    return names
