"""Read the components of an adapter of a live model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from peft.tuners.adalora import AdaLoraLayer
from peft.tuners.lora import LoraLayer
from peft.tuners.lora import ParamWrapper as LoraParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from scipy.linalg import block_diag
from torch import nn

from msplora_core.adapter.factors import blocks
from msplora_core.adapter.layer import MSPLoraLayer
from msplora_core.adapter.other_updates import as_array, other_update
from msplora_core.adapter.sites import layer_lists
from msplora_core.components import Component, ComponentKey
from msplora_core.errors import ParameterError, UnsupportedAdapterError
from msplora_core.linalg.updates import LowRankUpdate, joined
from msplora_core.placement import Placement, expert_name, place_modules
from msplora_core.pyramid import ALL_SCALES


def read_components(model: nn.Module, adapter_name: str | None = None) -> list[Component]:
    """Return every component of a model's adapter, with factors in numpy.

    For a sharded model, every process must call it, since the factors are gathered from all processes.

    Args:
        model: a model with an adapter of PEFT; it may be compiled, distributed, or have the adapter injected in place.
        adapter_name: which adapter; the active one by default.

    Returns:
        Components by scale: `global`, `mid` and `layer` for MSPLoRA, `layer` for other methods; with several scales,
        also their sum for each layer as `total`. Factors keep their dtype, except bfloat16, which becomes float32.
        A module outside any list of layers is unit 0. Updates without factors are formed one at a time, when they are
        decomposed.

    Raises:
        ParameterError: if the model has no such adapter, or several are active and none is named.
        UnsupportedAdapterError: if the adapter changes no weight.
    """
    layers = adapted_layers(model, adapter_name)
    of_lora = {path: layer_updates(layer, name) for path, (layer, name) in layers.items() if _is_lora(layer)}
    places = _places(model, layers)
    expert = {name: place for path, pair in layers.items() for place, name in enumerate(_modules(*pair, places[path]))}
    components = []
    for key, sites in component_sites(model, adapter_name).items():
        path = next(iter(sites))
        if path not in of_lora:
            components.append(Component(key, other_update(*layers[path])))
            continue
        by_scale = of_lora[path][expert[key.module]]
        components.append(Component(key, joined(by_scale.values()) if key.scale == "total" else by_scale[key.scale]))
    return components


def _is_lora(layer: BaseTunerLayer) -> bool:
    return isinstance(layer, MSPLoraLayer | LoraLayer) and not isinstance(layer, AdaLoraLayer)


def component_sites(model: nn.Module, adapter_name: str | None = None) -> dict[ComponentKey, dict[str, int]]:
    """Return the modules that every component serves, without reading its factors.

    Args:
        model: as for `read_components`.
        adapter_name: likewise.

    Returns:
        By component, in the order of `read_components`, the paths of its modules in the model, each with the index
        of its layer; 0 for a module outside any list of layers.

    Raises:
        ParameterError: as `read_components`.
    """
    layers = adapted_layers(model, adapter_name)
    places = _places(model, layers)
    several = any(tuple(_scales(layer, name)) != ("layer",) for layer, name in layers.values())
    found: dict[ComponentKey, dict[str, int]] = defaultdict(dict)
    for path, (layer, name) in layers.items():
        index = places[path].layer or 0
        for module in _modules(layer, name, places[path]):
            for scale in _scales(layer, name):
                unit = layer.site[name].unit(scale) if isinstance(layer, MSPLoraLayer) else index
                found[ComponentKey(scale, module, unit)][path] = index
            if several:
                found[ComponentKey("total", module, index)][path] = index
    return dict(sorted(found.items(), key=lambda item: ALL_SCALES.index(item[0].scale)))


def _modules(layer: BaseTunerLayer, adapter_name: str, place: Placement) -> list[str]:
    """The module type of a layer, or one for each of its experts, in their order."""
    experts = layer.site[adapter_name].sizes.experts if isinstance(layer, MSPLoraLayer) else _experts(layer)
    return [place.module] if experts == 1 else [expert_name(place.module, expert) for expert in range(experts)]


def _experts(layer: BaseTunerLayer) -> int:
    """Number of experts of a layer that LoRA adapts."""
    return layer.num_experts if isinstance(layer, LoraParamWrapper) else 1


def _scales(layer: BaseTunerLayer, adapter_name: str) -> Iterable[str]:
    return layer.scaling[adapter_name] if isinstance(layer, MSPLoraLayer) else ("layer",)


def adapted_layers(model: nn.Module, adapter_name: str | None = None) -> dict[str, tuple[BaseTunerLayer, str]]:
    """Return the layers that have an adapter, by path, each with the adapter's name.

    Raises:
        ParameterError: as `read_components`.
        UnsupportedAdapterError: as `read_components`.
    """
    tuned = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, BaseTunerLayer) and not path.endswith(".token_adapter")  # beside the adapter, in full
    }
    if not tuned:
        raise ParameterError("model", expected="a model with an adapter of PEFT", found=type(model).__name__)
    name = adapter_name or _active_adapter(tuned)
    carriers = {path: (layer, name) for path, layer in tuned.items() if name in layer._all_available_adapter_names()}
    if not carriers:
        known = {known for layer in tuned.values() for known in layer._all_available_adapter_names()}
        raise ParameterError("adapter_name", expected=f"one of {', '.join(sorted(known))}", found=name)
    return carriers


def _active_adapter(tuned: Mapping[str, BaseTunerLayer]) -> str:
    active = {name for layer in tuned.values() for name in layer.active_adapters}
    if len(active) != 1:
        raise ParameterError("adapter_name", expected="a name, unless one adapter is active", found=sorted(active))
    return str(active.pop())


def layer_updates(layer: BaseTunerLayer, adapter_name: str) -> list[dict[str, LowRankUpdate]]:
    """Return the update that an adapter adds to one layer, by scale; one dict for each expert."""
    if isinstance(layer, MSPLoraLayer):
        experts = layer.site[adapter_name].sizes.experts
        found = {
            scale: _updates(_factors(layer.components(scale)[adapter_name]), scaling, experts)
            for scale, scaling in layer.scaling[adapter_name].items()
        }
        return [{scale: updates[expert] for scale, updates in found.items()} for expert in range(experts)]
    plain = isinstance(layer, LoraLayer)
    if plain and adapter_name in layer.lora_embedding_A:
        A, B = layer.lora_embedding_A[adapter_name], layer.lora_embedding_B[adapter_name]
    elif plain and isinstance(layer.lora_A, nn.ModuleDict) and adapter_name in layer.lora_A:
        A, B = layer.lora_A[adapter_name].weight, layer.lora_B[adapter_name].weight
    else:
        kind = f"{type(layer).__module__.removeprefix('peft.tuners.')}.{type(layer).__name__}"
        raise UnsupportedAdapterError(f"adapter {adapter_name}: expected LoRA or MSPLoRA, found {kind}")
    return [{"layer": update} for update in _updates((A, B), layer.scaling[adapter_name], _experts(layer))]


def _factors(component: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Both factors. Calling the component as a module fetches offloaded factors.

    Sharded factors are gathered later instead: a call outside the model's forward pass breaks FSDP.
    """
    if hasattr(component.A, "full_tensor"):
        return component.A, component.B
    factors: tuple[torch.Tensor, torch.Tensor] = component()
    return factors


