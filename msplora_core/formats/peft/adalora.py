"""PEFT's AdaLoRA: ΔW = B·(A∘E)·α/(ranks + 1e-5), with ranks pruned in training (Zhang et al. 2023, 2303.10512)."""

from __future__ import annotations

import re

from msplora_core.formats.contents import Contents, Found
from msplora_core.formats.notes import beside_notes
from msplora_core.formats.peft.configuration import module_path
from msplora_core.formats.stored import Parts, StoredUpdate, grouped, low_rank, needed, size_of
from msplora_core.linalg.updates import LowRankUpdate, Update
from msplora_core.methods import method_name
from msplora_core.wording import listed

_NAMES = re.compile(r"(?P<path>.+)\.(?P<part>lora_A|lora_B|lora_E|ranknum)(\.[^.]+)?")


def recognise(contents: Contents) -> bool:
    return contents.has_peft_type("ADALORA")


def read(contents: Contents) -> Found:
    config = contents.config
    assert config is not None
    groups, aside = grouped(contents.tensors.values(), _NAMES)
    # Pruning does not change the scaling: it is that of the initial ranks.
    ranks = config.rank("init_r") if "init_r" in config.content else None
    alpha = config.number("lora_alpha", 8)
    updates, pruned = [], []
    for name, parts in groups.items():
        if "lora_A" in parts and "lora_B" in parts and parts["lora_A"].shape[0] == 0:
            pruned.append(module_path(name))
        else:
            updates.append(_update(module_path(name), parts, alpha, ranks))
    method = method_name("adalora", [config.rank("target_r", 8)])
    notes = [f"{listed(sorted(pruned))}: pruned to rank 0, no update."] if pruned else []
    return Found("PEFT", method, updates, config.model, [*notes, *beside_notes(aside, config.modules_to_save)])


def _update(path: str, parts: Parts, alpha: float, ranks: int | None) -> StoredUpdate:
    A, B, E = needed(parts, "lora_A", "lora_B", "lora_E")
    plain = low_rank(path, B, A)
    if E.shape != (plain.rank, 1):
        raise E.error(f"shape [{plain.rank}, 1], to go with {A.name}", f"shape {list(E.shape)}")
    number = parts["ranknum"].number() if "ranknum" in parts else float(ranks or plain.rank)
    scaling = (alpha if alpha > 0 else number) / (number + 1e-5)

    def load() -> Update:
        return LowRankUpdate(B.read(), A.read().astype("float64") * E.read(), scaling)

    return StoredUpdate(
        path, plain.shape, plain.rank, scaling, plain.dtype, load, parameters=size_of(A, B, E), layout=plain.layout
    )
