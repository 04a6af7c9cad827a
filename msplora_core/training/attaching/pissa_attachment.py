"""PiSSA: LoRA initialised with the leading singular vectors, which are removed from the weight (2404.02948)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from msplora_core.adapter.live_updates import AdapterUpdates
from msplora_core.components import Component, ComponentKey
from msplora_core.errors import ParameterError
from msplora_core.linalg.updates import LowRankUpdate
from msplora_core.training.attaching.peft_attachment import PeftAttachment

if TYPE_CHECKING:
    from peft import PeftModel


class PissaAttachment(PeftAttachment):
    """LoRA with PiSSA's initialisation; its update is the change by training, s·(B·A − B₀·A₀)."""

    def attach(self, base: Any, steps: int) -> PeftModel:
        model = super().attach(base, steps)
        for layer in model.modules():
            for name, A in getattr(layer, "lora_A", {}).items():
                if A.weight.shape[0] < layer.r[name]:  # the saved adapter could not be loaded
                    most = f"at most {A.weight.shape[0]}, the number of singular values of a weight"
                    raise ParameterError("rank", expected=most, found=layer.r[name])
        return model

    def updates(self, model: Any) -> ChangeSinceStart:
        return ChangeSinceStart(model)


class ChangeSinceStart(AdapterUpdates):
    """The updates of LoRA minus the initial ones, at twice the rank.

    Args:
        model: with the adapter, before the first step.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.start = {one.key: one.update for one in super().components()}

    def components(self) -> list[Component]:
        return [Component(one.key, self._changed(one.key, one.update)) for one in super().components()]

    def _changed(self, key: ComponentKey, now: Any) -> LowRankUpdate:
        """B·A − B₀·A₀ as (B − B₀)·A + B₀·(A − A₀): exactly zero at the start."""
        start: Any = self.start[key]
        B, A, B0, A0 = (part.astype(np.float64) for part in (now.B, now.A, start.B, start.A))
        return LowRankUpdate(np.hstack([B - B0, B0]), np.vstack([A, A - A0]), now.scaling)
