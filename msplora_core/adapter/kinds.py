"""Adapted linear modules, embeddings and convolutions: what an update adds to the result of each."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from msplora_core.adapter.layer import MSPLoraLayer


class Linear(MSPLoraLayer):
    """An adapted `nn.Linear`, quantised or not, or `Conv1D` of transformers."""

    def update(self, x: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        return F.linear(F.linear(x, A), B)

    def plus_update(self, result: torch.Tensor, x: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        hidden = F.linear(x, A)
        if hidden.dtype == result.dtype:  # one pass over the result instead of three
            rows = torch.addmm(result.reshape(-1, B.shape[0]), hidden.reshape(-1, B.shape[1]), B.T)
            return rows.view(result.shape)
        return (result + F.linear(hidden, B)).to(result.dtype)


class Embedding(MSPLoraLayer):
    """An adapted `nn.Embedding`; its rows are the inputs, so A holds a column for each."""

    def update(self, x: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        base = self.get_base_layer()
        hidden = F.embedding(
            x,
            A.T,
            padding_idx=base.padding_idx,
            max_norm=base.max_norm,
            norm_type=base.norm_type,
            scale_grad_by_freq=base.scale_grad_by_freq,
            sparse=base.sparse,
        )
        update = F.linear(hidden, B)
        scale = self._get_embed_scale()
        return update if scale is None else update * scale.to(update)


class Convolution(MSPLoraLayer):
    """An adapted `nn.Conv1d`, `nn.Conv2d` or `nn.Conv3d`: A is a convolution like the base, B one with kernel 1."""

    def update(self, x: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        base = self.get_base_layer()
        padding = base.padding
        if base.padding_mode != "zeros":
            x, padding = F.pad(x, base._reversed_padding_repeated_twice, mode=base.padding_mode), 0
        convolve = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[A.dim()]
        hidden = convolve(x, A, None, base.stride, padding, base.dilation)
        return convolve(hidden, B, groups=base.groups)
