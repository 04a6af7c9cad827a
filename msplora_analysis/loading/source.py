"""A source of spectra: one run, or what stands for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    """

    epoch: float
    step: int | None
    spectra: _Arrays
    factor_A: _Arrays | None = None
    factor_B: _Arrays | None = None


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
