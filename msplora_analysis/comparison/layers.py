"""How far apart the layers of one method are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.kernels import pairwise_spectral_kl

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class LayerDivergence:
    """Pairwise KL between the layers of one method.

    Args:
        model: the base model.
        method: whose layers.
        scale: which spectra: `layer` for each layer's own component, `total` for all that acts on a layer.
        modules: the module types averaged over; types that stand in other layers are another stack.
        length: how many leading singular values were taken: the lowest rank among them.
        layers: (L,) layer indexes.
        kl: (L, L) nats, D(row ‖ column).
    """

    model: str
    method: str
    scale: str
    modules: tuple[str, ...]
    length: int
    layers: NDArray[np.int64]
    kl: NDArray[np.float64]


def layer_divergences(table: DataFrame, *, scale: str = "layer", floor: float | None = None) -> list[LayerDivergence]:
    """Pairwise KL between the layers of every method.

    As in the paper, singular values are averaged over modules, tasks and seeds first.

    Args:
        table: spectra of one epoch per run (see `measures.last_epochs`).
        scale: `layer` or `total`. A method with layer components only has these as its total, too.
        floor: as in `spectral_kl`.

    Returns:
        One for each (model, method) and each set of module types of one stack that stand in the same layers.
    """
    found = []
    for names, rows in layer_rows(table, scale).groupby(["model", "method"], observed=True, sort=False):
        model, method = (str(name) for name in names)
        for modules, part in by_stack(rows):
            length = int(part["rank"].min())
            layers = np.unique(part["unit"].to_numpy()).astype(np.int64)
            kl = pairwise_spectral_kl(mean_by_layer(part[part["k"] <= length]), floor)
            found.append(LayerDivergence(model, method, scale, modules, length, layers, kl))
    return found


def adjacent_kl(kl: NDArray[np.float64]) -> NDArray[np.float64]:
    """The divergence between each layer and the next, the mean of both directions.

    Args:
        kl: (..., L, L) with D(i ‖ j) in row i, column j; or a difference of such.

    Returns:
        (..., L - 1) nats: (D(i ‖ i+1) + D(i+1 ‖ i)) / 2.

    Example:
        >>> adjacent_kl(np.array([[0.0, 1.0, 5.0], [3.0, 0.0, 1.0], [5.0, 1.0, 0.0]]))
        array([2., 1.])
    """
    kl = np.asarray(kl)
    return (np.diagonal(kl, 1, -2, -1) + np.diagonal(kl, -1, -2, -1)) / 2


def mean_by_layer(rows: DataFrame) -> NDArray[np.float64]:
    """(L, M): singular values averaged over everything but the layer, of rows cut to one length."""
    mean = rows.groupby(["unit", "k"], observed=True)["sigma"].mean()
    return mean.to_numpy().reshape(-1, int(rows["k"].max()))


def layer_rows(table: DataFrame, scale: str) -> DataFrame:
    """The rows that hold a spectrum for each layer; layer components are the total of a method that has no others."""
    rows = table[table["scale"] == scale]
    if scale == "total":
        kinds = table.groupby("run", observed=True)["scale"].unique()
        plain = [run for run, scales in kinds.items() if set(scales) == {"layer"}]
        if plain:
            import pandas as pd

            rows = pd.concat([rows, table[table["run"].isin(plain)]])
    return rows


def layers_of_modules(rows: DataFrame) -> dict[str, tuple[int, ...]]:
    """By module type, in the order of the model, the layers that it stands in."""
    pairs = rows[["module", "unit"]].drop_duplicates().sort_values(["module", "unit"])
    return {str(module): tuple(units) for module, units in pairs.groupby("module", observed=True)["unit"]}


def by_stack(rows: DataFrame) -> Iterator[tuple[tuple[str, ...], DataFrame]]:
    """Split rows into those that are averaged together: of one stack, with module types in the same layers.

    Args:
        rows: of a spectra table, one method's.

    Yields:
        The module types and their rows.
    """
    for _, part in rows.groupby("stack", observed=True, sort=False):
        together: dict[tuple[int, ...], list[str]] = {}
        for module, units in layers_of_modules(part).items():
            together.setdefault(units, []).append(module)
        for modules in together.values():
            yield tuple(modules), part[part["module"].isin(modules)]
