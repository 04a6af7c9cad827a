"""Rules for choosing ranks: a budget for all modules, or a share of the energy of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.planning.energies import Energies
from msplora_core.errors import ParameterError
from msplora_core.linalg.allocation import allocate_ranks, rank_budget
from msplora_core.linalg.truncation import ranks_holding

DEFAULT_SHARE = 0.95


@dataclass(frozen=True)
class RankRule:
    """How ranks are chosen. At most one of the first four; by default the least budget that keeps 95 % of all energy.

    Args:
        mean_rank: budget: the number of parameters of this rank in every module.
        parameters: budget: the number of parameters itself.
        keep: budget: a share of the probe's parameters.
        energy: instead of a budget, for each module the least rank that keeps this share of its energy.
        least: the lowest rank of a module; 0 may leave modules out.
        per_module: weight modules equally, instead of by their energy.

    Raises:
        ParameterError: for more than one of the first four, or a value out of range.
    """

    mean_rank: float | None = None
    parameters: float | None = None
    keep: float | None = None
    energy: float | None = None
    least: int = 1
    per_module: bool = False

    def __post_init__(self) -> None:
        names = ("mean_rank", "parameters", "keep", "energy")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if len(given) > 1:
            raise ParameterError(", ".join(names), expected="at most one of these", found=", ".join(given))
        for name in ("keep", "energy"):
            if name in given and not 0 < given[name] <= 1:
                raise ParameterError(name, expected="a share above 0 and at most 1", found=given[name])
        if self.least < 0:
            raise ParameterError("least", expected="at least 0", found=self.least)
        if self.energy is not None and self.per_module:
            raise ParameterError("per_module", expected="a budget for all modules together", found="energy")

    def __str__(self) -> str:
        if self.energy is not None:
            return f"for each module, the least rank that keeps {100 * self.energy:g}% of its energy"
        named = {
            "the parameters of rank {:g} everywhere": self.mean_rank,
            "at most {:,.0f} parameters": self.parameters,
            "at most {:.3g} of the probe's parameters": self.keep,
        }
        budget = next((words.format(value) for words, value in named.items() if value is not None), None)
        weighted = ", modules weighted equally" if self.per_module else ""
        return (budget or f"the fewest ranks that keep {100 * DEFAULT_SHARE:g}% of all energy") + weighted

    def ranks(self, energies: Energies, shares: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the rank of each module.

        Args:
            energies: of the modules.
            shares: (modules, K) the energies to use.

        Raises:
            ParameterError: for a budget that cannot be met.
        """
        most, own = energies.modules["rank"].to_numpy(), shares.sum(axis=1, keepdims=True)
        if self.least > most.max():
            raise ParameterError(
                "least", expected=f"at most {most.max()}, the highest rank that is there", found=self.least
            )
        if self.energy is not None:
            lowest = np.where(own[:, 0] > 0, 1, 0)
            return np.clip(ranks_holding(shares, self.energy) * lowest, np.minimum(self.least, most), most)
        gains = np.divide(shares, own, out=np.zeros_like(shares), where=own > 0) if self.per_module else shares
        if self.parameters is not None and not energies.sized:
            raise ParameterError(
                "parameters", expected="spectra with the shapes of their modules", found="none", hint="give a mean rank"
            )
        budget = rank_budget(
            energies.costs,
            most,
            mean_rank=self.mean_rank,
            parameters=self.parameters,
            keep=self.keep,
            least=self.least,
        )
        share = DEFAULT_SHARE if budget is None else None
        return allocate_ranks(gains, energies.costs, most, budget=budget, share=share, least=self.least)
