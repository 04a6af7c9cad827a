"""The two sizes of adapter that are measured."""

from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """Of an adapter: so many square matrices with an update of some rank."""

    matrices: int
    width: int
    rank: int


LLAMA = Size(64, 4096, 64)
"""LLaMA2-7B, query and value."""
ROBERTA = Size(24, 768, 8)
"""RoBERTa-base, query and value."""
