"""Train an adapter at some scales only."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from msplora_core.adapter.layer import MSPLoraLayer
from msplora_core.errors import ParameterError
from msplora_core.pyramid import SCALES


def set_trainable_scales(model: nn.Module, scales: Iterable[str], adapter_name: str | None = None) -> None:
    """Train an adapter at some scales only, so that scales can be trained one after another.

    Frozen scales keep their values and still contribute to the forward pass. DoRA's magnitudes belong to the layer
    scale. The choice holds until the next call, even if PEFT disables and enables adapters.

    Args:
        model: a model with MSPLoRA.
        scales: scales to train, of "global", "mid" and "layer".
        adapter_name: which adapter; the active ones by default.

    Raises:
        ParameterError: for an unknown scale or adapter, or a model without MSPLoRA.
    """
    scales = list(scales)
    unknown = [scale for scale in scales if scale not in SCALES]
    if unknown:
        raise ParameterError("scales", expected=", ".join(SCALES), found=unknown)
    layers = [module for module in model.modules() if isinstance(module, MSPLoraLayer)]
    if not layers:
        raise ParameterError("model", expected="a model with MSPLoRA", found=type(model).__name__)
    known = {name for layer in layers for name in layer.scaling}
    wanted = {name for layer in layers for name in layer.active_adapters} if adapter_name is None else {adapter_name}
    if not wanted & known:
        found = ", ".join(sorted(wanted)) or "none active"
        raise ParameterError("adapter_name", expected=f"one of {', '.join(sorted(known))}", found=found)
    for layer in layers:
        for name in wanted:
            layer.set_trainable_scales(name, scales)
