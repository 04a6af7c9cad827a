"""Combine adapters into their weighted sum, scale by scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from msplora_core.adapter.config import MSPLoraConfig
from msplora_core.adapter.factors import Factors, blocks
from msplora_core.adapter.layer import MSPLoraLayer
from msplora_core.adapter.sites import Site
from msplora_core.errors import ParameterError
from msplora_core.linalg.truncation import truncate
from msplora_core.linalg.updates import LowRankUpdate
from msplora_core.pyramid import check_ranks

COMBINATIONS = ("svd", "cat", "linear")
AS_PLAIN_LORA = "convert the adapters with msplora_core.convert_to_lora: PEFT combines plain LoRA without this limit"

Ranks = tuple[int, int, int]
ComponentKey = tuple[str, str, int]
Part = tuple[float, Factors]
"""A component with its coefficient, weight × scaling."""


def check_request(known: Mapping[str, MSPLoraConfig], adapters: Sequence[str], weights: Sequence[float]) -> None:
    """Check that every adapter exists, trains no whole modules and has a weight.

    Raises:
        ParameterError: otherwise.
    """
    missing = [name for name in adapters if name not in known]
    if missing or not adapters:
        raise ParameterError("adapters", expected=f"some of {', '.join(sorted(known))}", found=missing or "none")
    if len(weights) != len(adapters) or not all(math.isfinite(weight) for weight in weights):
        raise ParameterError("weights", expected=f"{len(adapters)} finite numbers, one per adapter", found=weights)
    heads = {name: known[name].modules_to_save for name in adapters if known[name].modules_to_save}
    if heads:
        raise ParameterError("adapters", expected="adapters without modules_to_save, which have no sum", found=heads)
    for switch, why in (("use_dora", "whose norms have no sum"), ("target_parameters", "as with LoRA")):
        found = [name for name in adapters if getattr(known[name], switch)]
        if found:
            raise ParameterError("adapters", expected=f"adapters without {switch}, {why}", found=found)


def combined_ranks(combination_type: str, ranks: Sequence[Ranks], svd_rank: Ranks | None) -> Ranks:
    """Return the ranks of the weighted sum.

    Args:
        combination_type: "svd", "cat" or "linear".
        ranks: of each adapter.
        svd_rank: ranks of the sum, for "svd" only; the highest of each scale by default.

    Raises:
        ParameterError: for another type, ranks that do not fit it, or an invalid `svd_rank`.

    Example:
        >>> combined_ranks("cat", [(8, 4, 2), (2, 6, 0)], None), combined_ranks("svd", [(8, 4, 2), (2, 6, 0)], None)
        ((10, 10, 2), (8, 6, 2))
    """
    if combination_type not in COMBINATIONS:
        raise ParameterError(
            "combination_type", expected=", ".join(COMBINATIONS), found=combination_type, hint=AS_PLAIN_LORA
        )
    if svd_rank is not None:
        if combination_type != "svd":
            raise ParameterError("svd_rank", expected=f"none for combination_type={combination_type}", found=svd_rank)
        return check_ranks(svd_rank, "svd_rank")
    if combination_type == "linear" and len(set(ranks)) > 1:
        raise ParameterError("adapters", expected="equal ranks for combination_type=linear", found=list(ranks))
    wide, mid, own = (sum(scale) if combination_type == "cat" else max(scale) for scale in zip(*ranks, strict=True))
    return wide, mid, own


def combined_config(configs: Sequence[MSPLoraConfig], ranks: Ranks) -> MSPLoraConfig:
    """Return the configuration of the weighted sum: that of the first adapter, with the target modules of all.

    Raises:
        ParameterError: if some adapters name their modules and others match them by a regular expression.
    """
    targets: list[Any] = [config.target_modules for config in configs]
    if len({type(target) for target in targets}) > 1:
        raise ParameterError("adapters", expected="target_modules all as names or all as patterns", found=targets)
    patterns = isinstance(targets[0], str)
    joined = "|".join(f"({pattern})" for pattern in targets) if patterns else sorted(set().union(*targets))
    return replace(
        configs[0],
        ranks=ranks,
        lora_alpha=ranks,  # scaling 1: the scaling of the parts is folded into the factors
        use_rslora=False,
        rank_pattern={},
        alpha_pattern={},
        init_lora_weights=True,
        target_modules=joined,
        placement=None,
    )


def parts_of(
    model: nn.Module, sites: Mapping[str, Site], adapters: Sequence[str], weights: Sequence[float]
) -> dict[ComponentKey, list[Part]]:
    """Return for each component of the sum the components of the adapters that it combines.

    Raises:
        ParameterError: if an adapter has a module that the sum lacks, or shares it among other layers.
    """
    parts: dict[ComponentKey, list[Part]] = {}
    for path, module in model.named_modules():
        if isinstance(module, MSPLoraLayer) and path not in sites and any(name in module.site for name in adapters):
            raise ParameterError("adapters", expected="the same layers", found=f"{path} in one", hint=AS_PLAIN_LORA)
    for path, site in sites.items():
        layer: Any = model.get_submodule(path)
        for scale in site.rank:
            found: list[Part] = [
                (weight * layer.scaling[name][scale], layer.components(scale)[name])
                for name, weight in zip(adapters, weights, strict=True)
                if name in getattr(layer, "site", {}) and name in layer.components(scale)
            ]
            if parts.setdefault((scale, site.module, site.unit(scale)), found) != found:
                raise ParameterError(
                    "adapters",
                    expected=f"the same groups and layers at the {scale} scale of {site.module}",
                    found=f"others for {path}",
                    hint=AS_PLAIN_LORA,
                )
    return parts


@torch.no_grad()
def fill(target: Factors, combination_type: str, parts: Sequence[Part]) -> None:
    """Set a component to the weighted sum of others; unused ranks are zero.

    Args:
        target: the component to write.
        combination_type: "cat": exact. "svd": the best approximation of the rank of `target`, in the Frobenius
            norm. "linear": the weighted sums of the A and of the B, as in PEFT; a rough approximation because of
            the cross terms B_i·A_j.
        parts: components with their coefficients.
    """
    target.A.zero_()
    target.B.zero_()
    if not parts:
        return
    sources = zip(*(blocks(*factors()) for _, factors in parts), strict=True)
    for (target_A, target_B), pairs in zip(blocks(target.A, target.B), sources, strict=True):
        A, B = _sum(combination_type, [(by, *pair) for (by, _), pair in zip(parts, pairs, strict=True)], len(target_A))
        target_A[: len(A)], target_B[:, : len(A)] = A, B


def _sum(
    combination_type: str, pairs: Sequence[tuple[float, torch.Tensor, torch.Tensor]], rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of the weighted sum of matrices B·A."""
    if combination_type == "linear":
        A = torch.stack([math.copysign(math.sqrt(abs(by)), by) * A for by, A, _ in pairs]).sum(0)
        B = torch.stack([math.sqrt(abs(by)) * B for by, _, B in pairs]).sum(0)
        return A, B
    A, B = torch.cat([by * A for by, A, _ in pairs]), torch.cat([B for _, _, B in pairs], dim=1)
    if combination_type == "svd":
        best = truncate(LowRankUpdate(B=B.double().cpu().numpy(), A=A.double().cpu().numpy()), rank=rank).update
        return torch.from_numpy(best.A), torch.from_numpy(best.B)
    return A, B
