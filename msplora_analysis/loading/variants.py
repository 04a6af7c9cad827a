"""Names for runs of one method that are not replicates, i.e. differ in more than task and seed."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from msplora_analysis.loading.source import Source
from msplora_core.components import ComponentKey
from msplora_core.storage.json_file import plain_text
from msplora_core.wording import listed

SETTINGS = ("learning_rate", "batch_size", "warmup", "weight_decay", "dropout", "init", "max_length", "loss_on_prompt",
            "bf16", "groups", "rank_pattern", "schedule", "options", "config")  # fmt: skip
"""Settings in run.json that distinguish runs of one method on one task. Numbers of epochs and examples do not: courses
have a clock for them (see `courses`). Method, ranks, α and modules are in the method's name or in the updates."""

_LONGEST = 20
"""Characters of a setting's value in a name."""


def separate_variants(
    runs: Sequence[tuple[str, Source]], keys: Sequence[Collection[str]]
) -> tuple[list[Source], list[str]]:
    """Give runs of one method that are not replicates different names, with what distinguishes them in brackets.

    Runs of a method on a model are replicates if they adapt the same modules in the same layers, at the same scaling,
    and were trained with the same settings; they differ in task or seed. A setting that differs between tasks alone, as
    in the paper's, belongs to the task. Two runs with the same known task and seed differ in something that is not
    recorded, so each gets its own name.

    Args:
        runs: names and sources.
        keys: of the components of each.

    Returns:
        The sources, and a note for each method whose runs were separated, and why.
    """
    trained = {name: (one.task, one.seed) if one.task and one.seed is not None else () for name, one in runs}
    methods = defaultdict[tuple[str, str], list[_Run]](list)
    for (name, source), components in zip(runs, keys, strict=True):
        methods[source.model, source.method].append(_Run(name, source, components))
    names, notes = dict[str, str](), list[str]()
    for (_, method), group in methods.items():
        differing = [name for name, value in _ASPECTS.items() if _differ(group, name, value)]
        kinds: dict[tuple[object, ...], list[_Run]] = {}
        for run in group:
            kind = (run.parts, *(_ASPECTS[name](run.source) for name in differing))
            kinds.setdefault(kind, []).append(run)
        adapted = len({run.parts for run in group}) > 1
        if adapted:
            notes.append(f"{method}: runs that adapt other modules or layers are not replicates; measured separately")
        if differing:
            notes.append(
                f"{method}: runs that differ in {listed([_words(name) for name in differing])} are not replicates; "
                "measured separately"
            )
        labels = _labels([members[0] for members in kinds.values()], adapted, differing)
        for words, members in zip(labels, kinds.values(), strict=True):
            own = listed([short_name(run.name, trained) for run in members], 1)
            label = "" if len(kinds) == 1 else own if not words or (adapted and len(members) == 1) else words
            counts = Counter(trained[run.name] for run in members)
            twice = [run.name for run in members if trained[run.name] and counts[trained[run.name]] > 1]
            for run in members:
                shown = short_name(run.name, trained) if run.name in twice else label
                names[run.name] = f"{method} ({shown})" if shown else method
            if twice:
                notes.append(
                    f"{method}: {len(twice)} runs with the same task and seed are not replicates ({listed(twice)}); "
                    "each is measured separately"
                )
    return [replace(source, method=names[name]) for name, source in runs], notes


class _Run(NamedTuple):
    """A run, and the keys of its components."""

    name: str
    source: Source
    keys: Collection[str]

    @property
    def parts(self) -> tuple[frozenset[object], frozenset[object]]:
        """What it adapts: equal for runs that adapt the same."""
        return frozenset(self.keys), frozenset(self.source.stacks.items())


def _scaling(source: Source) -> str | None:
    """The scaling of each component, to four digits, which a plan's rounded α does not change."""
    known = sorted((key, f"{scaling:.4g}") for key, scaling in source.scalings.items() if scaling == scaling)
    return json.dumps(known) if known else None


def _setting(name: str) -> Callable[[Source], str | None]:
    return lambda one: json.dumps(one.settings[name], sort_keys=True) if name in one.settings else None


_ASPECTS = {"scaling": _scaling, **{name: _setting(name) for name in SETTINGS}}
"""What distinguishes two runs that adapt the same, each as text; None if unknown."""


def _differ(runs: Sequence[_Run], name: str, value: Callable[[Source], str | None]) -> bool:
    """Whether known values differ: scalings between any two runs, settings between two of one task."""
    known = defaultdict[Any, set[str]](set)
    for run in runs:
        found = value(run.source)
        if found is not None:
            known[run.parts if name == "scaling" else run.source.task].add(found)
    return any(len(values) > 1 for values in known.values())


def _labels(kinds: Sequence[_Run], adapted: bool, differing: Sequence[str]) -> list[str]:
    """Labels that distinguish runs, one of each kind, in as few words as that takes; empty if words cannot."""
    describers: list[Callable[[_Run], str]] = [_modules, _layers, _stacks, _count] if adapted else []
    labels = [""] * len(kinds)
    for describe in (*describers, *(_describer(name) for name in differing)):
        labels = [f"{label}, {describe(kind)}".strip(", ") for label, kind in zip(labels, kinds, strict=True)]
        if len(set(labels)) == len(kinds):
            return labels
    return [""] * len(kinds)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _describer(name: str) -> Callable[[_Run], str]:
    """What describes an aspect of a run: its name with its value, if that is short."""

    def describe(run: _Run) -> str:
        if name == "scaling":
            values = sorted(set(run.source.scalings.values()))
            value = f"{values[0]:.4g}{f' to {values[-1]:.4g}' if len(values) > 1 else ''}" if values else "unknown"
        else:
            found = run.source.settings.get(name, "unknown")
            value = plain_text(found) if isinstance(found, str) else json.dumps(found)
        return f"{_words(name)} {value}" if len(value) <= _LONGEST else ""

    return describe


def short_name(run: str, runs: Iterable[str]) -> str:
    """Return the shortest ending of a run's path that no other run has."""
    names = run.split("/")
    endings = ["/".join(names[start:]) for start in range(len(names))]
    unique = (end for end in reversed(endings) if sum(f"/{other}".endswith(f"/{end}") for other in runs) < 2)
    return next(unique, run)  # one that ends another has no unique ending


def _modules(run: _Run) -> str:
    return listed(sorted({ComponentKey.parse(key).module for key in run.keys}))


def _layers(run: _Run) -> str:
    layers = sorted({one.unit for one in map(ComponentKey.parse, run.keys) if one.scale == "layer"})
    return f"{len(layers)} layers from {layers[0]}" if layers else "no layers"


def _stacks(run: _Run) -> str:
    return listed(sorted({run.source.stacks.get(ComponentKey.parse(key).module, "") for key in run.keys}))


def _count(run: _Run) -> str:
    return f"{len(run.keys)} components"
