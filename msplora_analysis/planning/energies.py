"""The energies behind a plan: of each rank of each module, as a share of that of its run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import ParameterError
from msplora_core.placement import stack_shape

if TYPE_CHECKING:
    from pandas import DataFrame, Series

SHARED = ("global", "mid")
"""Scales whose components serve several layers."""
_MOMENT = ["run", "epoch", "step"]


@dataclass(frozen=True, eq=False)
class Energies:
    """The energies of runs of one method, at one or more epochs of each.

    Args:
        modules: a row for each rank that a plan chooses: scale, stack, module, unit (missing if the units of a scale
            have one common rank), rank (that at the end), cost (parameters of one rank; NaN if unknown).
        moments: a row for each run and epoch: run, task, seed, epoch, step.
        shares: (moments, modules, K) energy of each rank as a share of its run and epoch, padded with zeros.
    """

    modules: DataFrame
    moments: DataFrame
    shares: NDArray[np.float64]

    @property
    def sized(self) -> bool:
        """Whether the parameters of all modules are known."""
        return bool(self.modules["cost"].notna().all())

    @property
    def costs(self) -> NDArray[np.float64]:
        """The parameters of one rank of each module; 1 if they are not known for all modules."""
        return self.modules["cost"].to_numpy(np.float64) if self.sized else np.ones(len(self.modules))


def module_energies(table: DataFrame) -> Energies:
    """Return the energies of all runs and epochs of a table whose updates are not zero.

    With shared scales, all units of a scale and module type have a common rank, and the energy of a component counts
    once for each layer that it serves: all layers for the global one, an equal part for each of the mid scale.

    Args:
        table: a spectra table with runs of one model and method.

    Raises:
        ParameterError: if there are several models or methods, the runs do not adapt the same modules, or no run has
            an update other than zero.
    """
    _check_one_method(table)
    rows = table[table["scale"] != "total"]
    shared = bool(rows["scale"].isin(SHARED).any())
    keys = ["scale", "stack", "module", *([] if shared else ["unit"])]
    grouped = rows.groupby(keys, observed=True, sort=False)
    moments = rows.groupby(_MOMENT, observed=True, sort=False, dropna=False)
    place = moments.ngroup().to_numpy(), grouped.ngroup().to_numpy(), rows["k"].to_numpy() - 1
    relative = rows["sigma"] / moments["sigma"].transform("max").replace(0.0, 1.0)
    units = grouped["unit"].transform("nunique")
    energy = relative**2 * (_layers_served(table, rows) / units if shared else 1.0)
    shares = np.zeros((moments.ngroups, grouped.ngroups, int(rows["k"].max())))
    np.add.at(shares, place, energy.to_numpy())
    _check_same_modules(rows, place[0], place[1])
    final = moments.ngroup() == moments.ngroup().groupby(rows["run"]).transform("max")
    today = rows["rank"].where(final, 0).groupby([rows[key] for key in keys], observed=True, sort=False)
    modules = grouped.agg(units=("unit", "nunique")).assign(rank=today.max()).reset_index()
    modules["cost"] = modules["stack"].astype(str).map(_rank_parameters).to_numpy() * modules.pop("units").to_numpy()
    if shared:
        modules.insert(3, "unit", None)
    modules["unit"] = modules["unit"].astype("Int64")
    whole = shares.sum(axis=(1, 2))
    if not (whole > 0).any():
        raise ParameterError("table", expected="trained updates", found="updates that are all zero")
    columns = [name for name in ("run", "task", "seed", "epoch", "step") if name in rows]
    firsts = rows[columns].groupby(place[0], sort=True).first()
    return Energies(
        modules, firsts[whole > 0].reset_index(drop=True), shares[whole > 0] / whole[whole > 0][:, None, None]
    )


def _layers_served(table: DataFrame, rows: DataFrame) -> Series:
    """Number of layers that the components of a row's scale serve in total."""
    scale = "total" if (table["scale"] == "total").any() else "layer"
    layers = table[table["scale"] == scale].groupby("module", observed=False)["unit"].nunique()
    counts: Series = rows["module"].map(layers).astype(float)
    return counts


def _rank_parameters(stack: str) -> float:
    """Parameters of one rank of a module, out + in, from the shape at the end of its stack; NaN if there is none."""
    shape = stack_shape(stack)
    return float(sum(shape)) if shape else np.nan


def _check_one_method(table: DataFrame) -> None:
    if table.empty:
        raise ParameterError("table", expected="at least one spectrum", found="no rows")
    for name in ("model", "method"):
        found = [str(one) for one in table[name].unique()] if name in table else []
        if len(found) > 1:
            hint = "give the run directories of one method, as in runs/*-lora-r8-*" if name == "method" else ""
            raise ParameterError("table", expected=f"runs of one {name}", found=", ".join(found), hint=hint)


def _check_same_modules(rows: DataFrame, moment: NDArray[np.integer[Any]], module: NDArray[np.integer[Any]]) -> None:
    present = np.zeros((moment.max() + 1, module.max() + 1), dtype=bool)
    present[moment, module] = True
    if not present.all():
        runs = rows["run"].to_numpy()
        without = runs[np.flatnonzero(moment == np.argmin(present.all(axis=1)))[0]]
        expected = "runs that adapt the same modules, with the same scales"
        raise ParameterError("table", expected=expected, found=f"others in {without}")
