"""PEFT's LoRA with its variants: rsLoRA, DoRA, PiSSA and similar, embeddings, convolutions, experts."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import replace

from msplora_core.formats.contents import Contents, Found
from msplora_core.formats.notes import DORA, beside_notes
from msplora_core.formats.peft.configuration import PeftConfig, module_path
from msplora_core.formats.peft.experts import expert_updates
from msplora_core.formats.stored import Layout, Parts, StoredUpdate, grouped, low_rank, needed
from msplora_core.methods import method_name

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
    unnamed = set()
    default_alpha = config.number("lora_alpha", 8)
    updates: list[StoredUpdate] = []
    for name, parts in groups.items():
        path = module_path(name)
        targets = _parameters(config, path) or [path]
        unnamed |= set(targets if len(targets) > 1 else ())
        rank = int(_common(config, "rank_pattern", [ranks.value_of(one, config.rank()) for one in targets]))
        alpha = _common(config, "alpha_pattern", [alphas.value_of(one, default_alpha) for one in targets])
        scaling = alpha / (math.sqrt(rank) if config.flag("use_rslora") else rank)
        updates.extend(_module_updates(config, path, targets, parts, rank, scaling))
    variant = _variant(config)
    notes = [*_variant_notes(config, variant), *_parameter_notes(unnamed), *beside_notes(aside, config.modules_to_save)]
    magnitudes = {
        module_path(name): parts["lora_magnitude_vector"]
        for name, parts in groups.items()
        if "lora_magnitude_vector" in parts
    }
    return Found("PEFT", method_name(variant, [config.rank()]), updates, config.model, notes, magnitudes)


def _module_updates(
    config: PeftConfig, path: str, targets: list[str], parts: Parts, rank: int, scaling: float
) -> Iterator[StoredUpdate]:
    """The module's update; one for each expert where a parameter holds several experts."""
    embedding = "lora_embedding_A" in parts or "lora_embedding_B" in parts
    A, B = needed(parts, *(("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")))
    whole = low_rank(path, B, A, scaling)
    if embedding:
        whole = replace(whole, layout=Layout(embedding=True))
    if targets != [path]:
        whole = replace(whole, layout=Layout(wrapper=path))
    experts, beyond = divmod(whole.rank, rank)
    if experts == 1 and not beyond:
        yield whole
    elif targets != [path] and experts and not beyond:
        yield from expert_updates(replace(whole, path=targets[0] if len(targets) == 1 else path), B, A, experts)
    else:
        raise A.error(
            f"rank {rank}, as {config.path.name} gives for {path}",
            f"shape {list(A.shape)}",
            hint="r or rank_pattern does not belong to these weights",
        )


def _parameters(config: PeftConfig, path: str) -> list[str]:
    """Paths of the parameters that the layer at a path can adapt; none if it adapts a module.

    PEFT nests the layers of several parameters of one module, and no file holds their order.
    """
    bare = path.replace(".base_layer", "")
    listed = config.content.get("target_parameters")
    names = [str(name).rpartition(".") for name in listed] if isinstance(listed, list) else []
    return [f"{bare}.{name}" for module, _, name in names if not module or f".{bare}".endswith(f".{module}")]


def _common(config: PeftConfig, field: str, values: list[float]) -> float:
    if len(set(values)) > 1:
        raise config.error(field, "the same for all parameters of a module, since no file says which is which", values)
    return values[0]


def _variant(config: PeftConfig) -> str:
    if config.flag("use_dora"):
        return "dora"
    return config.base_change or ("rslora" if config.flag("use_rslora") else "lora")


def _parameter_notes(paths: Collection[str]) -> list[str]:
    names = sorted({path.rpartition(".")[2] for path in paths})
    return [f"{', '.join(names)}: the file does not say which factors belong to which of them."] if names else []


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
