"""Tensors and configuration of an MSPLoRA adapter of PEFT, from fitted components. numpy only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msplora_core.conversion.origin import TARGET_FIELDS
from msplora_core.conversion.plain import KEPT_FIELDS, as_float32
from msplora_core.errors import UnsupportedAdapterError
from msplora_core.formats.stored import Layout, StoredUpdate
from msplora_core.linalg.updates import LowRankUpdate
from msplora_core.placement import place_modules
from msplora_core.pyramid import SCALES, group_by_layer, ranks_outside_layers


@dataclass(frozen=True, eq=False)
class SharingModules:
    """Modules that share components: of one type and one shape, in order of depth.

    Args:
        module: name of the type, with the shape if it differs between layers.
        updates: the update of each, not read yet.
        paths: in the model.
        layers: the layer of each; None for a single module outside any list of layers.
        groups: of each layer; 0 without a mid scale.
        ranks: of (global, mid, layer).
    """

    module: str
    updates: tuple[StoredUpdate, ...]
    paths: tuple[str, ...]
    layers: tuple[int | None, ...]
    groups: tuple[int, ...]
    ranks: tuple[int, int, int]

    @property
    def layout(self) -> Layout:
        return self.updates[0].layout

    @property
    def parameters(self) -> int:
        """Number of values in the components."""
        wide, mid, own = self.ranks
        return sum(self.updates[0].shape) * (wide + mid * len(set(self.groups)) + own * len(self.paths))

    def tensors(self, components: Mapping[tuple[str, int], LowRankUpdate]) -> dict[str, NDArray[np.float32]]:
        """Return the components' factors by the names that PEFT uses in files: that of the first module served.

        Args:
            components: from `fit_pyramid` for these modules.

        Raises:
            UnsupportedAdapterError: if a factor exceeds the range of float32.
        """
        found: dict[str, NDArray[np.float32]] = {}
        kernel = self.layout.kernel
        for (scale, unit), update in components.items():
            member = {"global": 0, "mid": self.groups.index(unit) if scale == "mid" else 0, "layer": unit}[scale]
            B, A = as_float32(self.paths[member], update.B, update.A)
            name = f"base_model.model.{self.paths[member]}.msplora_{scale}"
            found[f"{name}.A"] = A.reshape(len(A), *kernel) if kernel else A
            found[f"{name}.B"] = B.reshape(*B.shape, *(1 for _ in kernel[1:]))
        return found

    def placement(self) -> dict[str, dict[str, Any]]:
        """Return the entries of `MSPLoraConfig.placement`."""
        scaling = {scale: 1.0 for scale, rank in zip(SCALES, self.ranks, strict=True) if rank}
        more = {"embedding": True} if self.layout.embedding else {}
        return {
            path: {"module": self.module, "layer": layer, "group": group if self.ranks[1] else None}
            | {"scaling": scaling}
            | more
            for path, layer, group in zip(self.paths, self.layers, self.groups, strict=True)
        }


def sharing_modules(
    updates: Mapping[str, StoredUpdate], ranks: tuple[int, int, int], groups: int | Sequence[int] | None
) -> list[SharingModules]:
    """Return the modules that share components, by the same rules as when MSPLoRA is attached to a model.

    Args:
        updates: by the path in one model.
        ranks: of (global, mid, layer).
        groups: as for `MSPLoraConfig`.

    Raises:
        ParameterError: if groups do not fit the layers, or the layer rank is 0 and a module is outside any list of
            layers, where nothing is shared.
        UnsupportedAdapterError: for a convolution with groups.
    """
    placements = place_modules(updates)
    by_type: dict[str, list[str]] = defaultdict(list)
    for path, stored in updates.items():
        if stored.layout.groups > 1:
            raise UnsupportedAdapterError(f"{path}: expected no convolution with groups, found {stored.layout.groups}")
        by_type[placements[path].module].append(path)
    found: list[SharingModules] = []
    for module, paths in by_type.items():
        layers = sorted({layer for path in paths if (layer := placements[path].layer) is not None})
        group_of = group_by_layer(module, layers, layers[-1] + 1, groups) if layers and ranks[1] else {}
        by_shape: dict[str, list[str]] = defaultdict(list)
        for path in sorted(paths, key=lambda path: placements[path].layer or 0):
            by_shape[_sizes(updates[path])].append(path)
        for sizes, members in by_shape.items():
            own = [placements[path].layer for path in members]
            found.append(
                SharingModules(
                    f"{module}:{sizes}" if len(by_shape) > 1 else module,
                    tuple(updates[path] for path in members),
                    tuple(members),
                    tuple(own),
                    tuple(0 if layer is None else group_of.get(layer, 0) for layer in own),
                    ranks if layers else ranks_outside_layers(members[0], ranks),
                )
            )
    return found


def shared_configuration(
    original: Mapping[str, Any],
    modules: Sequence[SharingModules],
    ranks: tuple[int, int, int],
    groups: int | Sequence[int] | None,
) -> dict[str, Any]:
    """Return the `adapter_config.json` of MSPLoRA. α equals r at every scale, so that the scaling is 1.

    Args:
        original: the configuration of the adapter that was converted.
        modules: all modules, from `sharing_modules`.
        ranks: of (global, mid, layer).
        groups: as for `MSPLoraConfig`.
    """
    # The result lists paths in place of the fields that choose modules, since a pyramid needs all its members.
    fields = [name for name in KEPT_FIELDS if name not in TARGET_FIELDS and original.get(name) is not None]
    kept = {name: original[name] for name in fields}
    placement = {path: place for one in modules for path, place in one.placement().items()}
    return kept | {
        "peft_type": "MSPLORA",
        "ranks": list(ranks),
        "groups": groups if isinstance(groups, int) or groups is None else list(groups),
        "lora_alpha": list(ranks),
        "use_rslora": False,
        "target_modules": list(placement),
        "placement": placement,
        "inference_mode": True,
    }


def _sizes(stored: StoredUpdate) -> str:
    """The shape of the weight, as MSPLoRA names types whose layers differ in it."""
    return "x".join(map(str, (stored.shape[0], *(stored.layout.kernel or stored.shape[1:]))))
