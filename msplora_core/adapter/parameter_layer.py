"""The layer around a module with an adapted parameter, such as the experts of a mixture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from msplora_core.adapter.layer import MSPLoraLayer
from msplora_core.adapter.sizes import parameter_sizes


class ParamWrapper(MSPLoraLayer):
    """A module with one adapted parameter: a matrix, or a stack of the matrices of several experts.

    Each expert has its own update at every scale: expert 3 of one layer shares with expert 3 of the others. The factors
    of all experts are stacked, as in PEFT's LoRA: the rows of A by expert and then by rank, the columns of B by rank
    and then by expert. Several adapted parameters of a module have one layer each, nested. PEFT recognises this class
    by its name.

    Args:
        base_layer: the module, or the layer for another of its parameters.
        adapter_name: the first adapter, which becomes active.
        parameter_name: name of the parameter in the module.
    """

    def __init__(self, base_layer: nn.Module, adapter_name: str, parameter_name: str) -> None:
        self.parameter_name = parameter_name
        super().__init__(base_layer, adapter_name)

    @property
    def transposed(self) -> bool:
        """Whether the experts' matrices are in × out."""
        return self._adapted_parameter().dim() == 3 and getattr(self.get_base_layer(), "is_transposed", False)

    def product(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        left, right = self._by_expert(A, B)
        half = left.dtype in (torch.float16, torch.bfloat16)
        update = (left.float() @ right.float()).to(left.dtype) if half else left @ right
        return update.reshape(self._adapted_parameter().shape)

    def forward(self, x: torch.Tensor, *args: Any, adapter_names: list[str] | None = None, **kwargs: Any) -> Any:
        if adapter_names is not None:
            raise ValueError("Mixed batches are not supported for adapted parameters (target_parameters).")
        if self.disable_adapters and self.merged:
            self.unmerge()
        active = [name for name in self.active_adapters if name in self.scaling]
        if self.disable_adapters or self.merged or not active:
            return self.base_layer(x, *args, **kwargs)
        with self._shown(active):
            return self.base_layer(x, *args, **kwargs)

    @contextmanager
    def _shown(self, adapter_names: list[str]) -> Iterator[None]:
        """Replace the parameter by the adapted tensor."""
        base, name = self.get_base_layer(), self.parameter_name
        if is_parametrized(base, name):
            chain = base.parametrizations[name]
            chain.append(_Plus(self._plus_updates(torch.zeros_like(self._adapted_parameter()), adapter_names)))
            try:
                yield
            finally:
                del chain[-1]
            return
        vars(base)[name] = self._plus_updates(self._adapted_parameter(), adapter_names)
        try:
            yield
        finally:
            del vars(base)[name]

    def _plus_updates(self, weight: torch.Tensor, adapter_names: list[str]) -> torch.Tensor:
        adapted = weight if weight.dim() == 3 else weight[None]
        with torch.autocast(weight.device.type, enabled=False):  # the result has the parameter's dtype
            for name in adapter_names:
                left, right = (factor.to(weight) for factor in self._by_expert(*self.joined(name)))
                adapted = torch.baddbmm(adapted, left, right)
        return adapted.reshape(weight.shape)

    def _by_expert(self, A: torch.Tensor, B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The factors whose product, expert by expert, is the update in the layout of the parameter."""
        experts = self._adapted_parameter().shape[0] if self._adapted_parameter().dim() == 3 else 1
        right = A.reshape(experts, -1, A.shape[1])
        left = B.reshape(len(B), -1, experts).permute(2, 0, 1)
        return (right.transpose(1, 2), left.transpose(1, 2)) if self.transposed else (left, right)

    def _adapted_parameter(self) -> torch.Tensor:
        found: torch.Tensor = getattr(self.get_base_layer(), self.parameter_name)
        return found

    def _features(self) -> tuple[int, int]:
        sizes = parameter_sizes(self.parameter_name, self.get_base_layer(), self.parameter_name)
        return sizes.in_features, sizes.out_features

    def _get_base_layer_device_and_dtype(self, base_layer: nn.Module) -> tuple[torch.device, torch.dtype]:
        return self._adapted_parameter().device, self._adapted_parameter().dtype

    def _read_weight(self) -> torch.Tensor:
        return self._adapted_parameter().data

    def _write_weight(self, weight: torch.Tensor) -> None:
        if is_parametrized(self.get_base_layer(), self.parameter_name):
            raise NotImplementedError(f"Merging is not supported for the parametrized {self.parameter_name}")
        self._adapted_parameter().data = weight

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """Return the module without its adapter layers, merged or not. PEFT calls it for the outermost layer."""
        layer: nn.Module = self
        while isinstance(layer, ParamWrapper):
            if merge:
                layer.merge(safe_merge=safe_merge, adapter_names=adapter_names)
            layer = layer.base_layer
        return layer

    def extra_repr(self) -> str:
        return f"parameter_name={self.parameter_name}"


class _Plus(nn.Module):
    """A parametrization that adds an update."""

    def __init__(self, update: torch.Tensor) -> None:
        super().__init__()
        self._update = update

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self._update
