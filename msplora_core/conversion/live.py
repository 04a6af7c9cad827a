"""Conversion of a live model from MSPLoRA to plain LoRA of PEFT."""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from msplora_core.adapter.extraction import adapted_layers, layer_updates
from msplora_core.adapter.kinds import Convolution
from msplora_core.adapter.layer import MSPLoraLayer
from msplora_core.adapter.registration import PREFIX
from msplora_core.adapter.sharing import save_shared_as_usual
from msplora_core.conversion.expert_stack import stacked
from msplora_core.conversion.origin import LORA_MAGNITUDE
from msplora_core.conversion.plain import grouped_dora, plain_configuration, plain_module
from msplora_core.errors import ParameterError, UnsupportedAdapterError
from msplora_core.linalg.updates import joined


def convert_to_lora(
    model: nn.Module, adapter_name: str | None = None, *, rank: int | None = None, energy: float | None = None
) -> PeftModel:
    """Return a model with the same base and plain LoRA instead of MSPLoRA (or of LoRA of higher rank).

    Joining the factors of the scales along the rank gives exactly the same updates; `rank` or `energy` truncate
    each module to the best approximation of lower rank in the Frobenius norm.

    Args:
        model: a model from `peft.get_peft_model`. It is not changed.
        adapter_name: which adapter; the active one by default.
        rank: keep at most this many ranks of each module.
        energy: instead, keep at least this share of Σσ² of each module.

    Returns:
        A `PeftModel` with LoRA under the same adapter name. It shares the base model's weights with `model`, and
        saves as any LoRA of PEFT does.

    Raises:
        ParameterError: if the model is not a PeftModel, is merged, or has no such adapter; for an invalid rank or
            energy.
        UnsupportedAdapterError: if the adapter is neither LoRA nor MSPLoRA; for a rank or an energy beside a
            convolution with groups; for a convolution with dilation or a padding other than zeros; for an energy with
            adapted parameters.
    """
    peft_model = next((module for module in model.modules() if isinstance(module, PeftModel)), None)
    if peft_model is None:
        raise ParameterError("model", expected="a PeftModel", found=type(model).__name__)
    layers = adapted_layers(peft_model.base_model.model, adapter_name)
    modules = {}
    magnitudes = {}
    for path, (layer, name) in layers.items():
        if layer.merged:
            raise ParameterError("model", expected="an unmerged adapter", found=f"{path} merged", hint="unmerge it")
        _check_plain(path, layer, name)
        of_parameter = hasattr(layer, "parameter_name")
        if of_parameter and energy is not None:
            raise UnsupportedAdapterError(
                f"{path}: expected no energy, since the experts of a parameter (target_parameters) have one rank"
            )
        magnitude = _magnitude(layer, name)
        groups = 1 if of_parameter else getattr(layer.get_base_layer(), "groups", 1)
        if magnitude is not None and groups > 1:
            raise grouped_dora(path)
        parts = [
            plain_module(
                path,
                joined(by_scale.values()),
                rank=rank,
                energy=energy,
                embedding=isinstance(layer.get_base_layer(), nn.Embedding),
                kernel=() if of_parameter else _kernel(layer, name),
                groups=groups,
            )
            for by_scale in layer_updates(layer, name)
        ]
        modules[path] = stacked(path, parts) if of_parameter else parts[0]
        if magnitude is not None:
            magnitudes[f"base_model.model.{path}{LORA_MAGNITUDE}"] = magnitude
    config = _lora_config(plain_configuration(peft_model.peft_config[name].to_dict(), modules))
    state: dict[str, Any] = {
        key: value
        for key, value in get_peft_model_state_dict(peft_model, adapter_name=name).items()
        if f".{PREFIX}" not in key and ".lora_" not in key
    }
    for module in modules.values():
        state |= {key: torch.from_numpy(factor) for key, factor in module.tensors().items()}
    state |= magnitudes
    converted = get_peft_model(_base_of(peft_model), config, adapter_name=name)
    set_peft_model_state_dict(converted, state, adapter_name=name)
    return converted.train(peft_model.training)


def _check_plain(path: str, layer: BaseTunerLayer, adapter_name: str) -> None:
    """Raise an error for LoRA variants that add more than B·A, and for what plain LoRA cannot express."""
    if getattr(layer, "lora_bias", {}).get(adapter_name):
        raise UnsupportedAdapterError(
            f"adapter {adapter_name}: expected low-rank updates only, found biases of the adapter (lora_bias)"
        )
    base = layer.get_base_layer()
    if isinstance(layer, Convolution) and (set(base.dilation) != {1} or base.padding_mode != "zeros"):
        raise UnsupportedAdapterError(
            f"{path}: expected a convolution without dilation and padded with zeros, since PEFT's LoRA ignores both, "
            f"found dilation {base.dilation}, padding mode {base.padding_mode}; merge_and_unload gives a plain model"
        )


def _magnitude(layer: BaseTunerLayer, adapter_name: str) -> torch.Tensor | None:
    """The layer's magnitudes of DoRA."""
    kept = getattr(layer, "msplora_magnitude" if isinstance(layer, MSPLoraLayer) else "lora_magnitude_vector", {})
    return kept[adapter_name].weight.detach().clone() if adapter_name in kept else None


def _kernel(layer: BaseTunerLayer, adapter_name: str) -> tuple[int, ...]:
    """Input channels and kernel of a convolution, the trailing shape of LoRA's A; empty otherwise."""
    if isinstance(layer, MSPLoraLayer):
        return layer.site[adapter_name].sizes.A_shape(1)[1:]
    first = getattr(layer, "lora_A", {})
    return tuple(first[adapter_name].weight.shape[1:]) if adapter_name in first else ()


def _lora_config(content: dict[str, Any]) -> LoraConfig:
    config = LoraConfig.from_peft_type(**content)
    config.inference_mode = False
    return config


def _base_of(model: PeftModel) -> nn.Module:
    """The base model without adapters: new modules that share the frozen weights."""
    tensors = [*model.parameters(), *model.buffers()]
    shared = {id(tensor): tensor for tensor in tensors if not tensor.requires_grad}
    base: nn.Module = copy.deepcopy(model.base_model.model, shared)
    _unwrap(base)
    save_shared_as_usual(base)
    del base.peft_config
    return base


def _unwrap(module: nn.Module) -> None:
    """Replace PEFT's wrappers by the modules that they wrap."""
    for name, child in module.named_children():
        if isinstance(child, BaseTunerLayer):
            child = child.get_base_layer()
        elif isinstance(child, AuxiliaryTrainingWrapper):
            child = child.original_module
        setattr(module, name, child)
        _unwrap(child)
