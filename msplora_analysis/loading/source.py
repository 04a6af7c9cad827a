"""A source of spectra and updates: one run, or what stands for one."""

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
    """The spectra at one moment of a training.

    Args:
        epoch: 0 before the first step, a fraction within an epoch; NaN if unknown.
        step: optimiser steps so far; None if unknown.
        spectra: singular values by component key.
        factor_A: those of the factors A, without the scaling, as far as known and asked for.
        factor_B: those of the factors B, likewise.
        inner: what was recorded of directions, by module type.
    """

    epoch: float
    step: int | None
    spectra: _Arrays
    factor_A: _Arrays | None = None
    factor_B: _Arrays | None = None
    inner: Sequence[Recorded] = ()


class Recorded(NamedTuple):
    """The inner products of one module type's layers, as a snapshot holds them.

    Args:
        module: the module type.
        scale: `total`, or `layer` where no components are shared.
        layers: L layers, ascending.
        inner: (L, L) inner products of all that acts on each.
        spectra: the singular values of it, by layer.
    """

    module: str
    scale: str
    layers: Sequence[int]
    inner: NDArray[np.float64]
    spectra: Sequence[NDArray[np.float64]]


class Saved(NamedTuple):
    """The updates that were saved at one moment of a training.

    Args:
        epoch, step: as of a `Moment`.
        path: of the adapter.
        components: reads them, one in memory at a time, each with the path of its module in the model.
    """

    epoch: float
    step: int | None
    path: Path
    components: Callable[[], Iterable[tuple[str, Component]]]


def none_left(errors: list[MSPLoraError]) -> Iterator[Any]:
    """Yield nothing: in place of what there is not, or of what was read and released."""
    return iter(())


@dataclass(frozen=True, eq=False)
class Source:
    """One run, or what stands for one.

    Args:
        method: the method with what tells its variants apart: `lora-r8`, `msplora-8-4-2`.
        model: the base model; empty if unknown.
        task: what it was trained on; empty if unknown.
        seed: of the training; None if unknown.
        modules: module types in the order of the model, as far as known.
        moments: reads the source: yields one moment after the other, one in memory at a time, and puts the
            error of each that cannot be read into the list it is given.
        notes: sentences that a reader of the numbers should know.
        stacks: list of layers and shapes by module type, as far as known: only what agrees in them is averaged.
        scalings: factors of B·A by component key, as far as known.
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
    recorded: bool = False
    saved: Callable[[list[MSPLoraError]], Iterator[Saved]] = none_left
    check: Callable[[], list[Finding]] = list
    no_spectra: str = ""
