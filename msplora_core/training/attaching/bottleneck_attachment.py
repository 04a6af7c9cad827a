"""Bottleneck adapters in all layers, or without the lowest layers (AdapterDrop)."""

from __future__ import annotations

from typing import Any

from msplora_core.errors import ParameterError
from msplora_core.training.attaching.peft_attachment import PeftAttachment


class BottleneckAttachment(PeftAttachment):
    """Houlsby's adapters (see `BottleneckConfig`), with the run's rank as the size of the bottleneck."""

    def _shared(self, base: Any) -> dict[str, Any]:
        targets = self.config.target_modules  # None for those of the model's type
        return {"bottleneck_size": self.config.rank, "target_modules": list(targets) if targets else None}


class AdapterDropAttachment(BottleneckAttachment):
    """No adapters in the lowest layers: the paper's specialised AdapterDrop.

    The paper omits 5 of 12 layers; models of other depths omit ⌊5/12·layers⌋, unless `layers_to_transform` lists the
    layers with adapters. LayerNorms stay frozen, as in the paper's framework. On RoBERTa-base, sizes 13 and 41 give
    the 0.3M and 0.9M parameters in Table 1 of MSPLoRA.
    """

    def _shared(self, base: Any) -> dict[str, Any]:
        layers = base.config.num_hidden_layers
        dropped = 5 * layers // 12
        if not dropped and "layers_to_transform" not in (self.config.options or {}):
            raise ParameterError("method", expected=f"adapter for a model of {layers} layers", found="adapterdrop")
        return super()._shared(base) | {
            "layers_to_transform": list(range(dropped, layers)),
            "train_layer_norms": False,
        }
