"""Interference in training: whether the scales of a layer, and the layers of a component, move in one direction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.hooks import RemovableHandle

from msplora_core.adapter.extraction import adapted_layers, component_sites, layer_updates
from msplora_core.adapter.factors import Factors
from msplora_core.adapter.layer import MSPLoraLayer
from msplora_core.components import ComponentKey
from msplora_core.errors import ParameterError
from msplora_core.linalg.inner_products import update_inner_products
from msplora_core.linalg.updates import LowRankUpdate

EVERY_N_STEPS = 10
"""Default interval. A recorded step of MiniLM-L6 takes 3% longer on a CPU, so this adds 0.3% to a training."""

Cosines = dict[str, NDArray[np.float64]]


class InterferenceRecorder:
    """Record two kinds of cosines at chosen optimiser steps of an MSPLoRA adapter.

    *Between scales*: for each adapted module, between the steps of its scales in weight space, s·(δB·A + B·δA), from
    the factors. δ is the optimiser's step, not the negative gradient, since with Adam and weight decay the two differ
    in direction.

    *Between layers*: for each component that several modules share, between the gradients of its factors A and B
    (as one vector) from each module. Gradients are summed over micro-batches and processes, so all processes must
    record the same steps. In a stack of experts, each expert has its own cosines.

    A negative cosine means that one partly cancels the other. A cosine with a zero step or gradient is undefined and
    left out. For plain LoRA, which has one scale and shares nothing, nothing is recorded. The training itself does
    not change.

    Args:
        model: a model with an adapter of PEFT.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = adapted_layers(model)
        self._layers = {path: pair for path, pair in layers.items() if isinstance(pair[0], MSPLoraLayer)}
        self._whole: dict[str, list[ComponentKey]] = defaultdict(list)  # by path, of each expert in its order
        self._shared: dict[Factors, _Shared] = {}
        for key, members in component_sites(model).items() if self._layers else ():
            path = next(iter(members))
            if key.scale == "total":
                self._whole[path].append(key)
            elif len(members) > 1:
                layer, name = self._layers[path]
                order = sorted(members, key=members.__getitem__)
                self._shared.setdefault(layer.components(key.scale)[name], _Shared([], order)).keys.append(key)
        self._hooks: list[RemovableHandle] = []
        self._path = ""  # of the layer whose forward pass runs
        self._gradients: dict[Factors, dict[str, dict[int, torch.Tensor]]] = defaultdict(dict)
        self._before: dict[str, list[dict[str, LowRankUpdate]]] = {}
        self.forget()

    def forget(self) -> None:
        """Delete the recorded cosines, at the beginning of an epoch."""
        self._between_scales: dict[str, list[float]] = defaultdict(list)
        self._between_layers: dict[str, list[NDArray[np.float64]]] = defaultdict(list)

    def watch(self) -> None:
        """Start to record a step: register hooks for the gradients of each layer."""
        self._stop_listening()
        for path, (layer, _) in self._layers.items():
            self._hooks.append(layer.register_forward_pre_hook(partial(self._enter, path)))
        for factors in self._shared:
            self._hooks.append(factors.register_forward_hook(self._listen))

    def before_step(self) -> None:
        """Record the gradients, and keep the factors before the optimiser's step, if this step is recorded."""
        if not self._hooks:
            return
        self._stop_listening()
        for factors, shared in self._shared.items():  # in this order in every process
            joined = _joined(self._gradients[factors], shared.paths, factors)
            for key, vectors in zip(shared.keys, _by_expert(joined, factors), strict=True):
                cosines = _cosines(vectors @ vectors.T)
                if np.isfinite(cosines).all():
                    self._between_layers[str(key)].append(cosines)
        self._gradients.clear()
        self._before = self._updates()

    def after_step(self) -> None:
        """Record the optimiser's steps, if this step is recorded."""
        if not self._before:
            return
        after = self._updates()
        for path, keys in self._whole.items():
            for key, old, new in zip(keys, self._before[path], after[path], strict=True):
                steps = {scale: _step(old[scale], new[scale]) for scale in old}
                cosines = _cosines(_products(list(steps.values())))
                for (i, one), (j, other) in combinations(enumerate(steps), 2):
                    if np.isfinite(cosines[i, j]):
                        self._between_scales[f"{one}-{other}/{key.module}/{key.unit}"].append(float(cosines[i, j]))
        self._before = {}

    def between_scales(self) -> Cosines:
        """Return mean and standard deviation (2,) over the recorded steps, by `global-mid/query/3` (module, layer)."""
        return _mean_and_spread(self._between_scales)

    def between_layers(self) -> Cosines:
        """Return mean and standard deviation (2, L, L) by component, for its L layers in ascending order."""
        return _mean_and_spread(self._between_layers)

    def _stop_listening(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _enter(self, path: str, *_: Any) -> None:
        self._path = path

    def _listen(self, factors: Factors, args: Any, pair: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Hand a layer views of the shared factors, whose gradients are those of this layer alone."""
        views = tuple(factor.view_as(factor) for factor in pair)
        for place, view in enumerate(views):
            if view.requires_grad:  # false if frozen, and in the first pass through a checkpointed layer
                view.register_hook(  # type: ignore[no-untyped-call] # torch's
                    partial(self._add, factors, self._path, place)
                )
        return views

    def _add(self, factors: Factors, path: str, place: int, gradient: torch.Tensor) -> None:
        sent = self._gradients[factors].setdefault(path, {})
        sent[place] = gradient.detach() + sent.get(place, 0)  # a copy: torch adds to the original in place

    def _updates(self) -> dict[str, list[dict[str, LowRankUpdate]]]:
        return {path: layer_updates(*self._layers[path]) for path in self._whole}


class _Shared(NamedTuple):
    """A component that several layers share: its key, or one for each of its experts, and the layers' paths."""

    keys: list[ComponentKey]
    paths: list[str]


def _step(before: LowRankUpdate, after: LowRankUpdate) -> LowRankUpdate:
    """The step in weight space, δB·A + B·δA, as one product of twice the rank."""
    B, A = before.B.astype(np.float64), before.A.astype(np.float64)
    return LowRankUpdate(np.hstack([after.B - B, B]), np.vstack([A, after.A - A]), before.scaling)


def _products(steps: list[LowRankUpdate]) -> NDArray[np.float64]:
    try:
        return update_inner_products(steps)
    except ParameterError:  # a factor is not finite, which the next snapshot reports
        return np.full((len(steps), len(steps)), np.nan)


def _cosines(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products as cosines; NaN where a vector is zero or not finite."""
    norms = np.sqrt(np.diagonal(products))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: NDArray[np.float64] = products / np.outer(norms, norms)
    return found


def _joined(
    gradients: Mapping[str, Mapping[int, torch.Tensor]], order: Sequence[str], factors: Factors
) -> NDArray[np.float64]:
    """The gradients of A and B as one vector a layer, summed over processes; zero for a layer without gradient."""
    ends = factors.A.numel(), factors.A.numel() + factors.B.numel()
    like = next((part for sent in gradients.values() for part in sent.values()), factors.A)
    dtype = torch.promote_types(like.dtype, torch.float32)
    vectors = torch.zeros(len(order), ends[1], dtype=dtype, device=like.device)
    for row, path in zip(vectors, order, strict=True):
        for place, part in gradients.get(path, {}).items():
            row[ends[0] * place : ends[place]] = part.flatten()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(vectors)
    return np.asarray(vectors.cpu().double())


def _by_expert(vectors: NDArray[np.float64], factors: Factors) -> Iterator[NDArray[np.float64]]:
    """The vectors of each expert: rows of A by expert and then by rank, columns of B by rank and then by expert."""
    experts, end = factors.sizes.experts, factors.A.numel()
    A, B = vectors[:, :end], vectors[:, end:].reshape(len(vectors), len(factors.B), -1)
    for expert, rows in enumerate(np.split(A, experts, axis=1)):
        yield np.hstack([rows, B[:, :, expert::experts].reshape(len(vectors), -1)])


def _mean_and_spread(series: dict[str, Any]) -> Cosines:
    return {
        key: np.stack([np.mean(values, axis=0), np.std(values, axis=0)]) for key, values in series.items() if values
    }
