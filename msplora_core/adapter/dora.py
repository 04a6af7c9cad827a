"""The magnitudes of DoRA."""

from __future__ import annotations

import torch
from torch import nn


class Magnitude(nn.Module):
    """The norms m of the rows of one adapted weight, trained apart from the rows' directions.

    W' = m · (W + ΔW) / ‖W + ΔW‖, row by row (Eq. 5 of DoRA, arXiv 2402.09353). Backward, the norm below is taken as
    a constant (its Section 4.3). Layers share components, but each has magnitudes of its own.

    Args:
        adapted: W + ΔW, (out × in), or (out × in × kernel) of a convolution.
    """

    def __init__(self, adapted: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(row_norms(adapted))

    def forward(self, adapted: torch.Tensor) -> torch.Tensor:
        """Return m / ‖W + ΔW‖ in the shape in which it multiplies the layer's result.

        A row of zeros has no direction and stays as it is.
        """
        norms = row_norms(adapted.detach())
        zero = norms == 0
        factors: torch.Tensor = self.weight.to(norms.device) / norms.masked_fill(zero, 1)
        return factors.masked_fill(zero, 1)


def row_norms(weight: torch.Tensor) -> torch.Tensor:
    """Return the norms of a weight's rows: (out), or (1 × out × 1 ...) for a convolution."""
    norms: torch.Tensor = weight.flatten(1).norm(dim=1)
    return norms.reshape(1, -1, *(1 for _ in weight.shape[2:])) if weight.dim() > 2 else norms
