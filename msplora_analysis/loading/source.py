"""A source of spectra and updates: a run, an adapter, or the checkpoints of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from msplora_core.checkup.finding import Finding
from msplora_core.components import Component
from msplora_core.errors import MSPLoraError

_Arrays = Mapping[str, NDArray[np.float64]]


class Moment(NamedTuple):
    """The spectra at one step of a training.

    Args:
        epoch: 0 before the first step, a fraction within an epoch; NaN if unknown.
        step: optimiser steps so far; None if unknown.
        spectra: singular values by component key.
        factor_A: singular values of the factors A, without the scaling, if known and requested.
        factor_B: singular values of the factors B, likewise.
        inner: recorded inner products by module type, if requested.
    """

    epoch: float
    step: int | None
    spectra: _Arrays
    factor_A: _Arrays | None = None
    factor_B: _Arrays | None = None
    inner: Sequence[Recorded] = ()


class Recorded(NamedTuple):
    """The inner products of one module type's layers, from a snapshot.

    Args:
        module: the module type.
        scale: `total`, or `layer` if no components are shared.
        layers: L layers, ascending.
        inner: (L, L) inner products of the layers' updates at this scale.
        spectra: singular values of these updates, by layer.
    """

    module: str
    scale: str
    layers: Sequence[int]
    inner: NDArray[np.float64]
    spectra: Sequence[NDArray[np.float64]]


class Saved(NamedTuple):
    """The updates that were saved at one step of a training.

    Args:
        epoch, step: as in `Moment`.
        path: of the adapter.
        components: reads them one at a time, each with the path of its module in the model.
    """

    epoch: float
    step: int | None
    path: Path
    components: Callable[[], Iterable[tuple[str, Component]]]


def none_left(errors: list[MSPLoraError]) -> Iterator[Any]:
    """Yield nothing: the default of `saved`, and the value after reading."""
    return iter(())


@dataclass(frozen=True, eq=False)
class Source:
    """A run, an adapter, or the checkpoints of a training.

    Args:
        method: name with the ranks: `lora-r8`, `msplora-8-4-2`.
        model: the base model; empty if unknown.
        task: training data; empty if unknown.
        seed: of the training; None if unknown.
        modules: module types in the order of the model, as far as known.
        moments: yields one moment after the other, and appends the errors of those that cannot be read to its
            argument.
        notes: remarks on the numbers, one sentence each.
        stacks: list of layers and shapes by module type, as far as known. Only equal stacks are averaged.
        scalings: factors of B·A by component key, as far as known.
        settings: of the training, as run.json names them; empty for adapters.
        guessed: what was taken from the name: `task mrpc, seed 3`; empty if nothing was.
        recorded: whether moments are read from records; else they are computed from what `saved` opens.
        saved: opens the saved updates in the order of training, and puts errors into a list likewise; yields nothing
            if no adapter was saved.
        check: returns the findings of the check-up of the adapter's file; of an adapter whose moments were read.
        no_spectra: why its method has no spectra; empty where it has.
    """

    method: str
    model: str
    task: str
    seed: int | None
    modules: list[str]
    moments: Callable[[list[MSPLoraError]], Iterator[Moment]]
    notes: list[str] = field(default_factory=list)
    stacks: Mapping[str, str] = field(default_factory=dict)
    guessed: str = ""
    scalings: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    recorded: bool = False
    saved: Callable[[list[MSPLoraError]], Iterator[Saved]] = none_left
    check: Callable[[], list[Finding]] = list
    no_spectra: str = ""
