"""Assign a component key, i.e. module type and layer, to each stored update."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path

from msplora_core.components import LAST_UNIT, ComponentKey
from msplora_core.errors import AdapterFileError
from msplora_core.formats.stored import StoredUpdate
from msplora_core.placement import place_modules

_UNET = re.compile(
    r"(?P<block>(?:[^.]+\.)*?(?:(?:down|up|input|output)_blocks\.\d+|mid_block|middle_block))\.(?P<rest>.+)"
)
_UNET_LISTS = {"attentions", "transformer_blocks", "resnets", "downsamplers", "upsamplers", "motion_modules"}

Order = tuple[int | str, ...]


def component_keys(path: Path, updates: Sequence[StoredUpdate]) -> list[ComponentKey]:
    """Return the key of each update: scale `layer`, unless the file states another.

    The layer is the number in the module's path (`layers.3`), the module type the names that follow. In a U-Net
    the block is part of the type, and the order within the block gives the layer. Paths without a number are
    ordered by name. Matrices of different shapes are different types, named after their shape.

    Args:
        path: of the adapter, for errors.
        updates: all updates of the adapter.

    Raises:
        AdapterFileError: if two updates have the same key, or a layer's number is too large.
    """
    unplaced = [update for update in updates if update.key is None]
    placed = iter(_keys_by_path(tuple((update.path, update.shape) for update in unplaced)))
    keys = [update.key or next(placed) for update in updates]
    _check(path, updates, keys)
    return keys


@lru_cache(maxsize=8)
def _keys_by_path(modules: tuple[tuple[str, tuple[int, int]], ...]) -> list[ComponentKey]:
    """The keys of updates by path and shape; cached, since the adapters of a study share them."""
    paths = [path.replace("/", ".") for path, _ in modules]
    types = _types(set(paths))
    shapes: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for path, (_, shape) in zip(paths, modules, strict=True):
        shapes[types[path][0]].add(shape)
    members: dict[str, list[tuple[int | Order, int]]] = defaultdict(list)
    for index, (path, (_, shape)) in enumerate(zip(paths, modules, strict=True)):
        module, place = types[path]
        members[f"{module}:{shape[0]}x{shape[1]}" if len(shapes[module]) > 1 else module].append((place, index))
    keys: dict[int, ComponentKey] = {}
    for module, places in members.items():
        for unit, index in _numbered(places):
            keys[index] = ComponentKey("layer", module, unit)
    return [keys[index] for index in range(len(modules))]


def _types(paths: Collection[str]) -> dict[str, tuple[str, int | Order]]:
    """For each path its module type, with the number of the layer or a sort key."""
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
    """The block with the name of the module in it, and the numbers that order these modules within the block."""
    kept, order, before = [], [], ""
    for name in names:
        if name.isdecimal() and (before in _UNET_LISTS or not before):
            order.append(int(name))
        elif name not in _UNET_LISTS:
            kept.append(name)
        before = name if not name.isdecimal() else before
    return f"{block}.{'.'.join(kept)}", tuple(order)


def _numbered(places: list[tuple[int | Order, int]]) -> list[tuple[int, int]]:
    """(unit, index) of each member: the layer's number, else the position in order."""
    by_order = sorted((place, index) for place, index in places if isinstance(place, tuple))
    numbered = [(place, index) for place, index in places if isinstance(place, int)]
    return numbered + [(unit, index) for unit, (_, index) in enumerate(by_order)]


def _check(path: Path, updates: Sequence[StoredUpdate], keys: Sequence[ComponentKey]) -> None:
    owner: dict[ComponentKey, str] = {}
    for update, key in zip(updates, keys, strict=True):
        if key.unit > LAST_UNIT:
            raise AdapterFileError(
                path, key=update.path, expected=f"a layer's number of at most {LAST_UNIT}", found=key.unit
            )
        if key in owner:
            raise AdapterFileError(
                path, key=update.path, expected=f"one update for {key}", found=f"another beside {owner[key]}"
            )
        owner[key] = update.path
