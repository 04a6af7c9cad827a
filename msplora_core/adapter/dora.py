"""The magnitudes of DoRA."""

from __future__ import annotations

import torch
from torch import nn


class Magnitude(nn.Module):
    """The norms m of the rows of one adapted weight, trained separately from the rows' directions.

    W' = m · (W + ΔW) / ‖W + ΔW‖, row by row (Eq. 5 of DoRA, arXiv 2402.09353). In the backward pass, the denominator
    is a constant (its Section 4.3). Layers share components, but not magnitudes.

    Args:
        adapted: W + ΔW, (out × in), or (out × in × kernel) of a convolution.
    """

    def __init__(self, adapted: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(row_norms(adapted))

    def forward(self, adapted: torch.Tensor) -> torch.Tensor:
        """Return m / ‖W + ΔW‖ in a shape that multiplies the layer's result; 1 for a row of zeros."""
        norms = row_norms(adapted.detach())
        zero = norms == 0
        factors: torch.Tensor = self.weight.to(norms.device) / norms.masked_fill(zero, 1)
        return factors.masked_fill(zero, 1)


def row_norms(weight: torch.Tensor) -> torch.Tensor:
    """Return the norms of a weight's rows: (out), or (1 × out × 1 ...) for a convolution."""
    norms: torch.Tensor = weight.flatten(1).norm(dim=1)
    return norms.reshape(1, -1, *(1 for _ in weight.shape[2:])) if weight.dim() > 2 else norms
