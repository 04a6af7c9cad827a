"""Merge adapters into the base weight and unmerge them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import nn
from transformers.pytorch_utils import Conv1D

from msplora_core.adapter.factors import blocks
from msplora_core.adapter.quantised import quantization_backend
from msplora_core.adapter.sites import Site


class MergeableLayer(nn.Module, BaseTunerLayer):
    """A module with adapters that can be merged into its weight.

    Args:
        base_layer: the module, or another adapter's layer around it.
        adapter_name: the first adapter, which becomes active.
    """

    if TYPE_CHECKING:  # attributes of PEFT's base class

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, base_layer: nn.Module, adapter_name: str) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.msplora_magnitude = nn.ModuleDict()
        self.site: dict[str, Site] = {}
        self.scaling: dict[str, dict[str, float]] = {}
        self.quantization_backend = quantization_backend(self.get_base_layer())
        self.merged_adapters: list[str] = []
        self._merged_rescaling: dict[str, torch.Tensor] = {}
        self._disable_adapters = False
        self._active_adapter = [adapter_name]

    @property
    def transposed(self) -> bool:
        """Whether the base weight is in × out."""
        return isinstance(self.get_base_layer(), Conv1D | nn.Embedding)

    def joined(self, adapter_name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A and B of an adapter's whole update, B·A."""
        raise NotImplementedError

    def get_delta_weight(self, adapter_name: str) -> torch.Tensor:
        """Return the adapter's B·A in the layout of the base weight and the dtype of the factors."""
        if self.site[adapter_name].sizes.groups > 1:
            raise NotImplementedError(
                "Merging is not supported for convolutions with groups: the update reads all channels, their weight "
                "only those of a group"
            )
        return self.product(*self.joined(adapter_name))

    def product(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        """Return B·A in the layout of the base weight; of a convolution with groups, over all input channels."""
        kernel = A.shape[2:]
        if len(A) > B.shape[1]:
            return torch.cat([own @ rows for rows, own in blocks(A, B)]).reshape(len(B), -1, *kernel)
        A, B = A.flatten(1), B.flatten(1)
        # In float32, since CPUs multiply half precision slowly; this also rounds the result only once.
        update = (B.float() @ A.float()).to(B.dtype) if B.dtype in (torch.float16, torch.bfloat16) else B @ A
        if kernel:
            return update.reshape(len(update), -1, *kernel)
        return update.T if self.transposed else update

    def over_all_channels(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the base weight with zeros where a convolution with groups does not read a channel."""
        groups = getattr(self.get_base_layer(), "groups", 1)
        if groups == 1:
            return weight
        rows: torch.Tensor = torch.block_diag(*weight.flatten(1).chunk(groups))  # type: ignore[no-untyped-call] # torch's
        return rows.reshape(len(weight), -1, *weight.shape[2:])

    def rescaling(self, adapter_name: str, weight: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
        """Return the factors by which DoRA multiplies the layer's result.

        Args:
            adapter_name: an adapter with magnitudes.
            weight: of the base.
            update: B·A, in the layout of the weight.
        """
        adapted = self.over_all_channels(weight.to(update)) + update
        factors: torch.Tensor = self.msplora_magnitude[adapter_name](adapted.T if self.transposed else adapted)
        return factors

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Merge adapters into the base weight. Not possible for convolutions with groups, as in PEFT's LoRA.

        Args:
            safe_merge: merge only if the merged weight is finite.
            adapter_names: which; the active ones by default.

        Raises:
            ValueError: if `safe_merge` finds a value that is not finite.
            NotImplementedError: for a convolution with groups.
        """
        for name in check_adapters_to_merge(self, adapter_names):
            if name not in self.scaling:
                continue
            merged = self._with_update(self._read_weight(), name)
            if safe_merge and not torch.isfinite(merged).all():
                raise ValueError(f"NaNs detected in the merged weights. The adapter {name} seems to be broken")
            self._write_weight(merged)
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Take the merged adapters out of the base weight."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
        while self.merged_adapters:
            name = self.merged_adapters.pop()
            if name in self.scaling:
                self._write_weight(self._without_update(self._read_weight(), name))

    def _with_update(self, weight: torch.Tensor, name: str) -> torch.Tensor:
        update = self.get_delta_weight(name)
        if name not in self.msplora_magnitude:
            return weight + update.to(weight)
        base = weight  # as in the forward pass, the norms are of the base weight with this update only
        for merged in reversed(self.merged_adapters):
            base = self._without_update(base, merged)
        rows = self.rescaling(name, base, update).detach().flatten()
        rescaling = rows if self.transposed else rows.reshape(-1, *(1 for _ in weight.shape[1:]))
        self._merged_rescaling[name] = rescaling
        return (rescaling * (weight.to(update) + update)).to(weight)

    def _without_update(self, weight: torch.Tensor, name: str) -> torch.Tensor:
        update = self.get_delta_weight(name)
        if name not in self.msplora_magnitude:
            return weight - update.to(weight)
        return (weight.to(update) / self._merged_rescaling[name].to(update) - update).to(weight)

    def _read_weight(self) -> torch.Tensor:
        """Return the base weight, dequantised if it is quantised."""
        backend, base = self.quantization_backend, self.get_base_layer()
        found: torch.Tensor = backend.get_base_weight(base) if backend else base.weight.data
        return found

    def _write_weight(self, weight: torch.Tensor) -> None:
        if self.quantization_backend:
            self.quantization_backend.set_base_weight(self, weight)
        else:
            self.get_base_layer().weight.data = weight
