"""`msplora-analyze convert`: an adapter as plain LoRA, for tools that support only LoRA, or as a pyramid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msplora_core.conversion.plain import PlainModule


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_ADAPTER",
            help="A run directory, an adapter's folder or file, a folder of checkpoints, or hf://owner/name.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write; new or empty.")],
    to: Annotated[Literal["lora", "msplora"], typer.Option(help="The method to convert to.")] = "lora",
    alpha: Annotated[float | None, typer.Option(help="Alpha, for files that do not hold it.")] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Keep at most this many ranks of each module.")] = None,
    energy: Annotated[
        float | None, typer.Option(help="Keep at least this share of each module's squared singular values: 0.99.")
    ] = None,
    ranks: Annotated[
        str | None, typer.Option(help="With --to msplora: ranks of global, mid and layer scale, as in 8,4,2.")
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(help="With --to msplora: number of groups of layers, or boundaries: 4,8."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write an adapter in any known format as plain LoRA of PEFT: the same weight updates, or the best of lower rank.

    With --to msplora, as the MSPLoRA adapter with the closest weight updates.

    Example: msplora-analyze convert runs/mrpc-msplora --to lora -o lora --rank 8
    """
    from msplora_cli.console import data, messages, print_json
    from msplora_core.conversion.disk import convert_adapter
    from msplora_core.errors import one_line

    if to == "msplora":
        from msplora_cli.convert_pyramid import as_pyramid

        if rank is not None or energy is not None:
            raise typer.BadParameter("--rank and --energy belong to --to lora; a pyramid has --ranks")
        as_pyramid(source, out, ranks or "8,4,2", groups, alpha, as_json=as_json)
        return
    if ranks is not None or groups is not None:
        raise typer.BadParameter("--ranks and --groups belong to --to msplora")
    conversion = convert_adapter(source, out, alpha=alpha, rank=rank, energy=energy)
    modules = conversion.modules
    if as_json:
        print_json([_as_json(module) for module in modules])
    elif rank is None and energy is None:
        found = sorted({module.rank for module in modules})
        data().print(f"{len(modules)} modules of rank {', '.join(map(str, found))}, with the same updates.")
    else:
        _print_errors(modules)
    for note in conversion.notes:
        messages().print(f"note: {one_line(note)}", markup=False, soft_wrap=True)
    messages().print(f"Wrote {one_line(str(out))}", markup=False, soft_wrap=True)


def _print_errors(modules: Sequence[PlainModule]) -> None:
    from rich.table import Table
    from rich.text import Text

    from msplora_cli.console import data
    from msplora_cli.description import shortened

    table = Table("module", "rank", "kept", "error", title="Error: what was truncated, as a share of the norm")
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    paths = shortened([module.path for module in modules], max(20, data().width - 32))
    for path, module in zip(paths, modules, strict=True):
        table.add_row(Text(path), str(module.rank_before), str(module.rank), f"{module.error:.2e}")
    data().print(table)


def _as_json(module: PlainModule) -> dict[str, object]:
    return {
        "module": module.path,
        "rank_before": module.rank_before,
        "rank": module.rank,
        "error": module.error,
    }
