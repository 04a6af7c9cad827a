"""The pyramid: ranks per scale, groups of layers, number of parameters.

Pure Python. Equations are those of MSPLoRA (arXiv 2503.21838).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msplora_core.errors import ParameterError

SCALES = ("global", "mid", "layer")
"""The scales with parameters, from the most to the least shared. `total` is their sum for one layer."""

ALL_SCALES = (*SCALES, "total")

LAYER_SCALES = ("layer", "total")
"""The scales with an update for each layer."""

DEFAULT_GROUPS = 3
"""Default number of groups of the mid scale; at most the number of layers."""


def geometric_ranks(first: int, ratio: int = 2, scales: int = len(SCALES)) -> tuple[int, ...]:
    """Return ranks that decrease geometrically from the global to the layer scale: r_i = first / ratio^i (Eq. 6).

    Args:
        first: rank of the global scale.
        ratio: divisor from the rank of one scale to the rank of the next.
        scales: number of scales.

    Returns:
        `scales` ranks, global first.

    Raises:
        ParameterError: if a rank would not be a whole number of at least 1.

    Example:
        >>> geometric_ranks(8)
        (8, 4, 2)
        >>> geometric_ranks(64)
        (64, 32, 16)
    """
    last = ratio ** (scales - 1)
    if ratio < 1 or first < 1 or first % last:
        raise ParameterError("first", expected=f"a positive multiple of {last}, for ratio {ratio}", found=first)
    return tuple(first // ratio**level for level in range(scales))


def layer_groups(layers: int, groups: int | Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the group of every layer, divided evenly by depth or at given boundaries.

    Args:
        layers: number of layers.
        groups: number of groups, whose sizes differ by at most one; or the boundaries, i.e. the first layer of
            every group but the first, ascending: `(4, 8)` for three groups of twelve layers; None for three
            groups, or one per layer if there are fewer layers.

    Returns:
        For each layer, the index of its group, from 0.

    Raises:
        ParameterError: if there are more groups than layers, or boundaries do not ascend within 1..layers-1.

    Example:
        >>> layer_groups(6, 3)
        (0, 0, 1, 1, 2, 2)
        >>> layer_groups(6, [1, 5])
        (0, 1, 1, 1, 1, 2)
        >>> layer_groups(2)
        (0, 1)
    """
    if groups is None:
        groups = min(DEFAULT_GROUPS, layers)
    if isinstance(groups, int):
        if not 1 <= groups <= layers:
            raise ParameterError("groups", expected=f"1 to {layers}, the number of layers", found=groups)
        return tuple(layer * groups // layers for layer in range(layers))
    starts = list(groups)
    if any(later <= earlier for earlier, later in zip([0, *starts], starts, strict=False)) or starts[-1:] >= [layers]:
        raise ParameterError(
            "groups", expected=f"boundaries that ascend within 1 to {layers - 1}, for {layers} layers", found=starts
        )
    return tuple(sum(start <= layer for start in starts) for layer in range(layers))


def group_by_layer(
    module: str, layers: Sequence[int], stack: int, groups: int | Sequence[int] | None
) -> dict[int, int]:
    """Return the group of each layer that has a module. A number divides these layers, boundaries the whole stack.

    Args:
        module: the module type, for the error.
        layers: indices of the layers that have it, ascending.
        stack: number of layers of the stack.
        groups: as for `layer_groups`.

    Raises:
        ParameterError: as `layer_groups`.

    Example:
        >>> group_by_layer("query", [0, 3, 5], 6, 3), group_by_layer("query", [0, 3, 5], 6, (3,))[5]
        ({0: 0, 3: 1, 5: 2}, 1)
    """
    try:
        if isinstance(groups, int) or groups is None:
            return dict(zip(layers, layer_groups(len(layers), groups), strict=True))
        return dict(enumerate(layer_groups(stack, groups)))
    except ParameterError as error:
        raise ParameterError("groups", expected=f"{error.expected} with {module}", found=groups) from error


def ranks_outside_layers(path: str, ranks: tuple[int, int, int], hint: str = "") -> tuple[int, int, int]:
    """Return the ranks of a module outside any list of layers: it shares nothing and has a layer component only.

    Args:
        path: of the module, for the error.
        ranks: of (global, mid, layer).
        hint: what to do without a rank at the layer scale, for the error.

    Raises:
        ParameterError: if the rank of the layer scale is 0.

    Example:
        >>> ranks_outside_layers("classifier", (8, 4, 2))
        (0, 0, 2)
    """
    if not ranks[2]:
        expected = f"a rank above 0 at the layer scale for {path}, which is outside any list of layers"
        raise ParameterError("ranks", expected=expected, found=ranks, hint=hint)
    return 0, 0, ranks[2]


def unit_of(scale: str, layer: int | None, group: int | None = None) -> int:
    """Return the unit of a scale's component that serves a layer.

    Args:
        scale: `global`, `mid`, `layer` or `total`.
        layer: index of the layer; None for a module outside any list of layers.
        group: index of the layer's group; None where there are no groups.

    Example:
        >>> [unit_of(scale, layer=5, group=1) for scale in (*SCALES, "total")]
        [0, 1, 5, 5]
    """
    return {"global": 0, "mid": group, "layer": layer, "total": layer}[scale] or 0


@dataclass(frozen=True)
class Pyramid:
    """The pyramid of one module type over a stack of layers.

    Args:
        layers: number of layers in the stack.
        ranks: ranks of (global, mid, layer), not all 0; 0 leaves a scale out.
        groups: number of groups, their boundaries, or None (see `layer_groups`). Only the mid scale uses it.

    Raises:
        ParameterError: for ranks or groups that do not fit.

    Example:
        >>> pyramid = Pyramid(layers=12, ranks=(8, 4, 2))
        >>> [pyramid.units(scale) for scale in SCALES]
        [1, 3, 12]
        >>> pyramid.members("mid", 1)
        (4, 5, 6, 7)
        >>> pyramid.parameters(768, 768)
        67584
    """

    layers: int
    ranks: tuple[int, int, int] = (8, 4, 2)
    groups: int | tuple[int, ...] | None = None
    group_of: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ParameterError("layers", expected="at least 1", found=self.layers)
        check_ranks(self.ranks)
        has_mid = self.ranks[SCALES.index("mid")] > 0
        group_of = layer_groups(self.layers, self.groups) if has_mid else (0,) * self.layers
        object.__setattr__(self, "group_of", group_of)

    def rank(self, scale: str) -> int:
        """Return the rank of a scale's components; that of `total` is the sum over the scales."""
        return sum(self.ranks) if scale == "total" else self.ranks[SCALES.index(scale)]

    def unit(self, scale: str, layer: int) -> int:
        """Return the index of the component of a scale that serves a layer."""
        return unit_of(scale, layer, self.group_of[layer])

    def units(self, scale: str) -> int:
        """Return the number of components at a scale; 0 for one that is left out."""
        count = {"global": 1, "mid": self.group_of[-1] + 1, "layer": self.layers, "total": self.layers}[scale]
        return count if self.rank(scale) else 0

    def members(self, scale: str, unit: int) -> tuple[int, ...]:
        """Return the layers that a component serves."""
        return tuple(layer for layer in range(self.layers) if self.unit(scale, layer) == unit)

    def parameters(self, in_features: int, out_features: int) -> int:
        """Return the number of trainable parameters over all components (Eq. 7): (in + out)·Σ units·rank."""
        return (in_features + out_features) * sum(self.units(scale) * self.rank(scale) for scale in SCALES)


def lora_parameters(layers: int, rank: int, in_features: int, out_features: int) -> int:
    """Return the number of trainable parameters of plain LoRA for one module type (Eq. 5): layers·rank·(in + out).

    Example:
        >>> 2 * lora_parameters(layers=12, rank=8, in_features=768, out_features=768)  # RoBERTa-base, q and v
        294912
    """
    return layers * rank * (in_features + out_features)


def check_ranks(ranks: Any, name: str = "ranks") -> tuple[int, int, int]:
    """Return valid ranks of a pyramid as a tuple.

    Raises:
        ParameterError: unless they are three whole numbers of at least 0, one of them positive.
    """
    three = isinstance(ranks, list | tuple) and len(ranks) == len(SCALES)
    if not three or not any(ranks) or not all(type(rank) is int and rank >= 0 for rank in ranks):
        raise ParameterError(
            name,
            expected="three whole numbers (global, mid, layer), each at least 0 and one of them positive",
            found=ranks,
        )
    wide, mid, own = ranks
    return wide, mid, own
