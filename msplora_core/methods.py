"""Method names: the one place that writes and reads `lora-r8` and `msplora-8-4-2`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import PurePath
from typing import Any

from msplora_core.method_list import METHODS
from msplora_core.wording import runs_of

RANDOM_LABELS = "random-labels"
"""Suffix of methods trained on permuted labels, so that such runs are not averaged with others."""
CONVERTED = "converted"
"""Suffix of the methods of adapters that were not trained as such, but converted from others."""


def method_name(kind: str, ranks: Sequence[int] = ()) -> str:
    """Return a method's name with its rank, or with the lowest and the highest.

    Args:
        kind: the method, in lower case.
        ranks: of its components; none for a method without a rank.

    Example:
        >>> method_name("lora", [8, 8]), method_name("dora", [4, 16, 8]), method_name("full")
        ('lora-r8', 'dora-r4-16', 'full')
    """
    if not ranks:
        return kind
    return f"{kind}-r{min(ranks)}" + (f"-{max(ranks)}" if max(ranks) > min(ranks) else "")


def pyramid_name(ranks: Sequence[int], kind: str = "msplora") -> str:
    """Return the name of a method with several scales.

    Example:
        >>> pyramid_name((8, 4, 2))
        'msplora-8-4-2'
    """
    return "-".join((kind, *map(str, ranks)))


def planned_name(kind: str, plan: str | PathLike[str]) -> str:
    """Return the name of a method whose ranks come from a plan: the method with the plan's folder or file.

    Args:
        kind: the method, in lower case.
        plan: path of the plan; parts with `{task}` or `{seed}` are left out, since their runs are replicates.

    Example:
        >>> planned_name("lora", "plans/mrpc/peft.json"), planned_name("lora", "plans/shuffled/{task}-{seed}")
        ('lora-mrpc', 'lora-shuffled')
    """
    parts = PurePath(plan).with_suffix("").parts
    named = [
        word for part in parts if "{" not in part and part != "peft" if (word := re.sub(r"\W+", "-", part).strip("-"))
    ]
    return f"{kind}-{named[-1] if named else 'plan'}"


def of_layers(name: str, layers: int | Sequence[int] | None) -> str:
    """Return a method's name with the layers that it adapts, where it does not adapt all.

    Args:
        name: the method with its ranks.
        layers: their indexes (`layers_to_transform`); None for all.

    Example:
        >>> of_layers("adapterdrop-r8", [5, 6, 7, 11]), of_layers("lora-r8", 3), of_layers("lora-r8", None)
        ('adapterdrop-r8-layers-5to7-11', 'lora-r8-layers-3', 'lora-r8')
    """
    if layers is None:
        return name
    runs = runs_of(sorted({layers} if isinstance(layers, int) else set(layers)))
    return "-".join([name, "layers", *(f"{first}to{last}" if last > first else f"{first}" for first, last in runs)])


def configured_name(config: Mapping[str, Any]) -> str:
    """Return the name of the method that a PEFT configuration describes.

    Args:
        config: the content of `adapter_config.json`, or `PeftConfig.to_dict()`.

    Example:
        >>> configured_name({"peft_type": "LORA", "r": 4, "use_dora": True})
        'dora-r4'
        >>> configured_name({"peft_type": "MSPLORA", "ranks": (8, 4, 2)})
        'msplora-8-4-2'
        >>> configured_name({"peft_type": "MSPLORA", "ranks": (8, 4, 2), "use_dora": True})
        'mspdora-8-4-2'
        >>> configured_name({"peft_type": "LORA", "r": 4, "layers_to_transform": [0, 1]})
        'lora-r4-layers-0to1'
    """
    kind = str(getattr(config["peft_type"], "value", config["peft_type"])).lower()
    if config.get("use_dora"):
        kind = kind.replace("lora", "dora")
    if config.get("ranks"):
        name = pyramid_name(config["ranks"], kind)
    else:
        name = method_name(kind, [config["r"]] if config.get("r") else [])
    return of_layers(name, config.get("layers_to_transform"))


def is_lora(method: str) -> bool:
    """Whether a name is that of plain LoRA, at any rank, trained on true labels; not LoRA with ranks from a plan.

    Example:
        >>> is_lora("lora-r8"), is_lora("msplora-8-4-2"), is_lora("lora-r8-random-labels"), is_lora("lora-shuffled")
        (True, False, False, False)
    """
    return re.fullmatch(r"lora(-r\d+(-\d+)?)?", method) is not None


def is_trained(method: str) -> bool:
    """Whether a method was trained on true labels, so that claims about it can be tested; a variant in brackets counts.

    Example:
        >>> is_trained("msplora-8-4-2 (a)"), is_trained("lora-r8-random-labels"), is_trained("lora-r24-converted")
        (True, False, False)
    """
    return not method.partition(" ")[0].endswith((f"-{RANDOM_LABELS}", f"-{CONVERTED}"))


_TITLES = {
    "mspdora": "MSPDoRA", "vblora": "VB-LoRA", "ia3": "IA3", "oft": "OFT", "boft": "BOFT",  # read, not trained
    **{name: method.title for name, method in METHODS.items()},
}  # fmt: skip


def title(method: str) -> str:
    """Return a method's name as it is written in titles; a variant in brackets is kept.

    Example:
        >>> title("msplora-8-4-2"), title("lora-r8"), title("dora-r4-16"), title("lora-r8-random-labels (a)")
        ('MSPLoRA 8/4/2', 'LoRA r=8', 'DoRA r=4 to 16', 'LoRA r=8, random labels (a)')
        >>> title("adapterdrop-r8-layers-5to7-11"), title("lora-r8-layers-2"), title("lora-r24-converted")
        ('AdapterDrop r=8, layers 5 to 7, 11', 'LoRA r=8, layer 2', 'LoRA r=24, converted')
    """
    name, bracket, variant = method.partition(" (")
    suffix = next((one for one in (RANDOM_LABELS, CONVERTED) if name.endswith(f"-{one}")), "")
    stem, _, layers = name.removesuffix(f"-{suffix}").partition("-layers-")
    word = "layer" if layers.isdecimal() else "layers"
    added = f", {word} {layers.replace('-', ', ').replace('to', ' to ')}" if layers else ""
    added += f", {suffix.replace('-', ' ')}" if suffix else ""
    kind, *ranks = stem.split("-")
    numbers = [rank.removeprefix("r") for rank in ranks]
    if kind not in _TITLES or not all(number.isdecimal() for number in numbers):
        return method
    shown = ""
    if numbers:
        shown = f" r={' to '.join(numbers)}" if ranks[0].startswith("r") else f" {'/'.join(numbers)}"
    return f"{_TITLES[kind]}{shown}{added}{bracket}{variant}"
