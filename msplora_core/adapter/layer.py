"""The layer that replaces an adapted module."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, _get_in_out_features, check_adapters_to_merge
from torch import nn
from transformers.pytorch_utils import Conv1D

from msplora_core.adapter.factors import Factors
from msplora_core.adapter.quantised import quantization_backend
from msplora_core.adapter.registration import PREFIX
from msplora_core.adapter.sites import Site
from msplora_core.pyramid import SCALES

RANK_MULTIPLE = 16


class MSPLoraLayer(nn.Module, BaseTunerLayer):
    """A module with its adapters: for each, the component of every scale that serves it.

    A component is a module that other layers of its scale hold, too.

    Args:
        base_layer: the module, or another adapter's layer around it.
        adapter_name: the first adapter, active from the start.
    """

    adapter_layer_names = tuple(PREFIX + scale for scale in SCALES)
    other_param_names = (f"{PREFIX}dropout", "site", "scaling")

    if TYPE_CHECKING:  # what PEFT's half of this class defines

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, base_layer: nn.Module, adapter_name: str) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.in_features, self.out_features = _get_in_out_features(self.get_base_layer())
        for name in self.adapter_layer_names:
            setattr(self, name, nn.ModuleDict())
        self.msplora_dropout = nn.ModuleDict()
        self.site: dict[str, Site] = {}
        self.scaling: dict[str, dict[str, float]] = {}
        self.frozen_scales: dict[str, frozenset[str]] = {}
        self.cast_input_dtype_enabled = True
        self.quantization_backend = quantization_backend(self.get_base_layer())
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter = [adapter_name]

    @property
    def transposed(self) -> bool:
        """Whether the base weight is kept as in × out."""
        return isinstance(self.get_base_layer(), Conv1D | nn.Embedding)

    def add_adapter(
        self,
        adapter_name: str,
        site: Site,
        components: Mapping[str, Factors],
        dropout: float,
        inference_mode: bool = False,
    ) -> None:
        """Add an adapter.

        Args:
            adapter_name: its name.
            site: the place of this layer.
            components: the component that serves it at each scale.
            dropout: probability with which an input is dropped.
            inference_mode: whether the adapter stays frozen.
        """
        for scale, factors in components.items():
            self.components(scale)[adapter_name] = factors
        self.site[adapter_name] = site
        self.scaling[adapter_name] = site.scaling
        self.msplora_dropout[adapter_name] = (nn.Dropout(dropout) if dropout else nn.Identity()).train(self.training)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=inference_mode)

    def components(self, scale: str) -> nn.ModuleDict:
        """Return the components at a scale, by adapter."""
        found: nn.ModuleDict = getattr(self, PREFIX + scale)
        return found

    def joined(self, adapter_name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the factors of all scales joined along the rank, with the scaling in A: the update is B·A.

        Zeros pad the rank to the next multiple of 16. They do not change the update, but matrix kernels are
        optimised for such sizes: on a CPU, products with rank 14 take up to twice the time of those with rank 16.
        """
        scaling = self.scaling[adapter_name]
        pairs = [self.components(scale)[adapter_name]() for scale in scaling]
        device = pairs[0][0].device
        groups = self.site[adapter_name].sizes.groups
        rows = [A.to(device) * scaling for (A, _), scaling in zip(pairs, scaling.values(), strict=True)]
        columns = [B.to(device) for _, B in pairs]
        if groups > 1:  # the rows of one group follow each other
            by_group = [A.reshape(groups, -1, *A.shape[1:]) for A in rows]
            return torch.cat(by_group, dim=1).flatten(0, 1), torch.cat(columns, dim=1)
        missing = -sum(len(A) for A in rows) % RANK_MULTIPLE
        if missing:
            rows.append(rows[0].new_zeros(missing, *rows[0].shape[1:]))
            columns.append(columns[0].new_zeros(len(columns[0]), missing, *columns[0].shape[2:]))
        return torch.cat(rows), torch.cat(columns, dim=1)

    def get_delta_weight(self, adapter_name: str) -> torch.Tensor:
        """Return the adapter's weight update in the layout of the base weight and the dtype of the factors."""
        if self.site[adapter_name].sizes.groups > 1:
            raise NotImplementedError(
                "Merging is not supported for convolutions with groups: the update reads all channels, their weight "
                "only those of a group"
            )
        A, B = (factor.flatten(1) for factor in self.joined(adapter_name))
        # In float32, since CPUs multiply half precision slowly; also, the result is rounded only once.
        update = (B.float() @ A.float()).to(B.dtype) if B.dtype in (torch.float16, torch.bfloat16) else B @ A
        kernel = self.site[adapter_name].sizes.kernel
        if kernel:
            return update.reshape(len(update), -1, *kernel)
        return update.T if self.transposed else update

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add updates to the base weight. Not possible for convolutions with groups, as in PEFT's LoRA.

        Args:
            safe_merge: add to a copy, and take it only if it is finite.
            adapter_names: which; the active ones by default.

        Raises:
            ValueError: if `safe_merge` finds a value that is not finite.
            NotImplementedError: for a convolution with groups.
        """
        for name in check_adapters_to_merge(self, adapter_names):
            if name not in self.scaling:
                continue
            weight = self._read_weight()
            merged = weight + self.get_delta_weight(name).to(weight)
            if safe_merge and not torch.isfinite(merged).all():
                raise ValueError(f"NaNs detected in the merged weights. The adapter {name} seems to be broken")
            self._write_weight(merged)
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Subtract the merged updates from the base weight."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
        while self.merged_adapters:
            name = self.merged_adapters.pop()
            if name in self.scaling:
                weight = self._read_weight()
                self._write_weight(weight - self.get_delta_weight(name).to(weight))

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

    def forward(self, x: torch.Tensor, *args: Any, adapter_names: list[str] | None = None, **kwargs: Any) -> Any:
        """Return the base module's result plus the active adapters' updates.

        Args:
            x: (..., in), token indices for an embedding, or (batch, in, ...) for a convolution.
            adapter_names: an adapter for each item of the batch; `"__base__"` for none.
        """
        if adapter_names is not None:
            self._check_mixed_batch(x, adapter_names)
        if self.disable_adapters:
            if self.merged:
                self.unmerge()
            return self.base_layer(x, *args, **kwargs)
        result = self.base_layer(x, *args, **kwargs)
        if adapter_names is not None:
            return self._add_to_parts(result, x, adapter_names)
        if not self.merged:
            for name in self.active_adapters:
                if name in self.scaling:
                    result = self.add_update(result, x, name)
        return result

    def add_update(self, result: torch.Tensor, x: torch.Tensor, adapter_name: str) -> torch.Tensor:
        """Return the result plus one adapter's update for an input, in the result's dtype."""
        raise NotImplementedError

    def _add_to_parts(self, result: torch.Tensor, x: torch.Tensor, adapter_names: Sequence[str]) -> torch.Tensor:
        """The result of a mixed batch: each item with the update of its own adapter."""
        result = result.clone()
        for name in dict.fromkeys(adapter_names):
            if name in self.scaling:
                items = [item for item, wanted in enumerate(adapter_names) if wanted == name]
                result[items] = self.add_update(result[items], x[items], name)
        return result

    def _check_mixed_batch(self, x: torch.Tensor, adapter_names: Sequence[str]) -> None:
        if len(x) != len(adapter_names):
            raise ValueError(
                "Length of `adapter_names` should be the same as the number of inputs, but got "
                f"{len(adapter_names)} and {len(x)} respectively."
            )
        if self.merged:
            raise ValueError(
                "Cannot pass `adapter_names` when there are merged adapters, please call `unmerge_adapter` first."
            )

    def set_trainable_scales(self, adapter_name: str, scales: Sequence[str]) -> None:
        """Train an adapter at some scales only, now and whenever it is made trainable."""
        if adapter_name in self.scaling:
            self.frozen_scales[adapter_name] = frozenset(SCALES) - frozenset(scales)
            self.set_adapter(self.active_adapters)

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        super().set_adapter(adapter_names, inference_mode=inference_mode)
        self._freeze_scales()

    def set_requires_grad(self, adapter_names: str | Sequence[str], requires_grad: bool = True) -> None:
        super().set_requires_grad(adapter_names, requires_grad=requires_grad)
        self._freeze_scales()

    def _freeze_scales(self) -> None:
        for name, scales in self.frozen_scales.items():
            for scale in scales:
                if name in self.components(scale):
                    self.components(scale)[name].requires_grad_(False)

    def delete_adapter(self, adapter_name: str) -> None:
        super().delete_adapter(adapter_name)
        self.frozen_scales.pop(adapter_name, None)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        return not self.site[adapter_name].sizes.kernel  # PEFT's conversion is for matrices

    def __repr__(self) -> str:
        return f"msplora.{super().__repr__()}"
