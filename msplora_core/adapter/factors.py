"""The two factors of one component."""

from __future__ import annotations

import math

import torch
from torch import nn

from msplora_core.errors import ParameterError


class Factors(nn.Module):
    """A (r × in) and B (out × r) of one component, a module that several layers can share.

    Layers share the module rather than its two parameters, because that survives operations that replace
    parameters: moves to another device or dtype, loading by assignment, deep copies.

    Args:
        rank: r.
        in_features: columns of A.
        out_features: rows of B.
    """

    def __init__(self, rank: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.empty(rank, in_features))
        self.B = nn.Parameter(torch.empty(out_features, rank))

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the factors. Called as a module, so that hooks which fetch offloaded parameters run."""
        return self.A, self.B

    @torch.no_grad()
    def initialise(self, how: bool | str, *, zero_first: bool = False) -> None:
        """Initialise both factors.

        Args:
            how: as `MSPLoraConfig.init_lora_weights`.
            zero_first: make A zero and B random, as PEFT does for embeddings.
        """
        rank = self.A.shape[0]
        if how == "orthogonal":
            self._initialise_orthogonally()
        elif zero_first:
            nn.init.normal_(self.B)
            nn.init.zeros_(self.A) if how is not False else nn.init.normal_(self.A)
        else:
            if how == "gaussian":
                nn.init.normal_(self.A, std=1 / rank)
            else:
                nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
            nn.init.kaiming_uniform_(self.B, a=math.sqrt(5)) if how is False else nn.init.zeros_(self.B)

    def _initialise_orthogonally(self) -> None:
        """Initialise A and B in orthogonal halves of the rank's space, so that B·A = 0 while neither is zero."""
        rank = self.A.shape[0]
        if rank % 2:
            raise ParameterError("ranks", expected="even ranks for init_lora_weights='orthogonal'", found=rank)
        if self.A.is_meta:
            return
        basis = torch.linalg.qr(torch.randn(rank, rank)).Q
        self.A.copy_((torch.randn(self.A.shape[1], rank // 2) @ basis[0::2]).T / 10)
        self.B.copy_(torch.randn(self.B.shape[0], rank // 2) @ basis[1::2] / 10)

    def extra_repr(self) -> str:
        return f"rank={self.A.shape[0]}, in={self.A.shape[1]}, out={self.B.shape[0]}"
