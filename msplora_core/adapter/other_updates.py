"""The weight updates of PEFT's methods other than LoRA on a live model, from factors if there are any."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft.tuners.adalora import AdaLoraLayer
from peft.tuners.loha import LoHaLayer
from peft.tuners.lokr import LoKrLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.tuners.vera import VeraLayer
from transformers.pytorch_utils import Conv1D

from msplora_core.errors import UnsupportedAdapterError
from msplora_core.linalg.updates import (
    DeferredUpdate,
    DenseUpdate,
    HadamardUpdate,
    KroneckerUpdate,
    LowRankUpdate,
    Update,
    flattened,
)

_ROUNDING = 1e-13
"""Rounding error of merging in float64, relative to the weight. Smaller changes are set to zero."""


def other_update(layer: BaseTunerLayer, adapter_name: str) -> Update:
    """Return the update that an adapter of a method other than LoRA adds to one layer.

    Raises:
        UnsupportedAdapterError: if the layer has no weight for PEFT to merge the update into.
    """
    if isinstance(layer, AdaLoraLayer):
        return _adalora(layer, adapter_name)
    if isinstance(layer, VeraLayer) and adapter_name in layer.vera_lambda_d:
        return _vera(layer, adapter_name)
    if isinstance(layer, LoHaLayer) and adapter_name not in layer.hada_t1:
        one, two = (
            _product(getattr(layer, f"hada_w{side}_a"), getattr(layer, f"hada_w{side}_b"), adapter_name)
            for side in (1, 2)
        )
        return HadamardUpdate(one, two, float(layer.scaling[adapter_name]))
    if isinstance(layer, LoKrLayer) and adapter_name not in layer.lokr_t2:
        left, right = (_kronecker_side(layer, side, adapter_name) for side in (1, 2))
        return KroneckerUpdate(left, right, float(layer.scaling[adapter_name]))
    return merged_change(layer, adapter_name)


def merged_change(layer: BaseTunerLayer, adapter_name: str) -> DeferredUpdate:
    """Return the change of a layer's weight when PEFT merges an adapter, in float64.

    Works for every method that PEFT can merge, including those that multiply the weight.

    Raises:
        UnsupportedAdapterError: if the layer has no weight.
    """
    base = layer.get_base_layer()
    weight = getattr(base, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.ndim < 2:
        kind = f"{type(layer).__module__.removeprefix('peft.tuners.')}.{type(layer).__name__}"
        raise UnsupportedAdapterError(f"adapter {adapter_name}: expected a weight to merge into, found {kind}")
    turned = isinstance(base, Conv1D)
    out, columns = weight.shape[0], weight[0].numel()

    def form() -> NDArray[np.float64]:
        with torch.no_grad():
            copy = deepcopy(layer).double()
            before = copy.get_base_layer().weight.detach().clone()
            try:
                copy.merge(adapter_names=[adapter_name])
            except (NotImplementedError, AttributeError, TypeError) as error:
                raise UnsupportedAdapterError(
                    f"adapter {adapter_name}: expected an update that PEFT can merge, found {type(layer).__name__}"
                ) from error
            change = flattened((copy.get_base_layer().weight.detach() - before).cpu().numpy())
            if np.linalg.norm(change) < _ROUNDING * float(before.norm()):
                change = np.zeros_like(change)  # before the first step of a method that multiplies the weight
        return change.T if turned else change

    return DeferredUpdate((columns, out) if turned else (out, columns), form)


def _adalora(layer: AdaLoraLayer, name: str) -> LowRankUpdate:
    """The triplets that are not pruned; all triplets if all are zero, as before the first step."""
    A, B, E = (as_array(part[name]) for part in (layer.lora_A, layer.lora_B, layer.lora_E))
    left = E[:, 0] != 0
    if left.any():
        A, B, E = A[left], B[:, left], E[left]
    scaling = float(layer.scaling[name]) / (float(layer.ranknum[name].item()) + 1e-5)
    return LowRankUpdate(B, A.astype(np.float64) * E, scaling)


def _vera(layer: VeraLayer, name: str) -> Update:
    b, d = as_array(layer.vera_lambda_b[name]), as_array(layer.vera_lambda_d[name])
    B = b[:, None] * as_array(layer.vera_B[name]).astype(np.float64)[: layer.out_features]
    A = d[:, None] * as_array(layer.vera_A[name]).astype(np.float64)[:, : layer.in_features]
    if len(A) > min(len(B), A.shape[1]):
        return DenseUpdate(B @ A)
    return LowRankUpdate(B, A)


def _product(a: Any, b: Any, name: str) -> LowRankUpdate:
    return LowRankUpdate(as_array(a[name]), as_array(b[name]))


def _kronecker_side(layer: LoKrLayer, side: int, name: str) -> Update:
    whole = getattr(layer, f"lokr_w{side}")
    if name in whole:
        return DenseUpdate(flattened(as_array(whole[name])))
    return _product(getattr(layer, f"lokr_w{side}_a"), getattr(layer, f"lokr_w{side}_b"), name)


def as_array(tensor: torch.Tensor) -> NDArray[np.floating[Any]]:
    """Return a copy of a tensor in numpy; bfloat16 becomes float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()
