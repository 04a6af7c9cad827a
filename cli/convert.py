"""`msplora-analyze convert`: an adapter as plain LoRA, for tools that know only LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from msplora_core.conversion.plain import PlainModule


def convert(
    source: Annotated[str, typer.Argument(metavar="RUN_OR_ADAPTER", help="A run directory or an adapter's folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write; new or empty.")],
    to: Annotated[Literal["lora"], typer.Option(help="The method to convert to.")] = "lora",
    rank: Annotated[int | None, typer.Option(min=1, help="Keep at most this many ranks of each module.")] = None,
    energy: Annotated[
        float | None, typer.Option(help="Keep at least this share of each module's squared singular values: 0.99.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write an adapter as plain LoRA of PEFT: the same weight updates, or the best of lower rank.

    Example: msplora-analyze convert runs/mrpc-msplora --to lora -o lora --rank 8
    """
    from msplora_cli.console import data, messages, print_json
    from msplora_core.conversion.disk import convert_adapter

    modules = convert_adapter(source, out, rank=rank, energy=energy)
    if as_json:
        print_json([_as_json(module) for module in modules])
    elif rank is None and energy is None:
        ranks = sorted({module.rank for module in modules})
        data().print(f"{len(modules)} modules of rank {', '.join(map(str, ranks))}, with the same updates.")
    else:
        _print_errors(modules)
    messages().print(f"Wrote {out}", markup=False, soft_wrap=True)


def _print_errors(modules: list[PlainModule]) -> None:
    from rich.table import Table
    from rich.text import Text

    from msplora_cli.console import data

    table = Table("module", "rank", "kept", "error", title="Error: what was cut off, as a share of the update's norm")
    for column in table.columns[1:]:
        column.justify = "right"
    for module in modules:
        table.add_row(Text(module.path), str(module.rank_before), str(module.rank), f"{module.error:.2e}")
    data().print(table)


def _as_json(module: PlainModule) -> dict[str, object]:
    return {
        "module": module.path,
        "rank_before": module.rank_before,
        "rank": module.rank,
        "error": module.error,
    }
