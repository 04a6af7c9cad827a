"""Decide which components serve which module, from the module tree, before anything is attached."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import get_pattern_key
from torch import nn

from msplora_core.adapter.config import MSPLoraConfig
from msplora_core.adapter.sizes import Sizes, parameter_sizes, sizes_of
from msplora_core.errors import ParameterError
from msplora_core.placement import Placement, PlacementWarning, outermost, place_modules
from msplora_core.pyramid import SCALES, group_by_layer, ranks_outside_layers, unit_of


@dataclass(frozen=True)
class Site:
    """The place of one adapted module, and the components that serve it.

    Args:
        module: name of the module type; modules of the same name share.
        layer: index in its stack, None outside any.
        group: its group at the mid scale; None without one.
        sizes: input and output of the module.
        ranks: ranks of (global, mid, layer), 0 for a scale that does not serve it.
        alpha: α of (global, mid, layer).
        use_rslora: whether the scaling is α/√r instead of α/r.
        embedding: whether the module is an embedding.
        parameter: name of an adapted parameter; empty for a module's weight.
    """

    module: str
    layer: int | None
    group: int | None
    sizes: Sizes
    ranks: tuple[int, int, int]
    alpha: tuple[float, float, float]
    use_rslora: bool
    embedding: bool = False
    parameter: str = ""

    @property
    def rank(self) -> dict[str, int]:
        """Rank by scale, for the scales that serve it."""
        return {scale: rank for scale, rank in zip(SCALES, self.ranks, strict=True) if rank}

    @property
    def scaling(self) -> dict[str, float]:
        """α/r (or α/√r) by scale, for the scales that serve it."""
        alpha = dict(zip(SCALES, self.alpha, strict=True))
        return {
            scale: alpha[scale] / (math.sqrt(rank) if self.use_rslora else rank) for scale, rank in self.rank.items()
        }

    def unit(self, scale: str) -> int:
        """Return the unit of the component of a scale that serves it."""
        return unit_of(scale, self.layer, self.group)

    @property
    def exceeds(self) -> bool:
        """Whether a rank is larger than that of any update of its weight."""
        return max(self.ranks) > self.sizes.most_directions

    def record(self) -> dict[str, Any]:
        """Return its entry in `MSPLoraConfig.placement`."""
        record = {"module": self.module, "layer": self.layer, "group": self.group, "scaling": self.scaling}
        if self.sizes.experts > 1:
            record |= {"parameter": self.parameter, "experts": self.sizes.experts}
        return record | {"embedding": True} if self.embedding else record


def plan_sites(
    model: nn.Module, paths: Sequence[str], config: MSPLoraConfig, parameters: Sequence[str] = ()
) -> dict[str, Site]:
    """Decide which components serve each module to be adapted.

    Args:
        model: the model, with or without adapters.
        paths: the modules to be adapted, in the order of the model.
        config: the configuration.
        parameters: the parameters to be adapted, by their paths.

    Returns:
        A site for each path, in the same order.

    Raises:
        ParameterError: if a module's type is not supported, a stack has fewer layers than groups, or a rank pattern
            gives different ranks to layers that share.
    """
    sizes = {path: sizes_of(path, _base(model.get_submodule(path))) for path in paths}
    for path in parameters:
        module, _, name = path.rpartition(".")
        sizes[path] = parameter_sizes(path, _base(model.get_submodule(module)), name)
    lists = layer_lists(model)
    # The weight of a module has the module's place.
    types = place_modules([path.removesuffix(".weight") for path in sizes], lists)
    placements = {path: types[path.removesuffix(".weight")] for path in sizes}
    by_type: dict[str, list[str]] = defaultdict(list)
    for path, placement in placements.items():
        by_type[placement.module].append(path)
    sites: dict[str, Site] = {}
    for module, members in by_type.items():
        stack = max((lists[outer] for path in members if (outer := outermost(path, lists))), default=0)
        sites |= _plan_type(module, {path: placements[path] for path in members}, sizes, stack, config)
    split = {placements[path].module for path in sizes if sites[path].module != placements[path].module}
    _warn(split, "shapes differ between layers, so only layers of the same shape share")
    beyond = {f"{site.module} ({site.sizes})" for site in sites.values() if site.exceeds}
    _warn(beyond, "a rank exceeds the smaller side; the excess adds no direction")
    grouped = {placements[path].module for path in paths if sizes[path].groups > 1}
    _warn(grouped, "adapters of convolutions with groups cannot be merged")
    return {
        path: replace(sites[path], embedding=isinstance(_base(model.get_submodule(path)), nn.Embedding))
        for path in paths
    } | {path: replace(sites[path], parameter=path.rpartition(".")[2]) for path in parameters}


def _warn(modules: set[str], says: str) -> None:
    if modules:
        warnings.warn(f"{', '.join(sorted(modules))}: {says}", PlacementWarning, stacklevel=3)


def _plan_type(
    module: str,
    placements: dict[str, Placement],
    sizes: dict[str, Sizes],
    stack: int,
    config: MSPLoraConfig,
) -> dict[str, Site]:
    """The sites of one module type."""
    paths = list(placements)
    ranks = {_by_pattern(config.rank_pattern, path, config.ranks) for path in paths}
    alphas = {_by_pattern(config.alpha_pattern, path, config.lora_alpha) for path in paths}
    for name, values in (("rank_pattern", ranks), ("alpha_pattern", alphas)):
        if len(values) > 1:
            raise ParameterError(
                name, expected=f"the same for all layers of {module}, since they share", found=sorted(values, key=str)
            )
    (rank,), (alpha,) = ranks, alphas
    layers = sorted({placement.layer for placement in placements.values() if placement.layer is not None})
    group_of = group_by_layer(module, layers, stack, config.groups) if layers and rank[SCALES.index("mid")] else {}
    split = len({sizes[path] for path in paths}) > 1
    sites = {}
    for path, placement in placements.items():
        site = Site(
            module=f"{module}:{sizes[path]}" if split else module,
            layer=placement.layer,
            group=group_of.get(placement.layer) if placement.layer is not None else None,
            sizes=sizes[path],
            ranks=rank,
            alpha=alpha if isinstance(alpha, tuple) else (alpha, alpha, alpha),
            use_rslora=config.use_rslora,
        )
        if placement.layer is None:
            hint = "set one in rank_pattern, or exclude the module with exclude_modules"
            site = replace(site, ranks=ranks_outside_layers(path, site.ranks, hint))
        _check_divisible(path, site)
        sites[path] = site
    return sites


def _check_divisible(path: str, site: Site) -> None:
    """Check that the groups of a convolution divide its ranks."""
    if any(rank % site.sizes.groups for rank in site.ranks):
        raise ParameterError(
            "ranks",
            expected=f"multiples of {site.sizes.groups}, the groups of {path}",
            found=site.ranks,
            hint="set others in rank_pattern, or exclude the module with exclude_modules",
        )


def _by_pattern(patterns: dict[str, Any], path: str, otherwise: Any) -> Any:
    return patterns.get(get_pattern_key(list(patterns), path), otherwise)


def layer_lists(model: nn.Module) -> dict[str, int]:
    """Return the paths and lengths of a model's lists of layers.

    These are its `nn.ModuleList`s, and each `nn.Sequential` of several blocks of one type, as in timm.
    """
    return {
        path: len(module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) or (isinstance(module, nn.Sequential) and _is_stack(module))
    }


def _is_stack(module: nn.Sequential) -> bool:
    kinds = {type(child) for child in module}
    return len(module) > 1 and len(kinds) == 1 and all(any(True for _ in child.children()) for child in module)


def _base(module: nn.Module) -> nn.Module:
    return module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
