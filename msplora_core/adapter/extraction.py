"""The components of an adapter on a live model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft.tuners.adalora import AdaLoraLayer
from peft.tuners.lora import LoraLayer, ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from scipy.linalg import block_diag
from torch import nn

from msplora_core.adapter.factors import blocks
from msplora_core.adapter.layer import MSPLoraLayer
from msplora_core.adapter.other_updates import other_update
from msplora_core.adapter.sites import layer_lists
from msplora_core.components import Component, ComponentKey
from msplora_core.errors import ParameterError, UnsupportedAdapterError
from msplora_core.linalg.updates import LowRankUpdate, joined
from msplora_core.placement import Placement, place_modules
from msplora_core.pyramid import SCALES


def read_components(model: nn.Module, adapter_name: str | None = None) -> list[Component]:
    """Return every component of a model's adapter, with factors in numpy.

    Of a sharded model every process must call it, since the factors are gathered from all of them.

    Args:
        model: a model with LoRA or MSPLoRA from PEFT; it may be compiled, distributed, or have the adapter
            injected in place.
        adapter_name: which adapter; the active one by default.

    Returns:
        Components by scale: `global`, `mid` and `layer` for MSPLoRA, `layer` for other methods; with several scales,
        also their sum for each layer as `total`. Factors keep their dtype, except bfloat16, which becomes float32.
        A module outside any list of layers is unit 0. Updates that are no product of factors are formed one at a time,
        when they are decomposed.

    Raises:
        ParameterError: if the model has no such adapter, or several are active and none is named.
        UnsupportedAdapterError: if the adapter changes no weight.
    """
    layers = adapted_layers(model, adapter_name)
    of_lora = {path: layer_updates(layer, name) for path, (layer, name) in layers.items() if _is_lora(layer)}
    components = []
    for key, sites in component_sites(model, adapter_name).items():
        path = next(iter(sites))
        if path not in of_lora:
            components.append(Component(key, other_update(*layers[path])))
        elif key.scale == "total":
            components.append(Component(key, joined(of_lora[path].values())))
        else:
            components.append(Component(key, of_lora[path][key.scale]))
    return components


def _is_lora(layer: BaseTunerLayer) -> bool:
    return isinstance(layer, MSPLoraLayer | LoraLayer) and not isinstance(layer, AdaLoraLayer)


def component_sites(model: nn.Module, adapter_name: str | None = None) -> dict[ComponentKey, dict[str, int]]:
    """Return which modules every component serves, without reading its factors.

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
        place = places[path]
        index = place.layer or 0
        for scale in _scales(layer, name):
            unit = layer.site[name].unit(scale) if isinstance(layer, MSPLoraLayer) else index
            found[ComponentKey(scale, place.module, unit)][path] = index
        if several:
            found[ComponentKey("total", place.module, index)][path] = index
    order = (*SCALES, "total")
    return dict(sorted(found.items(), key=lambda item: order.index(item[0].scale)))


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


def layer_updates(layer: BaseTunerLayer, adapter_name: str) -> dict[str, LowRankUpdate]:
    """Return the update that an adapter adds to one layer, by scale."""
    if isinstance(layer, MSPLoraLayer):
        return {
            scale: _update(_factors(layer.components(scale)[adapter_name]), scaling)
            for scale, scaling in layer.scaling[adapter_name].items()
        }
    plain = isinstance(layer, LoraLayer) and not isinstance(layer, ParamWrapper)
    if plain and adapter_name in layer.lora_embedding_A:
        A, B = layer.lora_embedding_A[adapter_name], layer.lora_embedding_B[adapter_name]
    elif plain and isinstance(layer.lora_A, nn.ModuleDict) and adapter_name in layer.lora_A:
        A, B = layer.lora_A[adapter_name].weight, layer.lora_B[adapter_name].weight
    else:
        kind = f"{type(layer).__module__.removeprefix('peft.tuners.')}.{type(layer).__name__}"
        raise UnsupportedAdapterError(f"adapter {adapter_name}: expected LoRA or MSPLoRA, found {kind}")
    return {"layer": _update((A, B), layer.scaling[adapter_name])}


def _factors(component: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Both factors: called as a module, so that offloaded ones are fetched, unless they are sharded.

    A call outside the model's own forward pass would put FSDP out of step; sharded factors are gathered later.
    """
    if hasattr(component.A, "full_tensor"):
        return component.A, component.B
    factors: tuple[torch.Tensor, torch.Tensor] = component()
    return factors


def _update(factors: tuple[torch.Tensor, torch.Tensor], scaling: float) -> LowRankUpdate:
    """The update of two factors as matrices.

    A convolution's A has a column for each channel and kernel position; with groups, B is block diagonal.
    """
    pairs = blocks(*factors)
    A = np.concatenate([_numpy(A) for A, _ in pairs])
    B = block_diag(*[_numpy(B) for _, B in pairs]) if len(pairs) > 1 else _numpy(pairs[0][1])
    return LowRankUpdate(B=B, A=A, scaling=float(scaling))


def _numpy(tensor: torch.Tensor) -> NDArray[np.floating[Any]]:
    tensor = tensor.detach()
    tensor = (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()


def _places(model: nn.Module, layers: Mapping[str, tuple[BaseTunerLayer, str]]) -> dict[str, Placement]:
    """The place of each layer: as recorded when MSPLoRA was attached, else by the module tree."""
    plain = {path: path.replace(".base_layer", "") for path in layers}
    by_tree = place_modules(list(plain.values()), layer_lists(model))
    places = {}
    for path, (layer, name) in layers.items():
        if isinstance(layer, MSPLoraLayer):
            site = layer.site[name]
            places[path] = Placement(site.module, site.layer)
        else:
            places[path] = by_tree[plain[path]]
    return places
