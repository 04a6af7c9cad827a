"""An overlap as text: tables for a terminal, and sentences."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from msplora_analysis.directions.direction_tables import SHARES
from msplora_analysis.directions.findings import by_module, findings, merging
from msplora_cli.console import data
from msplora_cli.tables import titled_table
from msplora_core.methods import RANDOM_LABELS

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.table import Table

    from msplora_analysis.directions.adapter_pairs import AdapterComparison, AdapterPair
    from msplora_analysis.directions.overlap import Overlap

_SHARING_KEY = (
    "all, groups, own: shares of the energy, the sum of squared norms, that all layers share, groups of layers, none. "
    "beyond chance: all + groups, minus those of layers that share nothing. cosine: the largest between two layers "
    "(several runs: mean, without sign); bound: no cosine is larger, with probability 0.95, where layers share nothing."
)
_METHODS_KEY = (
    "beyond chance: as below, of all module types; mean over the runs with its t interval. one run, random: of layers "
    "that share nothing. Intervals over tasks: methods.csv."
)
_SUBSPACES_KEY = (
    "common: mean share of the layers' energy in their best common subspace of dimension dim; in brackets that of "
    "random directions. φ: overlap of the subspaces of two layers at full rank, 0 to 1: next to each other, all pairs; "
    "chance: φ of random subspaces."
)
_CONFLICTS_KEY = (
    "φ: overlap of inputs and of outputs at full rank. first's, second's: the share of its energy in both the inputs "
    "and the outputs of the other, which a sum can overwrite. In brackets: random subspaces. All modules: "
    "adapters.csv; principal angles: angles.csv."
)
_MOST_MODULES = 10
_MOST_PAIRS = 3
"""Of adapters, to be described in full; of more pairs, the most alike or opposed have a sentence each."""


def print_overlap(found: Overlap) -> None:
    """Print the findings of an overlap, then its tables: of adapters if there are several, otherwise of layers.

    Args:
        found: from `overlap`.
    """
    console = data()
    for line in _answers(found):
        console.print(line)
    console.print()
    for table, key in _between_adapters(found.adapters) if found.adapters else _between_layers(found):
        console.print(table, key, "", sep="\n")
    for note in found.notes:
        console.print(f"Note: {note}", soft_wrap=True)


def _answers(found: Overlap) -> Iterator[str]:
    if found.adapters is None:
        yield from map(str, found.answers)
        yield from findings(found.sharing, found.subspaces)
        return
    pairs = found.adapters.pairs
    few = len(pairs) <= _MOST_PAIRS
    alike = (
        pairs if few else sorted((one for one in pairs if one.cosine == one.cosine), key=lambda one: -abs(one.cosine))
    )
    for pair in alike[:_MOST_PAIRS]:
        yield from islice(merging(pair), None if few else 1)


def _between_adapters(found: AdapterComparison) -> Iterator[tuple[Table, str]]:
    for pair in found.pairs if len(found.pairs) <= _MOST_PAIRS else ():
        if not pair.equal and pair.cosine == pair.cosine:
            yield _conflicts_table(pair), _CONFLICTS_KEY
    if len(found.pairs) > 1:
        yield _adapters_table(found), "Over all modules that two have in common."


def _between_layers(found: Overlap) -> Iterator[tuple[Table, str]]:
    if (found.methods["runs"] > 1).any():
        yield _methods_table(found.methods), _METHODS_KEY
    if found.sharing["excess"].notna().any():
        yield _sharing_table(found.sharing.dropna(subset="excess")), _SHARING_KEY
    if len(found.subspaces):
        yield _subspaces_table(found.subspaces), _SUBSPACES_KEY


def _methods_table(methods: DataFrame) -> Table:
    words = _words(methods) or ["method"]
    columns = ["runs", "beyond chance", "95% interval", "one run, random"]
    table = titled_table("What the layers of each method share", [*words, *columns], left=len(words))
    for names, (_, row) in zip(_names(methods, words), methods.iterrows(), strict=True):
        interval = f"{row['low']:+.4f} to {row['high']:+.4f}" if row["runs"] > 1 else "–"
        table.add_row(*names, f"{row['runs']}", f"{row['excess']:+.4f}", interval, f"0 ± {row['deviation']:.4f}")
    return table


def _sharing_table(sharing: DataFrame) -> Table:
    rows = by_module(sharing)
    words = _words(rows)
    columns = ["all", "groups", "own", "beyond chance", "cosine", "bound"]
    table = titled_table("What the layers share", [*words, *columns], left=len(words))
    for names, (_, row) in zip(_names(rows, words), rows.iterrows(), strict=True):
        beyond = f"{row['excess']:+.3f} ± {row['deviation_own']:.4f}"
        cosines = f"{row['largest_cosine']:{'+' if row['runs'] == 1 else ''}.3f}", f"{row['cosine_bound']:.3f}"
        table.add_row(*names, *(f"{row[name]:.3f}" for name in SHARES), beyond, *cosines)
    return table


def _subspaces_table(subspaces: DataFrame) -> Table:
    rows = by_module(subspaces)
    words = [*_words(rows), "side"]
    headers = [*words, "dim", "common", "φ next", "φ all", "chance"]
    table = titled_table("Which subspaces the layers share", headers, left=len(words))
    for names, (_, row) in zip(_names(rows, words), rows.iterrows(), strict=True):
        common = f"{row['common']:.3f} ({row['null_common']:.3f})"
        phi = (f"{row[name]:.3f}" for name in ("neighbours", "pairs", "chance"))
        table.add_row(*names, f"{row['rank']:.0f}", common, *phi)
    return table


def _names(rows: DataFrame, words: list[str]) -> Iterator[list[str]]:
    """Yield the names of each row, without repeats of the row above; lines can break before `random-labels`."""
    before = [""] * len(words)
    for _, row in rows.iterrows():
        names = [str(row[name]) for name in words]
        new = [name if names[: place + 1] != before[: place + 1] else "" for place, name in enumerate(names)]
        yield [name.replace(f"-{RANDOM_LABELS}", f" {RANDOM_LABELS}") for name in new]
        before = names


def _words(rows: DataFrame) -> list[str]:
    """Return the columns that name the rows, without those with one value for all rows."""
    names = ("model", "method", "scale")
    return [name for name in names if rows[name].nunique() > 1] + (["module"] if "module" in rows else [])


def _conflicts_table(pair: AdapterPair) -> Table:
    title = f"{pair.first} with {pair.second}: modules most in conflict"
    table = titled_table(title, ["module", "layer", "cosine", "φ in", "φ out", "first's", "second's"], left=1)
    for _, row in pair.modules.dropna(subset="cosine").head(_MOST_MODULES).iterrows():
        phi = [f"{row[f'phi_{side}']:.3f} ({row[f'chance_{side}']:.3f})" for side in ("inputs", "outputs")]
        shares = [f"{row[name]:.2%} ({row[f'null_{name}']:.2%})" for name in ("overwritten", "overwritten_other")]
        table.add_row(str(row["module"]), str(row["layer"]), f"{row['cosine']:+.3f}", *phi, *shares)
    return table


def _adapters_table(found: AdapterComparison) -> Table:
    numbers = [str(place + 1) for place in range(len(found.names))]
    table = titled_table("Cosines between adapters", ["", *numbers], left=1)
    for number, name, row in zip(numbers, found.names, found.cosines, strict=True):
        table.add_row(f"{number} {name}", *(f"{value:+.3f}" if value == value else "–" for value in row))
    return table
