"""The entropy rank of each scale, which trainings show next to the loss."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from msplora_analysis.kernels.concentration import entropy_rank
from msplora_core.errors import FileError
from msplora_core.pyramid import SCALES
from msplora_core.runs import read_snapshot

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
        >>> from msplora_core.runs import Snapshot
        >>> entropy_ranks(Snapshot(1, 4, {"layer/q/0": np.ones(2), "layer/q/1": np.ones(1), "global/q/0": np.ones(4)}))
        '  entropy rank global 4.00, layer 1.50'
    """
    ranks: dict[str, list[float]] = defaultdict(list)
    for key, sigma in snapshot.spectra.items():
        if sigma.any():
            ranks[key.partition("/")[0]].append(float(entropy_rank(sigma)))
    means = ", ".join(f"{scale} {np.mean(ranks[scale]):.2f}" for scale in (*SCALES, "total") if scale in ranks)
    return f"  entropy rank {means}" if means else ""
