"""An adapter on disk, written as plain LoRA of PEFT for tools that support only LoRA. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

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
from msplora_core.conversion.origin import Origin, origin_of
from msplora_core.conversion.plain import PlainModule, plain_configuration, plain_module
from msplora_core.formats import Adapter
from msplora_core.formats.stored import StoredUpdate
from msplora_core.linalg.truncation import check_limit


@dataclass(frozen=True)
class Conversion:
    """What a conversion wrote.

    Args:
        modules: what was written, in natural order of the paths.
        notes: sentences that a user of the result should know.
    """

    modules: list[PlainModule]
    notes: tuple[str, ...] = ()


def convert_adapter(
    path: str | PathLike[str],
    out: str | PathLike[str],
    *,
    alpha: float | None = None,
    rank: int | None = None,
    energy: float | None = None,
) -> Conversion:
    """Write an adapter as plain LoRA of PEFT, with the same updates or with the best of lower rank.

    The scaling is folded into the factors, which are float32. A trained head and biases are taken over. An adapter
    of a diffusion pipeline with several models becomes one folder for each. The folder appears when all of it is
    written. PEFT's LoRA ignores dilation and padding modes of convolutions: merge such an adapter after loading it.

    Args:
        path: an adapter's folder or file in any format that `read_adapter` reads, `hf://owner/name`, a run
            directory, or a folder of checkpoints, of which the last is converted.
        out: the folder to write; new or empty.
        alpha: α, for files that do not hold it.
        rank: keep at most this many ranks of each module.
        energy: instead, keep at least this share of Σσ² of each module.

    Returns:
        The modules written, and notes.

    Raises:
        AdapterFileError: if the adapter cannot be read.
        UnsupportedAdapterError: if its updates are more than low-rank products, or its modules have no names; for a
            rank or an energy beside a convolution with groups.
        FileError: if there are several adapters, or the folder cannot be written or is not empty.
        ParameterError: for an invalid rank or energy.
    """
    if rank is not None or energy is not None:
        check_limit(rank, energy)
    target = Path(out)
    check_target(target)
    adapter, notes = open_adapter(path, alpha)
    origin = origin_of(adapter)
    modules = [_module(adapter, stored, rank, energy) for stored in whole_updates(adapter)]
    by_path = {module.path: module for module in modules}
    adapters = {
        model: _files(origin, [replace(by_path[path], path=short) for path, short in paths.items()])
        for model, paths in by_model(origin, by_path).items()
    }
    write_adapters(target, origin, adapters)
    return Conversion(modules, (*notes, *adapter.notes, *origin.notes))


def _module(adapter: Adapter, stored: StoredUpdate, rank: int | None, energy: float | None) -> PlainModule:
    layout = stored.layout
    return plain_module(
        stored.path,
        low_rank_factors(adapter, stored),
        rank=rank,
        energy=energy,
        embedding=layout.embedding,
        kernel=layout.kernel,
        groups=layout.groups,
    )


def _files(origin: Origin, modules: list[PlainModule]) -> AdapterFiles:
    tensors: dict[str, NDArray[Any]] = {}
    for module in modules:
        tensors |= module.tensors()
    return AdapterFiles(tensors, plain_configuration(origin.configuration, {one.path: one for one in modules}))
