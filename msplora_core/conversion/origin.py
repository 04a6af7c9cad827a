"""What a conversion keeps of an adapter besides its updates: configuration, and tensors trained in full."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msplora_core.errors import UnsupportedAdapterError
from msplora_core.formats import Adapter
from msplora_core.storage.tensor_file import read_tensor_file
from msplora_core.storage.tensors import Tensor
from msplora_core.wording import listed

LORA_MAGNITUDE = ".lora_magnitude_vector"
PYRAMID_MAGNITUDE = ".msplora_magnitude.weight"
"""Suffix of the names of DoRA's magnitudes, after the path of the module."""
TARGET_FIELDS = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
"""Fields of a configuration that choose modules."""

_MAGNITUDE = re.compile(r"\.(lora_magnitude_vector|msplora_magnitude)(\.weight)?$")
_FACTORS = (".lora_", ".msplora_", ".vera_", ".ranknum")
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Origin:
    """What a conversion keeps of an adapter besides its updates.

    Args:
        configuration: fields of PEFT's `adapter_config.json`, as far as known.
        beside: tensors to copy, by the names that PEFT uses in files.
        models: names of a pipeline's models, the first names of module paths; empty for a single model.
        notes: remarks on the result, one sentence each.
    """

    configuration: Mapping[str, Any]
    beside: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    models: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def without(self, modules: Sequence[str]) -> Origin:
        """Return the origin of a result without some modules: those that remain are its targets by their paths."""
        gone = {f"{_PREFIX}{path}{LORA_MAGNITUDE}" for path in modules}
        return replace(
            self,
            configuration={name: value for name, value in self.configuration.items() if name not in TARGET_FIELDS},
            beside={name: tensor for name, tensor in self.beside.items() if name not in gone},
            notes=(*self.notes, f"{listed(modules)}: left out, as in the plan."),
        )


def origin_of(adapter: Adapter, magnitude: str = LORA_MAGNITUDE) -> Origin:
    """Return what a conversion keeps of an adapter besides its updates.

    Args:
        adapter: the adapter to convert.
        magnitude: suffix of DoRA's magnitudes in the result.

    Raises:
        UnsupportedAdapterError: if its updates are not low-rank products, or its modules have no names.
    """
    if adapter.format == "PEFT":
        return _of_peft(adapter, magnitude)
    if adapter.method.startswith("dora"):
        raise _unsupported(adapter.path, "DoRA's magnitudes in a format other than PEFT's")
    if numbered := adapter.numbered:
        raise UnsupportedAdapterError(
            f"{adapter.path}: expected names of a model's modules, found numbers: {listed(numbered)}"
        )
    paths = [update.path for update in adapter.updates]
    configuration = {"base_model_name_or_path": adapter.model or None}
    if adapter.format == "loralib":
        return _of_loralib(adapter, configuration, paths)
    models = adapter.pipeline
    notes = [f"Load {model} with PeftModel.from_pretrained(pipe.{model}, ...)." for model in models]
    if models and any(".input_blocks." in path or ".middle_block." in path for path in paths):
        notes.append("Modules are named as in the original U-Net (input_blocks, ...), not as in diffusers.")
    return Origin(configuration, models=models, notes=tuple(notes))


def _of_peft(adapter: Adapter, magnitude: str) -> Origin:
    config = adapter.config
    assert config is not None
    reasons = {
        "biases of the adapter (lora_bias)": config.flag("lora_bias"),
        f"the initialisation {config.base_change}, which changed the base model": config.base_change,
    }
    for reason, holds in reasons.items():
        if holds:
            raise _unsupported(config.path, reason)
    tensors = read_tensor_file(adapter.files[0]).tensors
    named = {_MAGNITUDE.sub(magnitude, name): one for name, one in tensors.items()}
    beside = {
        name: one
        for name, one in named.items()
        if name.endswith(magnitude) or not any(part in name for part in _FACTORS)
    }
    return Origin(config.content, beside)


def _of_loralib(adapter: Adapter, configuration: Mapping[str, Any], adapted: list[str]) -> Origin:
    """A file of loralib also holds a trained head, which PEFT saves as `modules_to_save`."""
    tensors = read_tensor_file(adapter.files[0]).tensors
    tops = {path.partition(".")[0] for path in adapted}
    heads: dict[str, list[str]] = {}
    for name in tensors:
        top = name.partition(".")[0]
        if not name.endswith((".lora_A", ".lora_B")):
            heads.setdefault(top if top not in tops else name.rpartition(".")[0], []).append(name)
    lost = [name for module, names in heads.items() if module in adapted or not module for name in names]
    beside = {f"{_PREFIX}{name}": tensors[name] for names in heads.values() for name in names if name not in lost}
    saved = [module for module in heads if module and module not in adapted]
    notes = (f"{listed(lost)}: not converted.",) if lost else ()
    return Origin({**configuration, "modules_to_save": saved or None}, beside, notes=notes)


def _unsupported(path: Path, found: str) -> UnsupportedAdapterError:
    return UnsupportedAdapterError(f"{path}: expected low-rank updates only, found {found}")