def _updates(factors: tuple[torch.Tensor, torch.Tensor], scaling: float, experts: int) -> list[LowRankUpdate]:
    """The update of two factors as matrices, or one update for each expert.

    A convolution's A has a column for each channel and kernel position; with groups, B is block diagonal.
    """
    A, B = map(_gathered, factors)
    pairs = [(as_array(rows), as_array(columns)) for rows, columns in blocks(A, B, experts)]
    if experts == 1 and len(pairs) > 1:
        pairs = [(np.concatenate([rows for rows, _ in pairs]), block_diag(*[block for _, block in pairs]))]
    return [LowRankUpdate(B=columns, A=rows, scaling=float(scaling)) for rows, columns in pairs]


def _gathered(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).cpu()


def _places(model: nn.Module, layers: Mapping[str, tuple[BaseTunerLayer, str]]) -> dict[str, Placement]:
    """The place of each layer: for MSPLoRA as recorded when it was attached, else by the module tree."""
    plain = {path: _bare(path, layer) for path, (layer, _) in layers.items()}
    by_tree = place_modules(list(plain.values()), layer_lists(model))
    places = {}
    for path, (layer, name) in layers.items():
        if isinstance(layer, MSPLoraLayer):
            site = layer.site[name]
            places[path] = Placement(site.module, site.layer)
        else:
            places[path] = by_tree[plain[path]]
    return places


def _bare(path: str, layer: BaseTunerLayer) -> str:
    """A layer's path without those of nested adapter layers; with the name of an adapted parameter."""
    path = path.replace(".base_layer", "")
    return f"{path}.{layer.parameter_name}".removesuffix(".weight") if isinstance(layer, LoraParamWrapper) else path
