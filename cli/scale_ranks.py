"""The entropy rank of each scale, which trainings show next to the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msplora_core.errors import FileError
from msplora_core.pyramid import ALL_SCALES
from msplora_core.runs import read_snapshot
from msplora_core.training.shown import SHOWN, scale_measures

if TYPE_CHECKING:
    from msplora_core.runs import RunDirectory, Snapshot


def entropy_ranks_at(run: RunDirectory, epoch: int) -> str:
    """Return `entropy_ranks` of a run at an epoch; empty if it has no snapshot there, or none that can be read."""
    try:
        return entropy_ranks(read_snapshot(run.snapshot_path(epoch)))
    except FileError:
        return ""


def entropy_ranks(snapshot: Snapshot) -> str:
    """Return the mean entropy rank of each scale's components as the end of a line; empty without components.

    It is high if information is spread over many directions. Zero components, as at epoch 0, have none.

    Example:
        >>> import numpy as np
        >>> from msplora_core.runs import Snapshot
        >>> entropy_ranks(Snapshot(1, 4, {"layer/q/0": np.ones(2), "layer/q/1": np.ones(1), "global/q/0": np.ones(4)}))
        '  entropy rank global 4.00, layer 1.50'
    """
    measures = scale_measures(snapshot.spectra)
    names = {scale: f"{SHOWN}{scale}/entropy_rank" for scale in ALL_SCALES}
    means = ", ".join(f"{scale} {measures[name]:.2f}" for scale, name in names.items() if name in measures)
    return f"  entropy rank {means}" if means else ""
