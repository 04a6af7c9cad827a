"""The weight updates of one adapter, as factors."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msplora_analysis.loading.source import Saved, Source
from msplora_analysis.loading.sources import find_sources
from msplora_core.components import ComponentKey
from msplora_core.errors import MSPLoraError, RunDirectoryError, UnsupportedAdapterError
from msplora_core.linalg.updates import LowRankUpdate
from msplora_core.pyramid import LAYER_SCALES


@dataclass(frozen=True, eq=False)
class AdapterUpdates:
    """The low-rank updates of one adapter.

    Args:
        name: path below the given path.
        method: name with the ranks: `lora-r8`, `msplora-8-4-2`.
        model: the base model; empty if unknown.
        task: training data; empty if unknown.
        seed: of the training; None if unknown.
        epoch: NaN if unknown.
        step: optimiser steps; None if unknown.
        path: of the adapter.
        updates: by component.
        places: the path of each component's module in the model.
        stacks: by module type: `encoder.layer 768x768`.
        notes: remarks on the numbers, one sentence each.
    """

    name: str
    method: str
    model: str
    task: str
    seed: int | None
    epoch: float
    step: int | None
    path: Path
    updates: Mapping[ComponentKey, LowRankUpdate] = field(repr=False)
    places: Mapping[ComponentKey, str] = field(repr=False)
    stacks: Mapping[str, str] = field(repr=False)
    notes: list[str] = field(default_factory=list)

    @property
    def modules(self) -> list[str]:
        """The module types, in the order of the adapter."""
        return list(dict.fromkeys(key.module for key in self.updates))

    @property
    def scales(self) -> list[str]:
        """`layer` and `total` if layers share components, else `layer` only."""
        return [scale for scale in LAYER_SCALES if any(key.scale == scale for key in self.updates)]

    @property
    def whole(self) -> str:
        """The scale of a layer's whole update: the last of `scales`."""
        return self.scales[-1]

    def keys(self, module: str, scale: str = "total") -> list[ComponentKey]:
        """Return the components of a module type at a scale, in ascending order of the layer.

        Args:
            module: the module type.
            scale: `total` (a layer's whole update) or `layer` (its own component); for plain LoRA the same.
        """
        scale = scale if scale in self.scales else "layer"
        return sorted(key for key in self.updates if key.module == module and key.scale == scale)

    def layers(self, module: str, scale: str = "total") -> dict[int, LowRankUpdate]:
        """Return the updates of a module type by layer (see `keys`)."""
        return {key.unit: self.updates[key] for key in self.keys(module, scale)}


def load_updates(
    path: str | os.PathLike[str],
    *,
    alpha: float | None = None,
    module: str | Collection[str] = (),
    model: str | None = None,
    task: str | None = None,
    seed: int | None = None,
) -> AdapterUpdates:
    """Read the weight updates of one adapter as factors.

    Args:
        path: an adapter's folder or file in any format, or hf://owner/name; a run directory, to read its final
            adapter; a folder of checkpoints, to read the adapter beside them, else the last.
        alpha, module, model, task, seed: how it is read (see `load_spectra`).

    Returns:
        Its low-rank updates. Updates without low-rank factors (LoHa, LoKr) are left out and noted.

    Raises:
        RunDirectoryError: if there are several adapters, or a run without a saved adapter.
        UnsupportedAdapterError: if no update has low-rank factors.
        AdapterFileError: if it cannot be read.

    Example:
        >>> import json, tempfile, numpy as np
        >>> from safetensors.numpy import save_file
        >>> folder = Path(tempfile.mkdtemp())
        >>> name = "base_model.model.layers.{}.q_proj.lora_{}.weight"
        >>> save_file({name.format(layer, factor): np.eye(6, 2) if factor == "B" else np.eye(2, 6)
        ...            for layer in range(3) for factor in "AB"}, folder / "adapter_model.safetensors")
        >>> _ = (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
        >>> adapter = load_updates(folder)
        >>> adapter.method, {layer: update.scaling for layer, update in adapter.layers("q_proj").items()}
        ('lora-r2', {0: 2.0, 1: 2.0, 2: 2.0})
    """
    found = find_sources(path, alpha=alpha, module=module, model=model, task=task, seed=seed)
    if len(found) > 1:
        names = ", ".join(one.name for one in found[:3])
        raise RunDirectoryError(path, expected="one adapter", found=f"{len(found)}: {names}", hint="name one of them")
    return last_updates(found[0].name, found[0].open(), path)


def load_all_updates(path: str | os.PathLike[str], errors: list[MSPLoraError], **options: Any) -> list[AdapterUpdates]:
    """Read the updates of all adapters at or below a path (see `load_updates`).

    Args:
        path: an adapter, a run, or a folder of such; a single adapter is named by this path.
        errors: receives the errors of adapters without low-rank factors, if others have such.
        **options: as for `load_updates`.
    """
    found = find_sources(path, **options)
    names = [str(path)] if len(found) == 1 else [one.name for one in found]
    read, unsupported = list[AdapterUpdates](), list[UnsupportedAdapterError]()
    for name, one in zip(names, found, strict=True):
        try:
            read.append(last_updates(name, one.open(), path))
        except UnsupportedAdapterError as error:
            unsupported.append(error)
    if unsupported and not read:
        raise unsupported[0]
    errors += unsupported
    return read


def last_updates(name: str, source: Source, path: str | os.PathLike[str]) -> AdapterUpdates:
    """Read the last saved updates of a source.

    Args:
        name: of the source.
        source: the source.
        path: for errors.

    Returns:
        The updates; a note names later checkpoints that cannot be read.

    Raises:
        RunDirectoryError: if it has no saved adapter.
        UnsupportedAdapterError: if no update has low-rank factors.
        AdapterFileError: if none can be read.
    """
    errors = list[MSPLoraError]()
    saved, before = None, 0
    for one in source.saved(errors):
        saved, before = one, len(errors)
    if saved is None:
        if errors:
            raise errors[-1]
        raise RunDirectoryError(
            path, expected="an adapter, or a run with adapter/ or checkpoints/", found="a run without either",
            hint="its snapshots hold inner products, but directions of single updates need the factors",
        )  # fmt: skip
    updates = read_updates(name, source, saved)
    if newer := errors[before:]:
        updates.notes.append(f"{name}: {saved.path.name} is used, since later ones cannot be read: {newer[-1]}")
    return updates


def read_updates(name: str, source: Source, saved: Saved) -> AdapterUpdates:
    """Read the updates of one saved adapter.

    Raises:
        UnsupportedAdapterError: if no update has low-rank factors.
        FileError: if a value cannot be read.
    """
    updates, places = dict[ComponentKey, LowRankUpdate](), dict[ComponentKey, str]()
    others = list[str]()
    for place, component in saved.components():
        if isinstance(component.update, LowRankUpdate):
            updates[component.key], places[component.key] = component.update, place
        else:
            others.append(place)
    if not updates:
        raise UnsupportedAdapterError(
            f"{saved.path}: expected updates with low-rank factors, found those of {source.method}"
        )
    notes = list(source.notes)
    if others:
        notes.append(f"Left out, since without low-rank factors: {len(others)} modules ({', '.join(others[:3])}).")
    return AdapterUpdates(
        name, source.method, source.model, source.task, source.seed, saved.epoch, saved.step, saved.path, updates,
        places, source.stacks, notes,
    )  # fmt: skip
