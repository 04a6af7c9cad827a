"""`msplora-analyze overlap`: which updates point the same way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.table import Table

    from msplora_analysis.directions.overlap import Overlap

_SHARING_KEY = """\
all, groups, own: shares of the energy (the sum of squared norms) that all layers share, groups of layers, none; in
brackets those of layers that share nothing. cosine: the largest between two layers; bound: no cosine is larger, with
probability 0.95, where layers share nothing."""
_SUBSPACES_KEY = """\
common: mean share of the layers' energy in their best common subspace of this dimension. φ: overlap of the subspaces of
two layers at full rank, 0 to 1: neighbours, all pairs. In brackets: random directions."""


def overlap(
    path: Annotated[
        str, typer.Argument(metavar="RUN_OR_STUDY", help="A run, an adapter, or a folder of such; or hf://owner/name.")
    ],
    groups: Annotated[
        str | None,
        typer.Option(help="Groups of layers: a number (3), or the boundaries between them (4,8).", show_default="3"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write.", show_default="analysis/overlap/ in the run or study")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw cosines, shares and subspaces.")] = True,
    module: Annotated[list[str] | None, typer.Option(help="Of adapters: only this module type; repeatable.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Of adapters: alpha, for files that do not hold it.")] = None,
    model: Annotated[str | None, typer.Option(help="Of adapters: name of the base model.")] = None,
    task: Annotated[str | None, typer.Option(help="Of adapters: what they were trained on.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of adapters: seed of the training.")] = None,
) -> None:
    """Say which updates point the same way: between the layers of an adapter, over its training, between methods.

    Example: msplora-analyze overlap runs
    """
    from msplora_analysis import overlap as measure_overlap
    from msplora_analysis.report.overlap_files import write_overlap
    from msplora_analysis.report.overlap_summary import overlap_json
    from msplora_cli.console import messages
    from msplora_cli.options import groups_option

    found = measure_overlap(
        path,
        groups=None if groups is None else groups_option(groups),
        alpha=alpha,
        module=module or (),
        model=model,
        task=task,
        seed=seed,
    )
    written = write_overlap(found, out, n_jobs=-1)
    for message in dict.fromkeys(found.skipped):
        messages().print(f"warning: left out: {message}", markup=False, soft_wrap=True)
    if as_json:
        print(overlap_json(found), end="")
    else:
        _print(found)
    messages().print(f"{len(written)} files in {written[-1].parent}", markup=False, soft_wrap=True)
    if found.failed:
        raise typer.Exit(1)


def _print(found: Overlap) -> None:
    from msplora_analysis.directions.findings import findings
    from msplora_cli.console import data

    console = data()
    width = None if console.is_terminal else 120  # in a file nothing is cut short to 80 columns
    console.print(_sharing_table(found), _SHARING_KEY, "", width=width, sep="\n")
    if len(found.subspaces):
        console.print(_subspaces_table(found), _SUBSPACES_KEY, "", width=width, sep="\n")
    lines = [
        *findings(found.sharing, found.subspaces),
        *map(str, found.answers),
        *(f"Note: {note}" for note in found.notes),
    ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _words(rows: DataFrame) -> list[str]:
    """The columns that name the rows, without those that are the same in all."""
    return [name for name in ("model", "method", "scale") if rows[name].nunique() > 1] + ["module"]


def _sharing_table(found: Overlap) -> Table:
    from msplora_analysis.directions.direction_tables import SHARES
    from msplora_analysis.directions.findings import by_module
    from msplora_cli.tables import titled_table

    rows = by_module(found.sharing)
    words = _words(rows)
    headers = [*words, "layers", "all", "groups", "own", "cosine", "bound"]
    table = titled_table("What the layers share", headers, left=len(words))
    for _, row in rows.iterrows():
        shares = [f"{row[name]:.3f} ({row[f'null_{name}']:.3f})" for name in SHARES]
        numbers = [f"{row['layers']:.0f}", *shares, f"{row['largest_cosine']:+.3f}", f"{row['cosine_bound']:.3f}"]
        table.add_row(*(str(row[name]) for name in words), *numbers)
    return table


def _subspaces_table(found: Overlap) -> Table:
    from msplora_analysis.directions.findings import by_module
    from msplora_cli.tables import titled_table

    rows = by_module(found.subspaces)
    words = [*_words(rows), "side"]
    headers = [*words, "dimension", "common", "φ neighbours", "φ all pairs"]
    table = titled_table("Which subspaces the layers share", headers, left=len(words))
    for _, row in rows.iterrows():
        chance = f"({row['chance']:.3g})"
        numbers = [f"{row['rank']:.0f} of {row['size']:.0f}", f"{row['common']:.3f} ({row['null_common']:.3f})",
                   f"{row['neighbours']:.3g} {chance}", f"{row['pairs']:.3g} {chance}"]  # fmt: skip
        table.add_row(*(str(row[name]) for name in words), *numbers)
    return table
