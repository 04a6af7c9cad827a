"""PiSSA: LoRA initialised with the leading singular vectors, which are removed from the weight (2404.02948)."""

from __future__ import annotations

from typing import Any

import numpy as np

from msplora_core.adapter.live_updates import AdapterUpdates
from msplora_core.components import Component, ComponentKey
from msplora_core.linalg.updates import LowRankUpdate
from msplora_core.training.attaching.peft_attachment import PeftAttachment


class PissaAttachment(PeftAttachment):
    """LoRA with PiSSA's initialisation; its update is the change by training, s·(B·A − B₀·A₀)."""

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
