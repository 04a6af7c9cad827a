"""What is not known of runs: unknown is not equal, so that nothing is averaged or paired on it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from msplora_analysis.loading.source import Source
from msplora_core.components import ComponentKey

LONGEST = 60


def name_unknown_tasks(runs: Sequence[tuple[str, Source]]) -> tuple[list[Source], list[str]]:
    """Name the unknown task of each of several runs after the run; a run alone keeps it empty.

    Returns:
        The sources and a note, if there is something to note.
    """
    sources = [source for _, source in runs]
    unknown = [name for name, source in runs if not source.task]
    if len(runs) == 1 or not unknown:
        return sources, []
    named = [source if source.task else replace(source, task=name) for name, source in runs]
    return named, [
        f"The task of {_counted(unknown)} is not known: each counts as a task of its own, named after the run. "
        "If they have one, give it (--task)."
    ]


def describe_unknown_bases(
    runs: Sequence[tuple[str, Source]], keys: Sequence[Iterable[str]]
) -> tuple[list[Source], list[str]]:
    """Give sources of unknown base model a description of it, the same for equal modules, layers and shapes.

    Args:
        runs: names and sources.
        keys: of the components of each.

    Returns:
        The sources and a note, if there is something to note.
    """
    unknown = [name for name, source in runs if not source.model]
    sources = [
        source if source.model else replace(source, model=describe_base(components, source.stacks))
        for (_, source), components in zip(runs, keys, strict=True)
    ]
    if not unknown:
        return sources, []
    if len(unknown) == 1:
        return sources, [f"The base model of {unknown[0]} is not known. If you know it, give it (--model)."]
    return sources, [
        f"The base model of {_counted(unknown)} is not known: those with the same modules, layers and shapes are taken "
        "to be of one base, others not. If you know it, give it (--model)."
    ]


def describe_base(keys: Iterable[str], stacks: Mapping[str, str]) -> str:
    """Describe an unknown base model by what is adapted in it.

    Args:
        keys: of components.
        stacks: by module type.

    Returns:
        Equal for two adapters only if they adapt the same module types in the same layers with the same shapes.

    Example:
        >>> keys = [f"layer/{module}/{layer}" for module in ("q", "v") for layer in range(12)]
        >>> describe_base(keys, {"q": "encoder.layer 768x768", "v": "encoder.layer 768x768"})
        'unknown (12 encoder.layer 768x768 q v)'
    """
    layers: dict[str, set[int]] = {}
    for component in map(ComponentKey.parse, keys):
        layers.setdefault(component.module, set())
        if component.scale in ("layer", "total"):
            layers[component.module].add(component.unit)
    together: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for module in sorted(layers):
        together.setdefault((stacks.get(module, ""), tuple(sorted(layers[module]))), []).append(module)
    parts = [
        " ".join([str(len(units)), *([stack] if stack else []), *modules])
        for (stack, units), modules in together.items()
    ]
    text = ", ".join(parts)
    plain = all(units == tuple(range(len(units))) for _, units in together)
    if plain and len(text) <= LONGEST:
        return f"unknown ({text})"
    return f"unknown ({text[:LONGEST].rstrip(' ,')}…, {zlib.crc32(repr(together).encode()):08x})"


def _counted(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} runs ({', '.join(names[:3])}{more})" if len(names) > 1 else names[0]
