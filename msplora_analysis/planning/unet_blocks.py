"""The blocks of a U-Net, numbered as in `block_dims` of sd-scripts."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

_DIFFUSERS = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.")
_ORIGINAL = re.compile(r"(input_blocks|middle_block|output_blocks)\.(\d+)\.")
_SD_BLOCKS, _SDXL_BLOCKS = 25, 23
_SD_MIDDLE = 12
_ONLY_SDXL = ".transformer_blocks.1."
_SDXL_FIRST = {"input_blocks": 1, "middle_block": 10, "output_blocks": 13}


def block_ranks(ranks: Mapping[str, int]) -> list[int]:
    """Return a rank for each block of a U-Net: the mean of its modules, rounded up.

    Args:
        ranks: rank by path in the U-Net.

    Returns:
        25 ranks for Stable Diffusion 1 and 2 (paths as in diffusers), 23 for SDXL (paths as in the original model and
        sd-scripts), 0 for a block without adapted modules; empty for other paths, as those of SDXL in diffusers.

    Example:
        >>> ranks = {f"down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_{name}": 4 for name in "qk"}
        >>> block_ranks(ranks | {"mid_block.attentions.0.proj_in": 3})
        [0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    """
    members: dict[int, list[int]] = {}
    for path, rank in ranks.items():
        members.setdefault(_block(path), []).append(rank)
    original = any(_ORIGINAL.match(path) for path in ranks)
    if not members or -1 in members or (not original and any(_ONLY_SDXL in path for path in ranks)):
        return []
    count = _SDXL_BLOCKS if original else _SD_BLOCKS
    return [int(np.ceil(np.mean(members[block]))) if block in members else 0 for block in range(count)]


def _block(path: str) -> int:
    """The index of a module's block; -1 if there is none."""
    if match := _ORIGINAL.match(path):
        return _SDXL_FIRST[match[1]] + int(match[2])
    if path.startswith("mid_block."):
        return _SD_MIDDLE
    if match := _DIFFUSERS.match(path):
        within = 2 if match[3].endswith("samplers") else int(match[4])
        return (1 if match[1] == "down" else _SD_MIDDLE + 1) + 3 * int(match[2]) + within
    return -1
