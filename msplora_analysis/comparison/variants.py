"""Separate runs that are not replicates, i.e. differ in more than task and seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from msplora_core.wording import listed

if TYPE_CHECKING:
    from pandas import DataFrame

_COMPONENT = ["scale", "stack", "module", "unit"]


def separate_variants(table: DataFrame) -> tuple[DataFrame, list[str]]:
    """Give runs of one method that are not replicates different names in the column `method`.

    Runs of a method on a model are replicates if they adapt the same modules in the same layers, and differ in task or
    seed. Two runs with the same known task and seed differ in something else, so each gets its own name.

    Args:
        table: a spectra table.

    Returns:
        The table, and a note for each method whose runs were separated.
    """
    import pandas as pd

    runs = table[["run", "method", "model", "task", "seed"]].drop_duplicates().astype(object)
    parts = defaultdict[str, set[tuple[object, ...]]](set)
    for run, *component in table[["run", *_COMPONENT]].drop_duplicates().itertuples(index=False, name=None):
        parts[run].add(tuple(component))
    methods = defaultdict[tuple[str, str], list[str]](list)
    trained = dict[str, tuple[object, ...]]()
    for run, method, model, task, seed in runs.itertuples(index=False, name=None):
        methods[model, method].append(run)
        trained[run] = (task, seed) if task != "" and pd.notna(seed) else ()
    names, notes = dict[str, str](), list[str]()
    for (_, method), group in methods.items():
        kinds: dict[frozenset[tuple[object, ...]], list[str]] = {}
        for run in group:
            kinds.setdefault(frozenset(parts[run]), []).append(run)
        if len(kinds) > 1:
            notes.append(f"{method}: runs that adapt other modules or layers are not replicates; measured separately")
        for words, members in zip(_labels(list(kinds)), kinds.values(), strict=True):
            label = short_name(members[0], trained) if words and len(members) == 1 else words
            counts = Counter(trained[run] for run in members)
            twice = [run for run in members if trained[run] and counts[trained[run]] > 1]
            for run in members:
                shown = short_name(run, trained) if run in twice else label
                names[run] = f"{method} ({shown})" if shown else method
            if twice:
                notes.append(
                    f"{method}: {len(twice)} runs with the same task and seed are not replicates ({listed(twice)}); "
                    "each is measured separately"
                )
    if names == dict(zip(runs["run"], runs["method"], strict=True)):
        return table, notes
    return table.assign(method=table["run"].map(names).astype("category")), notes


def _labels(kinds: Sequence[frozenset[tuple[object, ...]]]) -> list[str]:
    """Labels that distinguish sets of components: modules, if needed with layers and stacks; empty for one set."""
    if len(kinds) == 1:
        return [""]
    labels = [""] * len(kinds)
    for describe in (_modules, _layers, _stacks, lambda kind: f"{len(kind)} components"):
        labels = [f"{label}, {describe(kind)}".strip(", ") for label, kind in zip(labels, kinds, strict=True)]
        if len(set(labels)) == len(kinds):
            return labels
    return [f"{label}, variant {number}" for number, label in enumerate(labels, 1)]


def short_name(run: str, runs: Iterable[str]) -> str:
    """Return the shortest ending of a run's path that no other run has."""
    names = run.split("/")
    endings = ["/".join(names[start:]) for start in range(len(names))]
    unique = (end for end in reversed(endings) if sum(f"/{other}".endswith(f"/{end}") for other in runs) < 2)
    return next(unique, run)  # one that ends another has no unique ending


def _modules(kind: frozenset[tuple[object, ...]]) -> str:
    return listed(sorted({str(module) for _, _, module, _ in kind}))


def _layers(kind: frozenset[tuple[object, ...]]) -> str:
    layers = sorted({int(str(unit)) for scale, _, _, unit in kind if scale == "layer"})
    return f"{len(layers)} layers from {layers[0]}" if layers else "no layers"


def _stacks(kind: frozenset[tuple[object, ...]]) -> str:
    return listed(sorted({str(stack) for _, stack, _, _ in kind}))
