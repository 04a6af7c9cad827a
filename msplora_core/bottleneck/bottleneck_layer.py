"""The layer that replaces an adapted module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer, _get_in_out_features
from torch import nn

from msplora_core.bottleneck.bottleneck_config import BottleneckConfig


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """A module followed by its adapters; several active ones are applied one after the other.

    Args:
        base_layer: the module, or another adapter's layer around it.
        adapter_name: the first adapter, which becomes active.
    """

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")

    if TYPE_CHECKING:  # attributes of PEFT's base class

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, base_layer: nn.Module, adapter_name: str) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.in_features, self.out_features = _get_in_out_features(self.get_base_layer())
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter = [adapter_name]

    def add_adapter(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Add an adapter near the identity."""
        size, width = config.bottleneck_size, self.out_features
        for linears, shape in ((self.bottleneck_down, (width, size)), (self.bottleneck_up, (size, width))):
            linear = nn.Linear(*shape)
            nn.init.trunc_normal_(linear.weight, std=config.init_std, a=-2 * config.init_std, b=2 * config.init_std)
            nn.init.zeros_(linear.bias)
            linears[adapter_name] = linear
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the module's result, transformed by the active adapters."""
        result: torch.Tensor = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return result
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                down, up = self.bottleneck_down[name], self.bottleneck_up[name]
                hidden = F.gelu(down(self._cast_input_dtype(result, down.weight.dtype)), approximate="tanh")
                result = result + up(hidden).to(result.dtype)
        return result

    def __repr__(self) -> str:
        return f"bottleneck.{super().__repr__()}"
