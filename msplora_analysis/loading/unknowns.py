"""Names for unknown tasks and base models, so that runs are not averaged or paired because both are unknown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from msplora_analysis.loading.source import Source
from msplora_core.components import ComponentKey
from msplora_core.pyramid import LAYER_SCALES
from msplora_core.wording import listed


def name_unknown_tasks(runs: Sequence[tuple[str, Source]]) -> tuple[list[Source], list[str]]:
    """Name the unknown task of each of several runs after the run; for a single run it stays empty.

    Returns:
        The sources, and a note if there are unknown tasks.
    """
    sources = [source for _, source in runs]
    unknown = [name for name, source in runs if not source.task]
    if len(runs) == 1 or not unknown:
        return sources, []
    named = [source if source.task else replace(source, task=name) for name, source in runs]
    return named, [
        f"The task of {_counted(unknown)} is unknown: each run counts as a task of its own, named after the run. "
        "To set a common task: task= in Python, --task of svd and overlap."
    ]


def name_unknown_bases(
    runs: Sequence[tuple[str, Source]], keys: Sequence[Iterable[str]]
) -> tuple[list[Source], list[str]]:
    """Name the unknown base models of sources by their adapted modules (see `base_name`).

    Args:
        runs: names and sources.
        keys: of the components of each.

    Returns:
        The sources, and a note if there are unknown base models.
    """
    sources, named = [], dict[str, list[str]]()
    known: dict[object, str] = {}
    for (name, source), components in zip(runs, keys, strict=True):
        if not source.model:
            alike = tuple(components), tuple(source.stacks.items())
            if alike not in known:
                known[alike] = base_name(components, source.stacks)
            source = replace(source, model=known[alike])
            named.setdefault(source.model, []).append(name)
        sources.append(source)
    if not named:
        return sources, []
    bases = "; ".join(f"{base}: {_counted(names)}" for base, names in named.items())
    like = "; adapters of the same modules, layers and shapes are assumed to share one" if len(runs) > 1 else ""
    return sources, [
        f"The base model is unknown{like} ({bases}). To set it: model= in Python, --model of svd and overlap."
    ]


def base_name(keys: Iterable[str], stacks: Mapping[str, str]) -> str:
    """Return a name for an unknown base model, from a hash of its adapted module types, layers and shapes.

    Args:
        keys: of components.
        stacks: by module type.

    Example:
        >>> keys = [f"layer/{module}/{layer}" for module in ("q", "v") for layer in range(12)]
        >>> base_name(keys, {"q": "encoder.layer 768x768", "v": "encoder.layer 768x768"})
        'unknown-d74d32'
    """
    layers: dict[str, set[int]] = {}
    for component in map(ComponentKey.parse, keys):
        served = layers.setdefault(component.module, set())
        if component.scale in LAYER_SCALES:  # units of shared scales are not layers
            served.add(component.unit)
    adapted = [(module, stacks.get(module, ""), sorted(layers[module])) for module in sorted(layers)]
    return f"unknown-{hashlib.sha256(repr(adapted).encode()).hexdigest()[:6]}"


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} runs ({listed(names)})" if len(names) > 1 else names[0]
