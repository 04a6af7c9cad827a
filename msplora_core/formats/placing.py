"""Which component each stored update is: its module type and its place among the layers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from msplora_core.components import ComponentKey
from msplora_core.errors import AdapterFileError
from msplora_core.formats.stored import StoredUpdate
from msplora_core.placement import place_modules

_UNET = re.compile(
    r"(?P<block>(?:[^.]+\.)*?(?:(?:down|up|input|output)_blocks\.\d+|mid_block|middle_block))\.(?P<rest>.+)"
)
_UNET_LISTS = {"attentions", "transformer_blocks", "resnets", "downsamplers", "upsamplers", "motion_modules"}

Order = tuple[int | str, ...]


def component_keys(path: Path, updates: Sequence[StoredUpdate]) -> list[tuple[ComponentKey, ...]]:
    """The components that each update is; by itself it is a layer's own and, alone, that layer's total.

    The layer is the number in the module's path (`layers.3`), the module type what follows it. In a U-Net the
    block belongs to the type, and the order within the block gives the layer. Where a path says nothing, the
    order in the file does. A type whose matrices differ in shape is as many types, told apart by the shape.

    Args:
        path: of the adapter, for errors.
        updates: all of it.

    Returns:
        For each update its keys.

    Raises:
        AdapterFileError: if two updates would be one component.
    """
    paths = {id(update): update.path.replace("/", ".") for update in updates if not update.keys}
    types = _types(set(paths.values()))
    shapes: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for update in updates:
        if not update.keys:
            shapes[types[paths[id(update)]][0]].add(update.shape)
    members: dict[str, list[tuple[int | Order, int]]] = defaultdict(list)
    for index, update in enumerate(updates):
        if update.keys:
            continue
        module, place = types[paths[id(update)]]
        if len(shapes[module]) > 1:
            module = f"{module}:{update.shape[0]}x{update.shape[1]}"
        members[module].append((place, index))
    keys: list[tuple[ComponentKey, ...]] = [update.keys for update in updates]
    for module, places in members.items():
        for unit, index in _numbered(places):
            keys[index] = (ComponentKey("layer", module, unit), ComponentKey("total", module, unit))
    _check_unique(path, updates, keys)
    return keys


def _types(paths: Collection[str]) -> dict[str, tuple[str, int | Order]]:
    """For each path its module type, with the layer's number or, where there is none, what orders the layers."""
    types: dict[str, tuple[str, int | Order]] = {}
    for path in paths:
        names = path.split(".")
        if match := _UNET.fullmatch(path):
            types[path] = _unet_type(match["block"], match["rest"].split("."))
        elif names[-1].isdecimal() and not any(name.isdecimal() for name in names[:-1]):
            types[path] = (".".join(names[:-1]) or "module", (int(names[-1]),))
    for path, placement in place_modules([path for path in paths if path not in types]).items():
        types[path] = (placement.module, (path,) if placement.layer is None else placement.layer)
    return types


def _unet_type(block: str, names: list[str]) -> tuple[str, Order]:
    """The block with the name of the module in it, and the numbers that order its like within the block."""
    kept, order, before = [], [], ""
    for name in names:
        if name.isdecimal() and (before in _UNET_LISTS or not before):
            order.append(int(name))
        elif name not in _UNET_LISTS:
            kept.append(name)
        before = name if not name.isdecimal() else before
    return f"{block}.{'.'.join(kept)}", tuple(order)


def _numbered(places: list[tuple[int | Order, int]]) -> list[tuple[int, int]]:
    """(unit, index) of each member: by its layer's number, else by order."""
    by_order = sorted((place, index) for place, index in places if isinstance(place, tuple))
    numbered = [(place, index) for place, index in places if isinstance(place, int)]
    return numbered + [(unit, index) for unit, (_, index) in enumerate(by_order)]


def _check_unique(path: Path, updates: Sequence[StoredUpdate], keys: Sequence[tuple[ComponentKey, ...]]) -> None:
    owner: dict[ComponentKey, str] = {}
    for update, own in zip(updates, keys, strict=True):
        for key in own:
            if key in owner:
                raise AdapterFileError(
                    path, key=update.path, expected=f"one update for {key}", found=f"another beside {owner[key]}"
                )
            owner[key] = update.path
