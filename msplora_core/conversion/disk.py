"""Write an adapter on disk as plain LoRA of PEFT, for tools that support only LoRA. Does not need torch."""

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
from msplora_core.conversion.expert_stack import stacked
from msplora_core.conversion.limits import Limits, joint_error
from msplora_core.conversion.origin import Origin, origin_of
from msplora_core.conversion.plain import PlainModule, grouped_dora, plain_configuration, plain_module
from msplora_core.formats import Adapter
from msplora_core.formats.stored import StoredUpdate
from msplora_core.methods import is_trained


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion, written or only computed.

    Args:
        modules: in natural order of the paths.
        bytes_before: size of the adapter's weights on disk.
        bytes: size of the weights written.
        notes: remarks on the result, one sentence each.
    """

    modules: list[PlainModule]
    bytes_before: int
    bytes: int
    notes: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """Error of the truncation over all modules, relative to the updates in the Frobenius norm."""
        return joint_error(self.modules)


def convert_adapter(
    path: str | PathLike[str],
    out: str | PathLike[str] | None,
    *,
    alpha: float | None = None,
    rank: int | None = None,
    energy: float | None = None,
    mean_rank: float | None = None,
    parameters: float | None = None,
    plan: str | PathLike[str] | None = None,
) -> Conversion:
    """Write an adapter as plain LoRA of PEFT, with the same updates or their best approximations of lower rank.

    The scaling is folded into the factors, which are float32. A trained head, biases, trained tokens and DoRA's
    magnitudes are kept. An adapter of a diffusion pipeline with several models becomes one folder for each. The
    folder is written atomically. PEFT's LoRA ignores dilation and padding modes of convolutions: merge such an adapter
    after loading it. Reading the result says that it was converted, unless its factors are those of a training: LoRA in
    another format, of the same ranks.

    Args:
        path: an adapter's folder or file in any format that `read_adapter` reads, `hf://owner/name`, a run
            directory, or a folder of checkpoints, whose end is converted: the adapter beside them, else the last.
        out: the folder to write, new or empty; None to compute the result without writing it.
        alpha: α, for files that do not hold it.
        rank: keep at most this many ranks of each module.
        energy: instead, keep at least this share of Σσ² of each module.
        mean_rank: instead, a budget for all modules together: the number of parameters of this rank in every module.
            The ranks are optimal under it (see `allocate_ranks`), at least 1 for each module.
        parameters: instead, this budget as a number of parameters.
        plan: instead, the folder or file that `msplora-analyze plan --out` wrote, with the rank of each module.
            Modules that it leaves out are not written.

    Returns:
        The modules, and notes.

    Raises:
        AdapterFileError: if the adapter cannot be read.
        UnsupportedAdapterError: if its updates are not low-rank products, or its modules have no names; for a rank or
            an energy with a grouped convolution; for a limit other than a rank with adapted parameters.
        FileError: if there are several adapters, or the folder cannot be written or is not empty.
        ParameterError: for an invalid limit, more than one of them, or a budget that cannot be met.
    """
    limits = Limits(rank, energy, mean_rank, parameters, plan)
    if out is not None:
        check_target(Path(out))
    adapter, notes = open_adapter(path, alpha)
    origin = origin_of(adapter)
    updates = whole_updates(adapter)
    ranks = limits.ranks(adapter, updates, origin.models)
    by_layer: dict[str, list[PlainModule]] = {}
    for stored in updates:
        module = _module(adapter, stored, ranks.get(stored.path), energy)
        by_layer.setdefault(stored.layout.wrapper or stored.path, []).append(module)
    wrappers = {stored.layout.wrapper for stored in updates}
    by_path = {path: stacked(path, found) if path in wrappers else found[0] for path, found in by_layer.items()}
    modules = list(by_path.values())
    kept = [path for path, module in by_path.items() if module.rank]
    if len(kept) < len(by_path):
        origin = origin.without([path for path in by_path if path not in kept])
    adapters = {
        model: _files(origin, [replace(by_path[path], path=short) for path, short in paths.items()])
        for model, paths in by_model(origin, kept).items()
        if paths
    }
    if out is not None:
        is_same = limits == Limits() and is_trained(adapter.method) and adapter.method.startswith(("lora", "dora"))
        write_adapters(Path(out), origin, adapters, "" if is_same else adapter.method)
    size = sum(values.nbytes for files in adapters.values() for values in files.tensors.values())
    size += len(adapters) * sum(tensor.load().nbytes for tensor in origin.beside.values())
    return Conversion(modules, adapter.size, size, (*notes, *adapter.notes, *origin.notes))


def _module(adapter: Adapter, stored: StoredUpdate, rank: int | None, energy: float | None) -> PlainModule:
    layout = stored.layout
    if layout.groups > 1 and adapter.method.startswith(("dora", "mspdora")):
        raise grouped_dora(stored.path)
    module = plain_module(
        stored.path,
        low_rank_factors(adapter, stored),
        rank=None if rank is None else max(rank, 1),
        energy=energy,
        embedding=layout.embedding,
        kernel=layout.kernel,
        groups=layout.groups,
    )
    return replace(module, B=module.B[:, :0], A=module.A[:0], error=1.0) if rank == 0 else module


def _files(origin: Origin, modules: list[PlainModule]) -> AdapterFiles:
    tensors: dict[str, NDArray[Any]] = {}
    for module in modules:
        tensors |= module.tensors()
    return AdapterFiles(tensors, plain_configuration(origin.configuration, {one.path: one for one in modules}))
