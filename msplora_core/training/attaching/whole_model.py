"""Training of the base model's weights: all of them, or its biases."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from msplora_core.adapter.live_updates import LiveUpdates, NoUpdates
from msplora_core.adapter.sites import layer_lists
from msplora_core.components import Component, ComponentKey
from msplora_core.errors import ParameterError
from msplora_core.linalg.updates import DeferredUpdate
from msplora_core.placement import place_modules
from msplora_core.training.attaching.attachment import Attachment
from msplora_core.training.attaching.peft_attachment import target_modules
from msplora_core.training.tasks import task_named

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


class FullFineTuning(Attachment):
    """All weights train; the update of a target module is W − W₀."""

    def attach(self, base: Any, steps: int) -> Any:
        self.targets = target_modules(self.config, base)
        return base.requires_grad_(True)

    def updates(self, model: Any) -> LiveUpdates:
        return WeightChanges(model, self.targets)

    def configuration(self, model: Any) -> dict[str, Any]:
        return {
            "method": self.config.method,
            "task_type": "CAUSAL_LM" if task_named(self.config.task).instructions else "SEQ_CLS",
            "base_model_name_or_path": model.config._name_or_path,
        }


class BiasTuning(FullFineTuning):
    """BitFit: train the biases and the untrained head of a task (Ben Zaken et al. 2106.10199)."""

    def attach(self, base: Any, steps: int) -> Any:
        if not any(name.endswith(".bias") for name, _ in base.base_model.named_parameters()):
            found = f"one of type {base.config.model_type} without any"
            raise ParameterError("method", expected="a model with biases, for bitfit", found=found)
        for name, weight in base.named_parameters():
            head = not name.startswith(f"{base.base_model_prefix}.") and not task_named(self.config.task).instructions
            weight.requires_grad_(head or name.endswith(".bias"))
        return base

    def updates(self, model: Any) -> LiveUpdates:
        return NoUpdates(self.config.method_entry.no_spectra)


class WeightChanges:
    """The change of modules' weights by training, formed one at a time when it is decomposed.

    Args:
        model: before the first step; the weights of the modules are copied.
        targets: names of the modules, as ends of their paths.
    """

    note = ""

    def __init__(self, model: Any, targets: list[str]) -> None:
        weights = {path.removesuffix(".weight"): weight for path, weight in model.named_parameters()}
        self.weights = {path: weight for path, weight in weights.items() if _is_one(path, weight, targets)}
        self.start = {path: weight.detach().clone() for path, weight in self.weights.items()}
        self.places = place_modules(list(self.weights), layer_lists(model))

    def components(self) -> list[Component]:
        return [
            Component(key, DeferredUpdate(_shape(self.weights[path]), partial(self._change, path)))
            for key, sites in self.sites().items()
            for path in sites
        ]

    def sites(self) -> dict[ComponentKey, dict[str, int]]:
        return {
            ComponentKey("layer", place.module, place.layer or 0): {path: place.layer or 0}
            for path, place in self.places.items()
        }

    def _change(self, path: str) -> NDArray[np.float64]:
        change: NDArray[np.float64] = (self.weights[path].detach().double() - self.start[path].double()).cpu().numpy()
        return change


def _is_one(path: str, weight: torch.Tensor, targets: list[str]) -> bool:
    return weight.ndim == 2 and any(f".{path}".endswith(f".{target}") for target in targets)


def _shape(weight: torch.Tensor) -> tuple[int, int]:
    return weight.shape[0], weight.shape[1]
