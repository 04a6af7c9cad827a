"""Spectra shown during a training: alerts, and measures for the Trainer's log."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback

SHOWN = "spectra/"
"""Prefix of the measures in the Trainer's log."""


class TrainingAlert(UserWarning):
    """The updates of a running training have a defect."""


def scale_measures(spectra: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return measures by `spectra/<scale>/<measure>`: means over the scale's components that are not zero.

    Example:
        >>> scale_measures({"layer/q/0": np.array([3.0, 3.0]), "layer/q/1": np.array([2.0, 0.0])})
        {'spectra/layer/norm': 3.12..., 'spectra/layer/entropy_rank': 1.5, 'spectra/layer/m_eff_1': 0.75, \
'spectra/layer/stable_rank': 1.5}
    """
    values: dict[str, list[float]] = defaultdict(list)
    for key, sigma in spectra.items():
        if sigma[0] > 0:
            share = sigma / sigma.sum()
            measures = {
                "norm": np.linalg.norm(sigma),
                "entropy_rank": np.exp(entr(share).sum()),
                "m_eff_1": share[0],
                "stable_rank": ((sigma / sigma[0]) ** 2).sum(),
            }
            for name, value in measures.items():
                values[f"{SHOWN}{key.partition('/')[0]}/{name}"].append(float(value))
    return {name: float(np.mean(each)) for name, each in values.items()}


def trainer_of(callback: TrainerCallback) -> Trainer | None:
    """Return the Trainer that is calling a callback; None if no Trainer is."""
    # Trackers are called before other callbacks, so measures reach them through `Trainer.log` only; and no argument of
    # a callback leads to its Trainer.
    from transformers import Trainer

    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, Trainer) and any(one is callback for one in caller.callback_handler.callbacks):
            return caller
        frame = frame.f_back
    return None
