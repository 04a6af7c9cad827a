"""Write an adapter on disk as the MSPLoRA adapter that comes closest to its updates. Does not need torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msplora_core.conversion.endpoints import (
    AdapterFiles,
    by_model,
    check_target,
    low_rank_factors,
    open_adapter,
    whole_updates,
    write_adapters,
)
from msplora_core.conversion.origin import PYRAMID_MAGNITUDE, origin_of
from msplora_core.conversion.shared import SharingModules, shared_configuration, sharing_modules
from msplora_core.errors import UnsupportedAdapterError
from msplora_core.formats import Adapter
from msplora_core.linalg.pyramid_fit import PyramidFit, fit_pyramid, rotated
from msplora_core.linalg.updates import LowRankUpdate
from msplora_core.pyramid import check_ranks

NULL_DRAWS = 3
"""Fits of randomly rotated layers, whose mean is the null. They vary by 0.0004 for twelve layers of 768²."""

Progress = Callable[[str, str, int, float], None]
"""Called with module type, what is fitted, number of the sweep, share explained."""


@dataclass(frozen=True)
class SharingFit:
    """How much of the updates of one module type a pyramid explains. All shares are of Σ_l ‖ΔW_l‖².

    Args:
        module: the module type.
        layers: number of its layers.
        shape: (out, in) of the updates.
        explained: by the pyramid; NaN if all updates are zero.
        null: by a pyramid fitted to the same updates with random singular vectors, mean of `NULL_DRAWS`; NaN if
            nothing can be shared: one layer, or no rank at the shared scales.
        layer_rank: by the layer scale only.
        own_ranks: by layer scales only, with the same number of parameters, allocated where they explain most.
        sweeps: of the fit.
        converged: whether the last sweep improved the fit too little to go on.
        zero: paths whose update is zero.
        null_spread: highest minus lowest draw of the null.
    """

    module: str
    layers: int
    shape: tuple[int, int]
    explained: float
    null: float
    layer_rank: float
    own_ranks: float
    sweeps: int
    converged: bool
    zero: tuple[str, ...] = ()
    null_spread: float = 0.0

    @property
    def gain(self) -> float:
        """(explained − null) / (1 − null); NaN if the null explains everything."""
        return (self.explained - self.null) / (1 - self.null) if self.null < 1 - 1e-9 else np.nan


@dataclass(frozen=True)
class PyramidConversion:
    """The result of a conversion to a pyramid.

    Args:
        fits: one for each module type.
        parameters: number of values in the written factors.
        parameters_before: number of values in the factors of the adapter.
        notes: remarks on the result, one sentence each.
    """

    fits: list[SharingFit]
    parameters: int
    parameters_before: int
    notes: tuple[str, ...] = ()


def convert_to_pyramid(
    path: str | PathLike[str],
    out: str | PathLike[str],
    *,
    ranks: tuple[int, int, int] = (8, 4, 2),
    groups: int | Sequence[int] | None = None,
    alpha: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> PyramidConversion:
    """Write an adapter as the MSPLoRA adapter of PEFT whose updates come closest to its own in the Frobenius norm.

    A good fit of the weights does not imply a good score. Components are float32 with scaling 1. A trained head and
    biases are kept; an adapter of a pipeline with several models becomes one folder for each. PEFT loads the result
    after `import msplora_core.adapter`. Reading it says that it was converted.

    Args:
        path: an adapter's folder or file in any format that `read_adapter` reads, `hf://owner/name`, a run
            directory, or a folder of checkpoints, whose end is converted: the adapter beside them, else the last.
        out: the folder to write; new or empty.
        ranks: of (global, mid, layer); 0 leaves a scale out.
        groups: number of groups of layers, or their boundaries; by default 3, or the number of layers if less.
        alpha: α, for files that do not hold it.
        seed: of the null's random directions.
        progress: called after each sweep of a fit.

    Returns:
        The fit of each module type, with its null.

    Raises:
        AdapterFileError: if the adapter cannot be read.
        UnsupportedAdapterError: if its updates are not low-rank products, its modules have no names, or it
            adapts a convolution with groups.
        FileError: if there are several adapters, or the folder cannot be written or is not empty.
        ParameterError: for invalid ranks, or groups that do not fit the layers.
    """
    ranks = check_ranks(ranks)
    target = Path(out)
    check_target(target)
    adapter, notes = open_adapter(path, alpha)
    origin = origin_of(adapter, PYRAMID_MAGNITUDE)
    if origin.configuration.get("target_parameters"):
        raise UnsupportedAdapterError(
            f"{adapter.path}: expected adapted modules alone, found adapted parameters (target_parameters)"
        )
    stored = {one.path: one for one in whole_updates(adapter)}
    modules = {
        model: sharing_modules({short: stored[long] for long, short in paths.items()}, ranks, groups)
        for model, paths in by_model(origin, stored).items()
    }
    fits: list[SharingFit] = []
    adapters = {}
    for model, sharing in modules.items():
        tensors: dict[str, NDArray[Any]] = {}
        for one in sharing:
            fit, components = _fitted(adapter, one, seed, progress)
            fits.append(fit)
            tensors |= one.tensors(components.components)
        adapters[model] = AdapterFiles(tensors, shared_configuration(origin.configuration, sharing, ranks, groups))
    write_adapters(target, origin, adapters, adapter.method)
    written = sum(one.parameters for sharing in modules.values() for one in sharing)
    before = sum(one.parameters for one, key in zip(adapter.updates, adapter.keys, strict=True) if key.scale != "total")
    return PyramidConversion(fits, written, before, (*notes, *adapter.notes, *origin.notes))


def _fitted(
    adapter: Adapter, sharing: SharingModules, seed: int, progress: Progress | None
) -> tuple[SharingFit, PyramidFit]:
    """The pyramid of one module type, and what to compare it with."""
    updates = [low_rank_factors(adapter, stored) for stored in sharing.updates]

    def fitted(given: Sequence[LowRankUpdate], what: str) -> PyramidFit:
        def told(sweep: int, explained: float) -> None:
            if progress is not None:
                progress(sharing.module, what, sweep, explained)

        return fit_pyramid(given, sharing.ranks, sharing.groups, progress=told)

    fit = fitted(updates, "the layers")
    shares = len(updates) > 1 and any(sharing.ranks[:2]) and not np.isnan(fit.explained)
    nulls = [
        fitted(rotated(updates, seed + draw), f"random directions {draw + 1}/{NULL_DRAWS}").explained
        for draw in range(NULL_DRAWS if shares else 0)
    ]
    spectra = [update.singular_values() for update in updates]
    largest = max(float(sigma[0]) for sigma in spectra) or 1.0
    squares = [np.square(sigma / largest) for sigma in spectra]
    total = sum(float(one.sum()) for one in squares) or np.nan
    budget = sharing.parameters // sum(sharing.updates[0].shape)
    report = SharingFit(
        module=sharing.module,
        layers=len(updates),
        shape=sharing.updates[0].shape,
        explained=fit.explained,
        null=float(np.mean(nulls)) if nulls else np.nan,
        layer_rank=sum(float(one[: sharing.ranks[2]].sum()) for one in squares) / total,
        own_ranks=float(np.sort(np.concatenate(squares))[::-1][:budget].sum()) / total,
        sweeps=len(fit.course),
        converged=fit.converged,
        zero=tuple(path for path, sigma in zip(sharing.paths, spectra, strict=True) if not sigma.any()),
        null_spread=max(nulls) - min(nulls) if nulls else 0.0,
    )
    return report, fit
