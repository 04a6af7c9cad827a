"""Limits on the ranks of a conversion: for each module, or a budget for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path

import numpy as np

from msplora_core.components import Component, ComponentKey, component_spectra
from msplora_core.conversion.endpoints import low_rank_factors
from msplora_core.conversion.plain import PlainModule
from msplora_core.errors import FileError, ParameterError, UnsupportedAdapterError
from msplora_core.formats import Adapter
from msplora_core.formats.peft.plan_file import is_pyramid, planned_ranks, read_rank_plan
from msplora_core.formats.stored import StoredUpdate
from msplora_core.linalg.allocation import allocate_ranks, rank_budget
from msplora_core.linalg.truncation import check_limit


@dataclass(frozen=True)
class Limits:
    """At most one of the limits of `convert_adapter`.

    Raises:
        ParameterError: for more than one, or an invalid rank or energy.
    """

    rank: int | None = None
    energy: float | None = None
    mean_rank: float | None = None
    parameters: float | None = None
    plan: str | PathLike[str] | None = None

    def __post_init__(self) -> None:
        names = [field.name for field in fields(self)]
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ParameterError(", ".join(names), expected="at most one of these", found=", ".join(given))
        if self.rank is not None or self.energy is not None:
            check_limit(self.rank, self.energy)

    def ranks(self, adapter: Adapter, updates: Sequence[StoredUpdate], models: Sequence[str] = ()) -> Mapping[str, int]:
        """Return the largest rank of each module by its path; empty if ranks are not limited.

        Args:
            adapter: the adapter to convert.
            updates: of its modules.
            models: of a pipeline, the first names of the paths.

        Raises:
            ParameterError: for a budget that cannot be met, or a plan that cannot be read or is of other modules.
            UnsupportedAdapterError: if an update is not a product of two factors; for a limit other than a rank with
                adapted parameters.
        """
        wrapper = next((stored.layout.wrapper for stored in updates if stored.layout.wrapper), "")
        if wrapper and any(getattr(self, field.name) is not None for field in fields(self) if field.name != "rank"):
            raise UnsupportedAdapterError(
                f"{adapter.path}: expected one rank for all modules, since the experts of a parameter have one, found "
                f"another limit for {wrapper} (target_parameters)"
            )
        if self.rank is not None:
            return dict.fromkeys((stored.path for stored in updates), self.rank)
        if self.plan is not None:
            return _planned(Path(self.plan), [stored.path for stored in updates], models)
        if self.mean_rank is None and self.parameters is None:
            return {}
        spectra = component_spectra(
            Component(ComponentKey("layer", "module", place), low_rank_factors(adapter, stored))
            for place, stored in enumerate(updates)
        )
        most = np.array([len(sigma) for sigma in spectra.values()])
        squares = np.zeros((len(most), most.max()))
        largest = max(float(sigma.max()) for sigma in spectra.values()) or 1.0
        for row, sigma in zip(squares, spectra.values(), strict=True):
            row[: len(sigma)] = (sigma / largest) ** 2
        costs = np.array([float(sum(stored.shape)) for stored in updates])
        budget = rank_budget(costs, most, mean_rank=self.mean_rank, parameters=self.parameters)
        found = allocate_ranks(squares, costs, most, budget=budget)
        return {stored.path: int(rank) for stored, rank in zip(updates, found, strict=True)}


def joint_error(modules: Sequence[PlainModule]) -> float:
    """Return the error of the truncation over several modules, relative to the updates in the Frobenius norm."""
    errors, norms = (np.array([getattr(one, name) for one in modules]) for name in ("error", "norm"))
    if not errors.any() or not norms.any():
        return 0.0
    shares = norms / norms.max()
    return float(np.linalg.norm(shares * errors) / np.linalg.norm(shares))


def _planned(folder: Path, paths: Sequence[str], models: Sequence[str]) -> dict[str, int]:
    """The rank of each module in a plan; 0 for those that it leaves out. A pipeline has a plan for each model."""
    if len(models) < 2:
        model = f"{models[0]}." if models else ""
        return {
            f"{model}{path}": rank for path, rank in _of_model(folder, [p.removeprefix(model) for p in paths]).items()
        }
    planned = [model for model in models if (folder / model).is_dir()]
    if not planned:
        raise ParameterError("plan", expected=f"a folder with one of {', '.join(models)}", found=str(folder))
    ranks = dict.fromkeys(paths, 0)
    for model in planned:
        own = [path for path in paths if path.startswith(f"{model}.")]
        ranks |= _planned(folder / model, own, [model])
    return ranks


def _of_model(path: Path, modules: Sequence[str]) -> dict[str, int]:
    try:
        plan = read_rank_plan(path)
        if is_pyramid(plan):
            raise ParameterError("plan", expected="ranks of LoRA", found="ranks of MSPLoRA")
        return planned_ranks(plan, modules)
    except FileError as error:
        raise ParameterError("plan", expected="the output of msplora-analyze plan --out", found=str(error)) from error
