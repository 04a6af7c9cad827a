"""The two adapter sizes that are measured."""

from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """The size of an adapter: the number and width of its square matrices, and the rank of their updates."""

    matrices: int
    width: int
    rank: int


LLAMA = Size(64, 4096, 64)
"""LLaMA2-7B, query and value."""
ROBERTA = Size(24, 768, 8)
"""RoBERTa-base, query and value."""
