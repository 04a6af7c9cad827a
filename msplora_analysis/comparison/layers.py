"""KL between the layers of one method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.kernels import pairwise_spectral_kl
from msplora_analysis.measures import Average
from msplora_core.errors import ComparisonError

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class LayerDivergence:
    """Pairwise KL between the layers of one method.

    Args:
        model: the base model.
        method: the method.
        scale: `layer` for each layer's own component, `total` for the sum of all components that serve a layer.
        stack: the list of layers and the shape of its matrices; empty if unknown.
        modules: the averaged module types: those of the stack that are in the same layers.
        runs: number of averaged runs.
        ranks: the ranks of all spectra, ascending. If they differ, no verdict rests on the KL.
        length: number of leading singular values used: the lowest rank.
        layers: (L,) layer indices.
        kl: (L, L) nats, D(row ‖ column).
    """

    model: str
    method: str
    scale: str
    stack: str
    modules: tuple[str, ...]
    runs: int
    ranks: tuple[int, ...]
    length: int
    layers: NDArray[np.int64]
    kl: NDArray[np.float64]


def layer_divergences(
    table: DataFrame, *, scale: str = "layer", floor: float | None = None, average: Average = "spectra"
) -> list[LayerDivergence]:
    """Measure the pairwise KL between the layers of every method.

    Args:
        table: spectra of one epoch per run (see `measures.last_epochs`).
        scale: `layer` or `total`. For a method with layer components only, these are also its total.
        floor: as in `spectral_kl`.
        average: `spectra` averages singular values over modules, tasks and seeds, as in the paper, then measures;
            `measures` averages the KL of each run and module.

    Returns:
        One for each (model, method) and each set of module types of one stack in the same layers.
    """
    found = []
    for names, rows in layer_rows(table, scale).groupby(["model", "method"], observed=True, sort=False):
        model, method = (str(name) for name in names)
        for stack, modules, part in by_stack(rows):
            ranks = tuple(map(int, np.unique(part["rank"])))
            length = ranks[0]
            runs, spectra = layer_spectra(part, modules, length)
            kl = layer_divergence(spectra, floor, average)
            layers = np.unique(part["unit"].to_numpy()).astype(np.int64)
            found.append(LayerDivergence(model, method, scale, stack, modules, len(runs), ranks, length, layers, kl))
    return found


def layer_divergence(
    spectra: NDArray[np.float64], floor: float | None = None, average: Average = "spectra"
) -> NDArray[np.float64]:
    """Return the pairwise KL between layers, over runs and module types.

    Args:
        spectra: (runs, modules, L, length) singular values.
        floor, average: as in `layer_divergences`.

    Returns:
        (L, L) nats.
    """
    if average == "spectra":
        return pairwise_spectral_kl(spectra.mean(axis=(0, 1)), floor)
    mean: NDArray[np.float64] = pairwise_spectral_kl(spectra, floor).mean(axis=(0, 1))
    return mean


def adjacent_kl(kl: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the divergence between each layer and the next, the mean of both directions.

    Args:
        kl: (..., L, L) with D(i ‖ j) in row i, column j; or a difference of such.

    Returns:
        (..., L - 1) nats: (D(i ‖ i+1) + D(i+1 ‖ i)) / 2.

    Example:
        >>> adjacent_kl(np.array([[0.0, 1.0, 5.0], [3.0, 0.0, 1.0], [5.0, 1.0, 0.0]]))
        array([2., 1.])
    """
    kl = np.asarray(kl)
    with np.errstate(invalid="ignore"):
        return (np.diagonal(kl, 1, -2, -1) + np.diagonal(kl, -1, -2, -1)) / 2


def layer_spectra(rows: DataFrame, modules: tuple[str, ...], length: int) -> tuple[list[str], NDArray[np.float64]]:
    """Return the leading singular values of each run, module type and layer as one array.

    Args:
        rows: of a spectra table, with one epoch per run and one method.
        modules: module types, in the order of the result.
        length: number of singular values; at most the lowest rank.

    Returns:
        The runs, and their spectra (runs, modules, L, length).

    Raises:
        ComparisonError: if a run lacks a layer of a module that another has.
    """
    leading = rows[(rows["k"] <= length) & rows["module"].isin(modules)]
    runs = leading["run"].unique()
    counts = leading.groupby("run", observed=True, sort=False).size()
    units = leading["unit"].nunique()
    short = [str(run) for run, count in counts.items() if count != len(modules) * units * length]
    if short:
        raise ComparisonError(
            f"run {short[0]}: expected {units} layers of {', '.join(modules)}, as another run of the same method has; "
            "runs that differ in their modules or layers are not replicates"
        )
    places = [
        leading[column].map({name: number for number, name in enumerate(names)}).to_numpy(dtype=np.int64)
        for column, names in (("module", modules), ("run", runs))
    ]
    order = np.lexsort((leading["k"].to_numpy(), leading["unit"].to_numpy(), *places))
    sigma = leading["sigma"].to_numpy()[order].reshape(len(runs), len(modules), units, length)
    return [str(run) for run in runs], sigma


def layer_rows(table: DataFrame, scale: str) -> DataFrame:
    """Return the rows of a scale; for a method with layer components only, these are also its total."""
    rows = table[table["scale"] == scale]
    if scale == "total":
        kinds = table.groupby("run", observed=True)["scale"].unique()
        plain = [run for run, scales in kinds.items() if set(scales) == {"layer"}]
        if plain:
            import pandas as pd

            rows = pd.concat([rows, table[table["run"].isin(plain)]])
    return rows


def layers_of_modules(rows: DataFrame) -> dict[str, tuple[int, ...]]:
    """Return the layers of each module type, in the order of the rows."""
    pairs = rows[["module", "unit"]].drop_duplicates()
    units = pairs.groupby("module", observed=True, sort=False)["unit"]
    return {str(module): tuple(sorted(found)) for module, found in units}


def by_stack(rows: DataFrame) -> Iterator[tuple[str, tuple[str, ...], DataFrame]]:
    """Split rows into groups that are averaged together: of one stack, with module types in the same layers.

    Args:
        rows: of a spectra table, of one method.

    Yields:
        The stack, the module types and their rows.
    """
    for stack, part in rows.groupby("stack", observed=True, sort=False):
        together: dict[tuple[int, ...], list[str]] = {}
        for module, units in layers_of_modules(part).items():
            together.setdefault(units, []).append(module)
        for modules in together.values():
            yield str(stack), tuple(modules), part[part["module"].isin(modules)]
