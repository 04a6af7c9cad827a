"""A plan: the rank of each module, and the expected loss of energy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.checked_runs import checked_runs
from msplora_analysis.measures import last_epochs
from msplora_analysis.planning.energies import Energies, module_energies
from msplora_analysis.planning.rank_rules import RankRule
from msplora_analysis.planning.rank_stability import LAST_EPOCHS, plan_stability
from msplora_analysis.remarks import broken_notes
from msplora_core.linalg.truncation import ranks_holding
from msplora_core.wording import listed

if TYPE_CHECKING:
    from pandas import DataFrame, Series

USED_UP = 0.95
"""A module that needs all ranks of the probe to keep this share of its energy could use more ranks."""

_LOW_RANK = ("lora", "msplora", "rslora", "dora", "mspdora", "adalora", "pissa", "olora", "corda", "loftq")


class PlannedRank(NamedTuple):
    """A row of a plan.

    Args:
        scale: of the component.
        module: its module type.
        unit: its unit; None if all units of the scale have a common rank.
        before: rank of the probe.
        rank: planned rank.
    """

    scale: str
    module: str
    unit: int | None
    before: int
    rank: int

    @property
    def label(self) -> str:
        """A short name: `query 3`, or with the scale if its units have a common rank."""
        return f"{self.scale} {self.module}" if self.unit is None else f"{self.module} {self.unit}"


@dataclass(frozen=True, eq=False)
class Plan:
    """The result of `plan_ranks`.

    Args:
        modules: a row a module: scale, stack, module, unit (missing if all units of a scale have a common rank),
            rank_before (of the probe), rank (planned), parameters_before and parameters (NaN if shapes are unknown),
            energy (share of the total), kept (share of its own energy that the plan keeps), kept_uniform (likewise for
            the uniform plan of equal parameters), used_up (whether the plan, or 95 % of its energy, takes all ranks of
            the probe).
        rule: how the ranks were chosen.
        uniform_rank: of the uniform plan of equal parameters; may be fractional.
        stability: similarity of the plans of single runs (see `plan_stability`).
        notes: remarks on the plan, one sentence each.
        energies: the energies behind the plan, averaged over runs.
    """

    modules: DataFrame
    rule: RankRule
    uniform_rank: float
    stability: DataFrame
    notes: list[str]
    energies: Energies

    @property
    def loss(self) -> float:
        """Share of the total energy that the plan is expected to lose, from 0 to 1."""
        return _loss(self.modules["energy"], self.modules["kept"])

    @property
    def uniform_loss(self) -> float:
        """The same for the uniform plan of equal parameters."""
        return _loss(self.modules["energy"], self.modules["kept_uniform"])

    @property
    def worst(self) -> tuple[str, float]:
        """The module that loses the largest share of its own energy, and that share."""
        return _worst(self.ranks, self.modules["kept"])

    @property
    def uniform_worst(self) -> tuple[str, float]:
        """The same for the uniform plan."""
        return _worst(self.ranks, self.modules["kept_uniform"])

    @property
    def ranks(self) -> list[PlannedRank]:
        """The ranks in the rows of `modules`."""
        columns = self.modules[["scale", "module", "unit", "rank_before", "rank"]].astype(object)
        return [
            PlannedRank(str(scale), str(module), None if unit != unit else int(unit), int(before), int(rank))
            for scale, module, unit, before, rank in columns.where(columns.notna(), np.nan).to_numpy().tolist()
        ]

    @property
    def gains(self) -> Series:
        """Planned rank minus that of the uniform plan, by module, from the largest gain to the largest loss."""
        gains = self.modules["rank"] - np.minimum(self.uniform_rank, self.modules["rank_before"])
        return gains.set_axis([one.label for one in self.ranks]).sort_values(ascending=False, kind="stable")

    def shuffled(self, seed: int) -> Plan:
        """Return a control: the ranks permuted at random among modules of the same scale, size and rank.

        Args:
            seed: of the permutation.
        """
        ranks = self.modules["rank"].to_numpy().copy()
        alike = [self.modules["scale"].astype(str), self.modules["parameters_before"], self.modules["rank_before"]]
        random = np.random.default_rng(seed)
        for rows in self.modules.groupby(alike, dropna=False, sort=False).indices.values():
            ranks[rows] = random.permutation(ranks[rows])
        note = f"A control: the planned ranks, permuted at random among modules, seed {seed}."
        modules, uniform = _modules(self.energies, ranks)
        return replace(self, modules=modules, uniform_rank=uniform, notes=[note, *self.notes])

    def __repr__(self) -> str:
        ranks, mean = self.modules["rank"], self.modules["rank"].mean()
        return (
            f"Plan({len(ranks)} modules, ranks {ranks.min()} to {ranks.max()}, mean {mean:.3g}; loses "
            f"{self.loss:.1%} of the energy, uniform rank {self.uniform_rank:.3g} {self.uniform_loss:.1%}; {self.rule})"
        )

    def _repr_html_(self) -> str:
        """Return the modules and the notes, for notebooks."""
        lines = "".join(f"<li>{escape(line)}</li>" for line in self.notes)
        table = self.modules.to_html(index=False, float_format="{:.3g}".format, na_rep="–", border=0)
        return f"<p>{escape(repr(self))}</p>{table}<ul>{lines}</ul>"


def plan_ranks(
    table: DataFrame,
    *,
    mean_rank: float | None = None,
    parameters: float | None = None,
    keep: float | None = None,
    energy: float | None = None,
    least: int = 1,
    per_module: bool = False,
) -> Plan:
    """Plan the ranks of a training from the energies Σσ² in the spectra of an earlier one (a probe).

    Several runs are weighted equally, each at its last epoch. Under a budget, the ranks are the greedy optimum over all
    modules (see `allocate_ranks`).

    Args:
        table: a spectra table from `load_spectra`, with runs of one model and method.
        mean_rank: budget: the number of parameters of this rank in every module.
        parameters: budget: the number of parameters itself.
        keep: budget: a share of the probe's parameters, above 0 and at most 1.
        energy: instead of a budget, for each module the least rank that keeps this share of its own energy.
        least: the lowest rank of a module; 0 may leave modules out.
        per_module: weight modules equally: the largest loss of a module falls, the total loss rises.

    Returns:
        A `Plan`; its notes begin with those of the table. Without any of the first four options, the smallest one that
        keeps 95 % of the total energy.

    Raises:
        ParameterError: for several models or methods in the table, a budget that cannot be met, or options that
            exclude each other.

    Example:
        >>> import pandas as pd
        >>> rows = [("query", 0, 1, 3.0), ("query", 0, 2, 2.0), ("value", 0, 1, 1.0), ("value", 0, 2, 0.1)]
        >>> table = pd.DataFrame(rows, columns=["module", "unit", "k", "sigma"])
        >>> table = table.assign(run="a", epoch=1.0, step=9, scale="layer", stack="layer 8x8", rank=2)
        >>> plan_ranks(table, mean_rank=1.5).modules[["module", "rank_before", "rank", "parameters"]]
          module  rank_before  rank  parameters
        0  query            2     2        32.0
        1  value            2     1        16.0
    """
    rule = RankRule(mean_rank, parameters, keep, energy, least, per_module)
    found = module_energies(table)
    latest = _latest(found, 1)
    whole = replace(latest, shares=latest.shares.mean(axis=0, keepdims=True))
    modules, uniform = _modules(whole, rule.ranks(whole, whole.shares[0]))
    stability = plan_stability(_latest(found, LAST_EPOCHS), rule)
    plan = Plan(modules, rule, uniform, stability, [], whole)
    notes = [*table.attrs.get("notes", ()), *_broken_notes(table), *_size_notes(found), *_method_notes(table)]
    notes += [*_probe_notes(plan), *_run_notes(table, found.moments)]
    return replace(plan, notes=notes)


def _latest(energies: Energies, count: int) -> Energies:
    """The last epochs of each run, at most `count`."""
    chosen = energies.moments.groupby("run", observed=True, sort=False).cumcount(ascending=False) < count
    kept = chosen.to_numpy()
    return replace(energies, moments=energies.moments[kept].reset_index(drop=True), shares=energies.shares[kept])


def _modules(energies: Energies, ranks: NDArray[np.intp]) -> tuple[DataFrame, float]:
    """The modules under a plan, and the rank of the uniform plan of equal cost."""
    shares, costs, most = energies.shares[0], energies.costs, energies.modules["rank"].to_numpy()
    own = shares.sum(axis=1)
    levels = np.arange(shares.shape[1] + 1)
    kept = np.concatenate([np.zeros((len(own), 1)), np.cumsum(shares, axis=1)], axis=1)
    kept = np.divide(kept, own[:, None], out=np.ones_like(kept), where=own[:, None] > 0)
    uniform = float(np.interp(costs @ ranks, costs @ np.minimum(levels, most[:, None]), levels))
    lower = min(int(uniform), len(levels) - 2)
    kept_uniform = kept[:, lower] + (uniform - lower) * (kept[:, lower + 1] - kept[:, lower])
    modules = energies.modules.rename(columns={"rank": "rank_before"}).drop(columns="cost")
    modules["rank"] = ranks
    modules["parameters_before"] = (energies.modules["cost"] * most).to_numpy()
    modules["parameters"] = (energies.modules["cost"] * ranks).to_numpy()
    modules["energy"] = own
    modules["kept"] = kept[np.arange(len(ranks)), ranks]
    modules["kept_uniform"] = kept_uniform
    modules["used_up"] = (own > 0) & ((ranks_holding(shares, USED_UP) == most) | (ranks == most))
    return modules, uniform


def _loss(energy: Series, kept: Series) -> float:
    return float((energy * (1 - kept)).sum())


def _worst(ranks: list[PlannedRank], kept: Series) -> tuple[str, float]:
    place = int(np.argmin(kept.to_numpy()))
    return ranks[place].label, 1 - float(kept.iloc[place])


def _broken_notes(table: DataFrame) -> list[str]:
    """Notes on exploded modules, which take most of the energy and so most of the ranks."""
    import pandas as pd

    final = last_epochs(table if "method" in table else table.assign(method=""))
    found = checked_runs(final, pd.DataFrame(columns=["run", "metric", "value"]))
    return broken_notes(found[found["kind"] == "exploded"])


def _size_notes(energies: Energies) -> list[str]:
    if energies.sized:
        return []
    return ["The shapes of some modules are unknown: all ranks count equally, without numbers of parameters."]


def _method_notes(table: DataFrame) -> list[str]:
    method = str(table["method"].iloc[0]) if "method" in table else "lora"
    if method.partition("-")[0] in _LOW_RANK:
        return []
    return [f"The probe is of {method}: numbers of parameters are those of LoRA with the same ranks."]


def _probe_notes(plan: Plan) -> list[str]:
    used = [one.label for one, used in zip(plan.ranks, plan.modules["used_up"], strict=True) if used]
    if not used:
        return []
    return [
        f"{len(used)} of {len(plan.modules)} modules use all ranks of the probe ({listed(used, 6)}). A plan cannot "
        "give them more: train a probe of higher rank if they matter."
    ]


def _run_notes(table: DataFrame, moments: DataFrame) -> list[str]:
    lost = [str(run) for run in table["run"].unique() if run not in set(moments["run"])]
    return [f"{', '.join(lost)}: left out, since all updates are zero."] if lost else []
