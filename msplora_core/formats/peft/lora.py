"""PEFT's LoRA with its variants: rsLoRA, DoRA, PiSSA and similar, embeddings, convolutions, experts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace

from msplora_core.formats.contents import Contents, Found
from msplora_core.formats.notes import DORA, beside_notes
from msplora_core.formats.peft.configuration import PeftConfig, module_path
from msplora_core.formats.stored import Layout, Parts, StoredUpdate, grouped, low_rank, needed
from msplora_core.linalg.updates import LowRankUpdate, Update
from msplora_core.methods import method_name
from msplora_core.storage.tensors import Tensor

_NAMES = re.compile(
    r"(?P<path>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(\.(?!weight$|bias$)[^.]+)?(\.weight)?"
)


def recognise(contents: Contents) -> bool:
    return contents.has_peft_type("LORA")


def read(contents: Contents) -> Found:
    config = contents.config
    assert config is not None
    groups, aside = grouped(contents.tensors.values(), _NAMES)
    ranks, alphas = config.patterns("rank_pattern"), config.patterns("alpha_pattern")
    updates: list[StoredUpdate] = []
    for name, parts in groups.items():
        path = module_path(name)
        rank = int(ranks.value_of(path, config.rank()))
        alpha = alphas.value_of(path, config.number("lora_alpha", 8))
        scaling = alpha / (math.sqrt(rank) if config.flag("use_rslora") else rank)
        updates.extend(_module_updates(config, path, parts, rank, scaling))
    variant = _variant(config)
    notes = [*_variant_notes(config, variant), *beside_notes(aside, config.modules_to_save)]
    return Found("PEFT", method_name(variant, [config.rank()]), updates, config.model, notes)


def _module_updates(config: PeftConfig, path: str, parts: Parts, rank: int, scaling: float) -> Iterator[StoredUpdate]:
    """The module's update; one for each expert where a parameter holds several experts."""
    embedding = "lora_embedding_A" in parts or "lora_embedding_B" in parts
    A, B = needed(parts, *(("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")))
    whole = low_rank(path, B, A, scaling)
    if embedding:
        whole = replace(whole, layout=Layout(embedding=True))
    experts, beyond = divmod(whole.rank, rank)
    if experts == 1 and not beyond:
        yield whole
    elif config.content.get("target_parameters") and experts and not beyond:
        for expert in range(experts):
            yield _expert_update(whole, f"{path}.expert{expert}", A, B, experts, expert)
    else:
        raise A.error(
            f"rank {rank}, as {config.path.name} gives for {path}",
            f"shape {list(A.shape)}",
            hint="r or rank_pattern does not belong to these weights",
        )


def _expert_update(whole: StoredUpdate, path: str, A: Tensor, B: Tensor, experts: int, expert: int) -> StoredUpdate:
    """The update of one expert: PEFT stacks the rows of A by expert, and the columns of B by rank."""
    rank = whole.rank // experts

    def load() -> Update:
        return LowRankUpdate(B.read()[:, expert::experts], A.read()[expert * rank : (expert + 1) * rank], whole.scaling)

    return StoredUpdate(
        path, whole.shape, rank, whole.scaling, whole.dtype, load, parameters=whole.parameters // experts
    )


def _variant(config: PeftConfig) -> str:
    if config.flag("use_dora"):
        return "dora"
    return config.base_change or ("rslora" if config.flag("use_rslora") else "lora")


def _variant_notes(config: PeftConfig, variant: str) -> list[str]:
    notes = []
    if variant == "dora":
        notes.append(DORA)
    if config.base_change:
        notes.append(
            f"The initialisation {config.base_change} subtracted the first B·A from the base model: the spectra are "
            "of B·A, not of the change since the start."
        )
    return notes
