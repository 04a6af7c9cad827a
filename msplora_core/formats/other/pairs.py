"""Pairs of factors with other names: `unet:N:up` (cloneofsimo), `w_a_NNN`, and similar."""

from __future__ import annotations

import re
from collections import defaultdict

from msplora_core.formats.contents import Contents, Found
from msplora_core.formats.notes import alpha_notes, beside_notes
from msplora_core.formats.stored import StoredUpdate, low_rank, needed, size_of
from msplora_core.linalg.updates import LowRankUpdate, Update
from msplora_core.methods import method_name
from msplora_core.storage.tensors import Tensor
from msplora_core.wording import natural_order

_DOWN = ("down", "a", "A")
_MARK = re.compile(r"(?<![^._:/])(down|up|a|b|A|B)(?=$|[._:/])")


def recognise(contents: Contents) -> bool:
    return any({"down", "up"} <= set(parts) for parts in _pairs(contents)[0].values())


def read(contents: Contents) -> Found:
    pairs, aside = _pairs(contents)
    updates = []
    for path, parts in pairs.items():
        down, up = needed(parts, "down", "up")
        updates.append(_update(path, up, down, contents))
    notes = [*alpha_notes(contents.alpha, own=False), *beside_notes(aside)]
    return Found("pairs of factors", method_name("lora", [update.rank for update in updates]), updates, notes=notes)


def _pairs(contents: Contents) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Matrices by their names without the last mark of up or down; and the names of all other tensors."""
    pairs: dict[str, dict[str, Tensor]] = defaultdict(dict)
    aside = []
    for name, tensor in contents.tensors.items():
        marks = list(_MARK.finditer(name))
        if not marks or len(tensor.shape) < 2:
            aside.append(name)
            continue
        mark = marks[-1]
        path, part = _path(name[: mark.start()], name[mark.end() :]), "down" if mark[1] in _DOWN else "up"
        if part in pairs[path]:
            raise tensor.error(f"one {part} for {path}", f"another beside {pairs[path][part].name}")
        pairs[path][part] = tensor
    return dict(sorted(pairs.items(), key=lambda item: natural_order(item[0]))), aside


def _path(before: str, after: str) -> str:
    """A dotted path with the number last: `unet:12:` + `` -> `unet.12`, `w_` + `_007` -> `w.7`."""
    whole = f"{before.rstrip('._:/')}.{after.removesuffix('.weight').lstrip('._:/')}"
    names = [name for name in re.split(r"[.:/]+", whole) if name not in ("", "lora")]
    return ".".join(str(int(name)) if name.isdecimal() and len(name) < 10 else name for name in names) or "update"


def _update(path: str, up: Tensor, down: Tensor, contents: Contents) -> StoredUpdate:
    if len(up.shape) == len(down.shape) == 2 and up.shape[1] != down.shape[0] and down.shape[1] == up.shape[0]:
        return _transposed(path, up, down, contents)
    rank = max(down.shape[0], 1)
    return low_rank(path, up, down, contents.given_scaling(rank))


def _transposed(path: str, up: Tensor, down: Tensor, contents: Contents) -> StoredUpdate:
    """Transposed factors: x·down·up, with down (in, r) and up (r, out)."""
    rank = up.shape[0]
    scaling = contents.given_scaling(max(rank, 1))
    for tensor in (up, down):
        if 0 in tensor.shape:
            raise tensor.error("a matrix with values", f"shape {list(tensor.shape)}")

    def load() -> Update:
        return LowRankUpdate(up.read().T, down.read().T, scaling)

    return StoredUpdate(
        path, (up.shape[1], down.shape[0]), rank, scaling, down.dtype, load, parameters=size_of(up, down)
    )
