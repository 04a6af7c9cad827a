"""Null models for the numbers of `measure`: drawn for each component, averaged and measured in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.kernels import gaussian_null, null_place, rotation_null
from msplora_analysis.measures import BY, COMPONENT, KS, Average, measure, measures_of, whole_spectra
from msplora_core.placement import stack_shape

if TYPE_CHECKING:
    from pandas import DataFrame

NULL_COLUMNS = ("measure", "value", "null_mean", "null_low", "null_high", "place", "draws", "null", "null_seed")
MOST_DRAWS, LEAST_DRAWS = 200, 20
_WORK = 5e6
"""Limit of Σ rank² over all draws of a run, about half a second. All runs together may take ten times that."""
_GROUP = ["model", "method", "stack"]


def null_measures(
    table: DataFrame,
    by: Sequence[str] = BY,
    *,
    average: Average = "spectra",
    ks: Sequence[int] = KS,
    energy: float = 0.9,
    draws: int | None = None,
    seed: int = 0,
) -> DataFrame:
    """Return a null model for each number of `measure`: mean, 95% range, and the number's place in it.

    Every component is drawn, and each draw is averaged and measured in the same way as the spectra. The null is the
    same for all components of a method in a stack: `rotation` (see `rotation_null`) if the singular values of both
    factors are known for all of them; else `gaussian` (see `gaussian_null`; each draw scaled to the component's Σσ)
    if their shape is known and their rank is below it; else there is none.

    Args:
        table: a spectra table from `load_spectra(path, factors=True)`, or some of its rows.
        by, average, ks, energy: as for `measure`.
        draws: number of draws; by default 200, or as many as take half a second a run and five seconds in all, at
            least 20.
        seed: of the random numbers.

    Returns:
        A row for each defined number of `measure` that has a null: `by`, rank, measure (a column of `measure`),
        value, null_mean, null_low and null_high (2.5% and 97.5% of the draws), place (share of the draws below the
        value, see `null_place`), draws, null, null_seed.

    Raises:
        ParameterError: as `measure`, and if `draws` is below 1.

    Example:
        >>> import pandas as pd
        >>> one = pd.DataFrame({"run": "a", "model": "m", "method": "lora-r2", "epoch": 1, "step": 9, "scale": "layer",
        ...                     "stack": "", "module": "query", "unit": 0, "rank": 2, "k": [1, 2], "sigma": [4.0, 1.0],
        ...                     "sigma_B": [2.0, 1.0], "sigma_A": [2.0, 1.0], "scaling": 1.0})
        >>> null_measures(one, by=["scale"], ks=[1]).query("measure == 'm_eff_1'")[["value", "place", "draws", "null"]]
           value  place  draws      null
        0    0.8    1.0    200  rotation
    """
    drawn = DrawnSpectra.of(table, draws, seed)
    return drawn.beside(measure(table, by, average=average, ks=ks, energy=energy), by, average, ks, energy)


@dataclass(frozen=True, eq=False)
class DrawnSpectra:
    """Null spectra of components.

    Args:
        components: one row each, with the columns of the table that do not depend on k, and `null`.
        spectra: (draws, rank) of each component.
        draws: number of draws.
        seed: of the random numbers.
    """

    components: DataFrame
    spectra: list[NDArray[np.float64]]
    draws: int
    seed: int

    @classmethod
    def of(cls, table: DataFrame, draws: int | None = None, seed: int = 0) -> DrawnSpectra:
        """Draw every component of a spectra table that has a null (see `null_measures`).

        Args:
            table: with the columns of factors, from `load_spectra(path, factors=True)`.
            draws, seed: as for `null_measures`.
        """
        import pandas as pd

        draws = _affordable(table) if draws is None else draws
        columns = [name for name in table.columns if name not in ("k", "sigma", "sigma_B", "sigma_A")]
        parts: list[DataFrame] = []
        spectra: list[NDArray[np.float64]] = []
        for names, rows in table.groupby(_GROUP, observed=True, dropna=False, sort=False):
            rows = rows.sort_values([*COMPONENT, "k"])
            for rank, places in whole_spectra(rows):
                if rank > 1:  # a spectrum of one value has no shape
                    kind, drawn = _drawn(rows, places, str(names[-1]), draws, seed)
                    parts.append(rows.iloc[places[: len(drawn), 0]][columns].assign(null=kind))
                    spectra.extend(drawn)
        none = table.iloc[:0][columns].assign(null="")
        return cls(pd.concat(parts, ignore_index=True) if parts else none, spectra, draws, seed)

    def beside(
        self,
        measured: DataFrame,
        by: Sequence[str],
        average: Average = "spectra",
        ks: Sequence[int] = KS,
        energy: float = 0.9,
    ) -> DataFrame:
        """Return the rows of `null_measures` for the result of `measure` with the same arguments."""
        import pandas as pd

        keys = [*by, "rank"]
        observed = {_key(row): place for place, row in enumerate(measured[keys].itertuples(index=False))}
        found = []
        for names, rows in self.components.groupby(keys, observed=True, dropna=False, sort=False):
            place = observed.get(_key(names), -1)
            if place < 0:
                continue
            for name, values in self._measured(rows.index, average, ks, energy).items():
                value = measured[name].iloc[place]
                if value == value and not np.isnan(values).any():
                    low, high = np.quantile(values, [0.025, 0.975])
                    numbers = (values.mean(), low, high, float(null_place(value, values)))
                    kind = rows["null"].iloc[0]
                    found.append((place, name, float(value), *numbers, self.draws, kind, self.seed))
        found.sort(key=lambda row: row[0])  # the order of `measured`
        left = measured[keys].iloc[[row[0] for row in found]].reset_index(drop=True)
        return left.join(pd.DataFrame([row[1:] for row in found], columns=list(NULL_COLUMNS)))

    def _measured(
        self, places: Any, average: Average, ks: Sequence[int], energy: float
    ) -> dict[str, NDArray[np.float64]]:
        """The measures of each draw, (draws,), averaged over some components."""
        spectra = np.stack([self.spectra[place] for place in places])
        if average == "spectra":
            return measures_of(spectra.mean(axis=0), ks, energy)
        found = {}
        for name, values in measures_of(spectra, ks, energy).items():
            defined = values[~np.isnan(values).any(axis=1)]  # `measure` leaves zero spectra out, too
            found[name] = defined.mean(axis=0) if len(defined) else np.full(self.draws, np.nan)
        return found


def _drawn(
    rows: DataFrame, places: NDArray[np.intp], stack: str, draws: int, seed: int
) -> tuple[str, NDArray[np.float64]]:
    """The null of some components of one rank, (n, draws, rank); n = 0 if there is none."""
    sigma, rank = rows["sigma"].to_numpy()[places], places.shape[1]
    if "sigma_B" in rows and not rows[["sigma_B", "sigma_A"]].isna().to_numpy().any():
        of_B, of_A = (rows[name].to_numpy()[places] for name in ("sigma_B", "sigma_A"))
        size_B, size_A = (of.max(axis=1, keepdims=True) for of in (of_B, of_A))
        unit = rotation_null(of_B / np.maximum(size_B, _TINY), of_A / np.maximum(size_A, _TINY), draws, seed)
        scaling = rows["scaling"].to_numpy()[places[:, :1]]
        scaling = abs(scaling) if np.isfinite(scaling).all() else np.ones_like(scaling)
        with np.errstate(divide="ignore"):
            size = np.log(size_B) + np.log(size_A) + np.log(scaling)  # a product could exceed float64
        largest = size.max()
        return "rotation", unit * np.exp(size - (largest if np.isfinite(largest) else 0.0))[:, :, None]
    out, in_ = stack_shape(stack) or (0, 0)
    if rank < min(out, in_):
        unit = gaussian_null(out, in_, rank, len(sigma) * draws, seed).reshape(len(sigma), draws, rank)
        size = sigma.sum(axis=1) / max(sigma.sum(axis=1).max(), _TINY)
        return "gaussian", unit * (size[:, None] / unit.sum(axis=-1))[:, :, None]
    return "", np.empty((0, draws, rank))


_TINY = float(np.finfo(np.float64).tiny)


def _affordable(table: DataFrame) -> int:
    """Number of draws that take about half a second a run and five seconds in all."""
    first = table[table["k"] == 1]
    work = (first["rank"].astype(float) ** 2).groupby(first["run"], observed=True).sum()
    return int(np.clip(_WORK / max(1.0, work.max(), work.sum() / 10), LEAST_DRAWS, MOST_DRAWS)) if len(work) else 0


def _key(names: Any) -> tuple[str, ...]:
    """Values as strings, so that missing ones are equal."""
    return tuple(map(str, names))
