"""Describe a run for run.json."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from msplora_core.methods import configured_name
from msplora_core.placement import stack_name
from msplora_core.pyramid import LAYER_SCALES
from msplora_core.runs import RunRecord
from msplora_core.training.models import model_label

if TYPE_CHECKING:
    from msplora_core.adapter.live_updates import LiveUpdates
    from msplora_core.components import Component, ComponentKey

_PACKAGES = ("msplora", "torch", "transformers", "peft", "numpy")


def describe_run(
    model: Any, updates: LiveUpdates, components: list[Component], configuration: dict[str, Any] | None = None
) -> RunRecord:
    """Return the record of a run as far as the model determines it: method, base model, components, versions.

    Args:
        model: the model in training.
        updates: reads its weight updates.
        components: from `updates`, before the first step.
        configuration: of the method; by default that of the model's adapter.
    """
    configuration = _adapter_configuration(model) if configuration is None else configuration
    layers = {component.key.unit for component in components if component.key.scale in LAYER_SCALES}
    base = configuration.get("base_model_name_or_path") or getattr(getattr(model, "config", None), "_name_or_path", "")
    return RunRecord(
        method=configured_name(configuration) if "peft_type" in configuration else "",
        model=model_label(base),
        layers=max(layers, default=-1) + 1,
        modules=list(dict.fromkeys(component.key.module for component in components)),
        components=_list_components(updates.sites(), components),
        configuration=configuration,
        no_spectra=updates.note,
        versions=_versions(),
        started=now(),
    )


def _list_components(
    sites: Mapping[ComponentKey, Mapping[str, int]], components: list[Component]
) -> list[dict[str, Any]]:
    """The component list of run.json."""
    return [
        {
            "key": str(component.key),
            "rank": component.update.rank,
            "shape": list(component.update.shape),
            "scaling": getattr(component.update, "scaling", 1.0),
            "stack": stack_name(_path_in_base(next(iter(sites[component.key]))), component.update.shape),
            "layers": sorted(set(sites[component.key].values())),
        }
        for component in components
    ]


def _path_in_base(path: str) -> str:
    """A module's path without the names that wrappers add."""
    names = [name for name in path.split(".") if name not in ("_orig_mod", "base_layer")]
    return ".".join(names).removeprefix("module.").removeprefix("base_model.model.")


def _adapter_configuration(model: Any) -> dict[str, Any]:
    if not hasattr(model, "peft_config"):
        return {}
    active = getattr(model, "active_adapter", None)
    found: dict[str, Any] = model.peft_config[
        active if isinstance(active, str) else next(iter(model.peft_config))
    ].to_dict()
    return found


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def now() -> str:
    """Return the time in ISO 8601, for run.json."""
    return datetime.now(UTC).isoformat(timespec="seconds")
