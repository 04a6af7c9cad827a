"""MSPLoRA as this toolkit saves it: each shared component once; the configuration lists the layers it serves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from msplora_core.components import ComponentKey
from msplora_core.formats.contents import Contents, Found
from msplora_core.formats.notes import DORA, beside_notes
from msplora_core.formats.peft.configuration import PeftConfig, module_path
from msplora_core.formats.peft.experts import expert_updates, parameter_path
from msplora_core.formats.stored import StoredUpdate, grouped, low_rank, needed
from msplora_core.linalg.updates import LowRankUpdate, Update, joined
from msplora_core.methods import pyramid_name
from msplora_core.placement import expert_name
from msplora_core.pyramid import SCALES, unit_of
from msplora_core.storage.tensors import Tensor

_MAGNITUDE = "magnitude.weight"
_NAMES = re.compile(r"(?P<path>.+)\.msplora_(?P<part>(?:global|mid|layer)\.[AB]|magnitude\.weight)")


def recognise(contents: Contents) -> bool:
    return contents.has_peft_type("MSPLORA")


def read(contents: Contents) -> Found:
    config = contents.config
    assert config is not None
    groups, aside = grouped(contents.tensors.values(), _NAMES)
    places = _placement(config)
    own: dict[ComponentKey, StoredUpdate] = {}
    for name, parts in groups.items():
        path = module_path(name)
        if path not in places:
            raise config.error("placement", f"an entry for {path}", "none")
        for scale in SCALES:
            if f"{scale}.A" in parts or f"{scale}.B" in parts:
                A, B = needed(parts, f"{scale}.A", f"{scale}.B")
                for one in _components(config, path, places[path], scale, B, A):
                    own.setdefault(one.key or ComponentKey(scale, path, 0), one)
    several = any(key.scale != "layer" for key in own)
    totals = [_total(config, path, place, own) for path, place in _matrices(places)] if several else []
    updates = sorted(own.values(), key=lambda update: SCALES.index(str(update.key).partition("/")[0]))
    dora = config.flag("use_dora")
    notes = [*([DORA] if dora else []), *beside_notes(aside, config.modules_to_save)]
    method = pyramid_name(_ranks(config), "mspdora" if dora else "msplora")
    magnitudes = {module_path(name): parts[_MAGNITUDE] for name, parts in groups.items() if _MAGNITUDE in parts}
    return Found("PEFT", method, [*updates, *totals], config.model, notes, magnitudes)


def _placement(config: PeftConfig) -> Mapping[str, dict[str, Any]]:
    """The checked placement of each module, from the configuration."""
    places = config.content.get("placement")
    if not isinstance(places, dict) or not places:
        raise config.error("placement", "the layer and group of each module", places, "save the adapter again")
    for path, place in places.items():
        good = isinstance(place, dict) and isinstance(place.get("scaling"), dict) and place["scaling"]
        if not good or not isinstance(place.get("module"), str) or not place["module"].isprintable():
            raise config.error(f"placement of {path[:100]}", "module, layer, group and scaling", place)
        if "/" in place["module"] or set(place["scaling"]) - set(SCALES):
            raise config.error(f"placement of {path[:100]}", f"a module's name and scales of {SCALES}", place)
        for name in ("layer", "group"):
            value = place.get(name)
            if value is not None and (type(value) is not int or not 0 <= value < 2**31):
                raise config.error(f"placement of {path[:100]}: {name}", "a whole number or null", value)
        experts, parameter = place.get("experts", 1), place.get("parameter", "")
        if type(experts) is not int or experts < 1 or not isinstance(parameter, str) or not parameter.isprintable():
            raise config.error(f"placement of {path[:100]}", "a number of experts and a parameter's name", place)
        if experts > 1 and not parameter:
            raise config.error(f"placement of {path[:100]}: parameter", "the name of the experts' parameter", "none")
    return places


def _components(
    config: PeftConfig, path: str, place: Mapping[str, Any], scale: str, B: Tensor, A: Tensor
) -> Iterable[StoredUpdate]:
    """The component of a module at a scale; one for each expert where a parameter holds several experts."""
    update = low_rank(path, B, A, _scaling(config, path, place, scale), _key(scale, place))
    experts = place.get("experts", 1)
    layout = replace(update.layout, embedding=bool(place.get("embedding")), wrapper=_wrapper(path, place))
    update = replace(update, layout=layout)
    if experts == 1:
        return [update]
    if update.rank % experts:
        raise A.error(f"ranks of {experts} experts, as {config.path.name} says", f"shape {list(A.shape)}")
    return expert_updates(replace(update, path=parameter_path(path, place["parameter"])), B, A, experts)


def _matrices(places: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The path and the place of each adapted matrix."""
    for path, place in places.items():
        place = {**place, "wrapper": _wrapper(path, place)}
        if place.get("experts", 1) == 1:
            yield path, place
            continue
        for expert in range(place["experts"]):
            whole = parameter_path(path, place["parameter"])
            yield expert_name(whole, expert), {**place, "module": expert_name(place["module"], expert)}


def _wrapper(path: str, place: Mapping[str, Any]) -> str:
    """The path of the layer around an adapted parameter."""
    return path if place.get("parameter") else ""


def _key(scale: str, place: Mapping[str, Any]) -> ComponentKey:
    return ComponentKey(scale, place["module"], unit_of(scale, place.get("layer"), place.get("group")))


def _scaling(config: PeftConfig, path: str, place: Mapping[str, Any], scale: str) -> float:
    value = place["scaling"].get(scale)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e300:
        raise config.error(f"placement of {path[:100]}", f"a finite scaling at the scale {scale}", value)
    return float(value)


def _total(
    config: PeftConfig, path: str, place: Mapping[str, Any], own: Mapping[ComponentKey, StoredUpdate]
) -> StoredUpdate:
    """The sum of the components that serve a module."""
    keys = [_key(scale, place) for scale in SCALES if scale in place["scaling"]]
    missing = [key for key in keys if key not in own]
    if missing:
        raise config.error(f"placement of {path[:100]}", f"the component {missing[0]} in the weights", "none")
    serving = [own[key] for key in keys]
    if len({update.shape for update in serving}) > 1:
        shapes = ", ".join(f"{update.key} {list(update.shape)}" for update in serving)
        raise config.error(f"placement of {path[:100]}", "components of one shape", shapes)
    rank = sum(update.rank for update in serving)
    first, load = serving[0], partial(_sum, serving)
    layout = replace(first.layout, wrapper=place["wrapper"])
    return StoredUpdate(path, first.shape, rank, 1.0, first.dtype, load, _key("total", place), layout=layout)


def _sum(serving: list[StoredUpdate]) -> Update:
    updates = [update for stored in serving if isinstance(update := stored.load(), LowRankUpdate)]
    return updates[0] if len(updates) == 1 else joined(updates)


def _ranks(config: PeftConfig) -> list[int]:
    ranks = config.content.get("ranks")
    if not isinstance(ranks, list) or len(ranks) != len(SCALES) or not all(type(rank) is int for rank in ranks):
        raise config.error("ranks", "three whole numbers (global, mid, layer)", ranks)
    return ranks
