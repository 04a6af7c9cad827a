"""`msplora-analyze overlap --base`: the intruder dimensions of one adapter, or of several on one base."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from msplora_analysis.directions.intrusion import NULL_DRAWS, Intrusion, find_intruders
from msplora_analysis.report.intruder_files import summarise_intruders, write_intruders
from msplora_analysis.report.kept_section import refresh_page
from msplora_cli.console import data, messages, print_json, say
from msplora_core.errors import one_line
from msplora_core.wording import listed

if TYPE_CHECKING:
    from rich.table import Table


def show_intruders(
    path: str,
    base: str,
    out: Path | None,
    *,
    alpha: float | None,
    module: list[str],
    as_json: bool,
    figures: bool,
) -> None:
    """Find, write and print intruder dimensions."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress

    console = messages()
    columns = "weights or adapters", BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("")
        found = find_intruders(
            path, base, alpha=alpha, module=module, progress=lambda done, of: bar.update(task, completed=done, total=of)
        )
    written = write_intruders(found, out, figures=figures)
    refresh_page(written[-1].parent)
    for message in found.skipped:
        say(one_line(f"warning: left out: {message}"))
    if as_json:
        print_json(summarise_intruders(found))
    else:
        _print(found)
    say(f"{len(written)} files in {written[-1].parent}")
    if found.skipped:
        raise typer.Exit(1)


def _print(found: Intrusion) -> None:
    console = data()
    if found.modules["run"].nunique() > 1 or found.skipped:
        console.print(_runs_table(found))
    else:
        for line in sentences(found):
            console.print(one_line(line), soft_wrap=True)
        if found.modules["intruders"].any():
            console.print("", _table(found), sep="\n")
    lines = [
        f"Intruder: a left singular vector among the {found.k} leading ones of W₀ + ΔW whose cosine with all of W₀ is "
        f"below {found.epsilon:g}. random: updates with the same singular values and random directions, mean of "
        f"{NULL_DRAWS} draws.",
        *(f"Note: {note}" for note in found.notes),
        f"Singular vectors of the base: {found.kept} of {len(found.modules)} weights from {found.cache}, where they "
        "are kept for the next adapter.",
    ]
    for line in lines:
        console.print(one_line(line), soft_wrap=True)


def sentences(found: Intrusion) -> Iterator[str]:
    """Yield for each module type the number of intruders, and the number for random directions."""
    for module, rows in found.modules.groupby("module", sort=False, observed=True):
        count, null = int(rows["intruders"].sum()), rows["null_intruders"].sum()
        of = int((found.directions["module"] == module).sum())
        text = f"{module}: {count} of {of} leading directions are intruders, random {null:.1f}"
        if count:
            first = rows.sort_values("enters_at", ascending=False).iloc[0]
            layers = int((rows["intruders"] > 0).sum())
            text += (
                f"; they are in {layers} of {len(rows)} layers, the largest at singular value {first['enters_at']:.3g} "
                f"(layer {first['layer']})"
            )
        else:
            text += f"; the least cosine is {rows['least_cosine'].min():.3f}"
        yield f"{text}."


def _runs_table(found: Intrusion) -> Table:
    """Return a table with a row for each adapter and module type."""

    from msplora_cli.tables import titled_table

    headers = ["run", "module", "intruders", "random", "layers", "enter at", "least cosine"]
    table = titled_table(f"Intruder dimensions among the {found.k} leading directions", headers, left=2)
    for (run, module), rows in found.modules.groupby(["run", "module"], sort=False, observed=True):
        of = ((found.directions["run"] == run) & (found.directions["module"] == module)).sum()
        first = rows["enters_at"].max()
        table.add_row(
            str(run), str(module), f"{rows['intruders'].sum()} of {of}", f"{rows['null_intruders'].sum():.1f}",
            f"{(rows['intruders'] > 0).sum()} of {len(rows)}", f"{first:.3g}" if first == first else "–",
            f"{rows['least_cosine'].min():.3f}",
        )  # fmt: skip
    return table


def _table(found: Intrusion) -> Table:
    from msplora_cli.tables import titled_table

    table = titled_table(
        "Intruder dimensions",
        ["module", "layer", "intruders", "random", "enter at singular value (its place)", "least cosine"],
        left=1,
    )
    for _, row in found.modules[found.modules["intruders"] > 0].iterrows():
        own = found.directions[(found.directions["place"] == row["place"]) & found.directions["intruder"]]
        shown = [f"{sigma:.3g} ({place})" for sigma, place in zip(own["sigma"], own["k"], strict=True)]
        table.add_row(
            str(row["module"]), str(row["layer"]), str(row["intruders"]), f"{row['null_intruders']:.1f}",
            listed(shown), f"{row['least_cosine']:.3f}",
        )  # fmt: skip
    return table
