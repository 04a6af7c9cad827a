"""The two factors of one component."""

from __future__ import annotations

import math

import torch
from torch import nn

from msplora_core.adapter.sizes import Sizes
from msplora_core.errors import ParameterError


class Factors(nn.Module):
    """A (r × in) and B (out × r) of one component, a module that several layers can share.

    Layers share the module, not its parameters, so that they still share after operations that replace parameters:
    moves to another device or dtype, loading by assignment, deep copies.

    As in PEFT's LoRA, the factors of a convolution are kernels: A (r × in × kernel) and B (out × r/groups × 1 × ...),
    and those of several experts are stacked (see `blocks`).

    Args:
        rank: r.
        sizes: of the modules that it serves.
    """

    def __init__(self, rank: int, sizes: Sizes) -> None:
        super().__init__()
        self.rank, self.sizes = rank, sizes
        self.A = nn.Parameter(torch.empty(sizes.A_shape(rank)))
        self.B = nn.Parameter(torch.empty(sizes.B_shape(rank)))

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the factors. A module call, so that hooks which fetch offloaded parameters run."""
        return self.A, self.B

    @torch.no_grad()
    def initialise(self, how: bool | str, *, zero_first: bool = False) -> None:
        """Initialise both factors.

        Args:
            how: as `MSPLoraConfig.init_lora_weights`.
            zero_first: make A zero and B random, as PEFT does for embeddings.
        """
        if how == "orthogonal":
            self._initialise_orthogonally()
        elif zero_first:
            nn.init.normal_(self.B)
            nn.init.zeros_(self.A) if how is not False else nn.init.normal_(self.A)
        else:
            if how == "gaussian":
                nn.init.normal_(self.A, std=1 / self.rank)
            else:
                nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
            nn.init.kaiming_uniform_(self.B, a=math.sqrt(5)) if how is False else nn.init.zeros_(self.B)

    def _initialise_orthogonally(self) -> None:
        """Initialise A and B in orthogonal halves of the r-dimensional space, so that B·A = 0 but A, B ≠ 0."""
        rank = self.rank // self.sizes.groups
        if rank % 2:
            raise ParameterError("ranks", expected="even ranks for init_lora_weights='orthogonal'", found=rank)
        if self.A.is_meta:
            return
        for A, B in blocks(self.A, self.B, self.sizes.experts):
            basis = torch.linalg.qr(torch.randn(rank, rank)).Q
            A.copy_((torch.randn(A.shape[1], rank // 2) @ basis[0::2]).T / 10)
            B.copy_(torch.randn(B.shape[0], rank // 2) @ basis[1::2] / 10)

    def extra_repr(self) -> str:
        return f"rank={self.rank}, in={self.A.shape[1]}, out={self.B.shape[0]}"


def blocks(A: torch.Tensor, B: torch.Tensor, experts: int = 1) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return views of the factors as matrices (r × in) and (out × r), a pair for each group or expert.

    Args:
        A: (r, in), or (r, in, kernel) of a convolution; (experts·r, in), by expert and then by rank.
        B: (out, r), or (out, r/groups, 1, ...) of a convolution; (out, r·experts), by rank and then by expert.
        experts: number of experts.
    """
    if experts > 1:
        return [(rows, B[:, expert::experts]) for expert, rows in enumerate(A.chunk(experts))]
    groups = len(A) // B.shape[1]
    return list(zip(A.flatten(1).chunk(groups), B.flatten(1).chunk(groups), strict=True))
