"""Checkpoints of loralib: `....query.lora_A` (r × in) and `....query.lora_B` (out × r), without α."""

from __future__ import annotations

import re

from msplora_core.formats.contents import Contents, Found
from msplora_core.formats.notes import alpha_notes, beside_notes
from msplora_core.formats.stored import grouped, low_rank, needed
from msplora_core.methods import method_name

_NAMES = re.compile(r"(?P<path>.+)\.(?P<part>lora_A|lora_B)")


def recognise(contents: Contents) -> bool:
    names = contents.tensors
    return any(name.endswith(".lora_A") for name in names) and not any(name.endswith(".lora_E") for name in names)


def read(contents: Contents) -> Found:
    groups, aside = grouped(contents.tensors.values(), _NAMES)
    updates = []
    for path, parts in groups.items():
        A, B = needed(parts, "lora_A", "lora_B")
        rank = A.shape[0] if A.shape else 1
        updates.append(low_rank(path, B, A, contents.given_scaling(max(rank, 1))))
    notes = [*alpha_notes(contents.alpha, own=False), *beside_notes(aside)]
    return Found("loralib", method_name("lora", [update.rank for update in updates]), updates, notes=notes)
