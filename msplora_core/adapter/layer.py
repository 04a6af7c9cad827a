"""The layer that replaces an adapted module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft.tuners.tuners_utils import _get_in_out_features
from torch import nn

from msplora_core.adapter.dora import Magnitude
from msplora_core.adapter.factors import Factors
from msplora_core.adapter.merging import MergeableLayer
from msplora_core.adapter.registration import PREFIX
from msplora_core.adapter.sites import Site
from msplora_core.pyramid import SCALES

RANK_MULTIPLE = 16


class MSPLoraLayer(MergeableLayer):
    """A module with its adapters: for each, the component of every scale that serves it.

    Components are modules that layers share.

    Args:
        base_layer: the module, or another adapter's layer around it.
        adapter_name: the first adapter, which becomes active.
    """

    adapter_layer_names = (*(PREFIX + scale for scale in SCALES), f"{PREFIX}magnitude")
    other_param_names = (f"{PREFIX}dropout", "site", "scaling")

    def __init__(self, base_layer: nn.Module, adapter_name: str) -> None:
        super().__init__(base_layer, adapter_name)
        self.in_features, self.out_features = self._features()
        for scale in SCALES:
            setattr(self, PREFIX + scale, nn.ModuleDict())
        self.msplora_dropout = nn.ModuleDict()
        self.frozen_scales: dict[str, frozenset[str]] = {}
        self.cast_input_dtype_enabled = True

    def add_adapter(
        self,
        adapter_name: str,
        site: Site,
        components: Mapping[str, Factors],
        dropout: float,
        use_dora: bool = False,
        inference_mode: bool = False,
    ) -> None:
        """Add an adapter.

        Args:
            adapter_name: its name.
            site: the place of this layer.
            components: the component that serves it at each scale.
            dropout: probability with which an input is dropped.
            use_dora: whether the layer has magnitudes.
            inference_mode: whether the adapter stays frozen.
        """
        for scale, factors in components.items():
            self.components(scale)[adapter_name] = factors
        self.site[adapter_name] = site
        self.scaling[adapter_name] = site.scaling
        self.msplora_dropout[adapter_name] = (nn.Dropout(dropout) if dropout else nn.Identity()).train(self.training)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        if use_dora:
            with torch.no_grad():
                update = self.product(*self.joined(adapter_name))
                adapted = self.over_all_channels(self._read_weight().to(update)) + update
            self.msplora_magnitude[adapter_name] = Magnitude(adapted.T if self.transposed else adapted)
        self.set_adapter(self.active_adapters, inference_mode=inference_mode)

    def _features(self) -> tuple[int, int]:
        features: tuple[int, int] = _get_in_out_features(self.get_base_layer())
        return features

    def components(self, scale: str) -> nn.ModuleDict:
        """Return the components at a scale, by adapter."""
        found: nn.ModuleDict = getattr(self, PREFIX + scale)
        return found

    def joined(self, adapter_name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the factors of all scales joined along the rank, with the scaling in A: the update is B·A.

        The rank is padded with zeros to a multiple of 16, for which matrix kernels are optimised: on a CPU, products
        with rank 14 take up to twice the time of those with rank 16.
        """
        scaling = self.scaling[adapter_name]
        pairs = [self.components(scale)[adapter_name]() for scale in scaling]
        device = pairs[0][0].device
        sizes = self.site[adapter_name].sizes
        parts = max(sizes.groups, sizes.experts)
        rows = [A.to(device) * scaling for (A, _), scaling in zip(pairs, scaling.values(), strict=True)]
        columns = [B.to(device) for _, B in pairs]
        if parts > 1:  # the rows of one group, or of one expert, follow each other
            by_part = [A.reshape(parts, -1, *A.shape[1:]) for A in rows]
            return torch.cat(by_part, dim=1).flatten(0, 1), torch.cat(columns, dim=1)
        missing = -sum(len(A) for A in rows) % RANK_MULTIPLE
        if missing:
            rows.append(rows[0].new_zeros(missing, *rows[0].shape[1:]))
            columns.append(columns[0].new_zeros(len(columns[0]), missing, *columns[0].shape[2:]))
        return torch.cat(rows), torch.cat(columns, dim=1)

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
        """Return the result of one more adapter for an input, in the result's dtype."""
        A, B = (factor.to(x.device) for factor in self.joined(adapter_name))
        dropout = self.msplora_dropout[adapter_name]
        inputs, dropping = x, False
        if x.is_floating_point():  # else token indices
            inputs, dropping = self._cast_input_dtype(x, A.dtype), isinstance(dropout, nn.Dropout) and dropout.training
            inputs = dropout(inputs) if dropping else inputs
        if adapter_name not in self.msplora_magnitude:
            return self.plus_update(result, inputs, A, B)
        rescaling = self.rescaling(adapter_name, self._read_weight(), self.product(A, B).detach())
        # As in PEFT, dropout also acts on the rescaled result of the base.
        base = self.get_base_layer()(inputs.to(x.dtype)) if dropping else result
        bias = getattr(self.get_base_layer(), "bias", None)
        if bias is not None:
            base = base - bias.reshape(-1, *(1 for _ in A.shape[2:]))
        return (result + (rescaling - 1) * base + rescaling * self.update(inputs, A, B)).to(result.dtype)

    def update(self, x: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        """Return what B·A adds to the result for an input."""
        raise NotImplementedError

    def plus_update(self, result: torch.Tensor, x: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        """Return the result plus the update, in the result's dtype."""
        return (result + self.update(x, A, B)).to(result.dtype)

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
            if "layer" in scales and name in self.msplora_magnitude:
                self.msplora_magnitude[name].requires_grad_(False)

    def delete_adapter(self, adapter_name: str) -> None:
        super().delete_adapter(adapter_name)
        self.frozen_scales.pop(adapter_name, None)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        # PEFT's conversion supports matrices with an additive update only.
        sizes = self.site[adapter_name].sizes
        return not sizes.kernel and sizes.experts == 1 and adapter_name not in self.msplora_magnitude

    def __repr__(self) -> str:
        return f"msplora.{super().__repr__()}"
