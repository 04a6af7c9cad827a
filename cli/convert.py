"""`msplora-analyze convert`: convert an adapter to plain LoRA, for tools that support only LoRA, or to MSPLoRA."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msplora_core.conversion.disk import Conversion
    from msplora_core.conversion.plain import PlainModule


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_ADAPTER",
            help="A run directory, an adapter's folder or file, a folder of checkpoints, or hf://owner/name.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The folder to write; new or empty.", show_default=False)
    ] = None,
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
    mean_rank: Annotated[
        float | None,
        typer.Option(help="A budget for all modules together: the parameters that this rank has everywhere."),
    ] = None,
    parameters: Annotated[str | None, typer.Option(help="A budget in parameters: 150000, 150k, 1.2M.")] = None,
    plan: Annotated[Path | None, typer.Option(help="A folder from `plan --out`: a rank for each module.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show sizes and errors, and write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write an adapter in any known format as plain LoRA of PEFT: the same weight updates, or the best of lower rank.

    With --to msplora, as the MSPLoRA adapter with the closest weight updates.

    Example: msplora-analyze convert runs/mrpc-msplora --to lora -o lora --rank 8

    Example: msplora-analyze convert adapter_model.safetensors -o small --energy 0.99
    """
    from rich.filesize import decimal

    from msplora_cli.console import data, print_json, say
    from msplora_cli.options import count_option
    from msplora_core.conversion.disk import convert_adapter
    from msplora_core.errors import one_line

    if (out is None) is not dry_run:
        raise typer.BadParameter("expected a folder to write, or --dry-run in its place", param_hint="--out")
    limits: dict[str, Any] = {
        "rank": rank,
        "energy": energy,
        "mean_rank": mean_rank,
        "parameters": count_option(parameters) if parameters else None,
        "plan": plan,
    }
    limited = any(value is not None for value in limits.values())
    if to == "msplora":
        from msplora_cli.convert_pyramid import as_pyramid

        if limited or out is None:
            lora = "--rank, --energy, --mean-rank, --parameters, --plan and --dry-run"
            raise typer.BadParameter(f"{lora} belong to --to lora; a pyramid has --ranks")
        as_pyramid(source, out, ranks or "8,4,2", groups, alpha, as_json=as_json)
        return
    if ranks is not None or groups is not None:
        raise typer.BadParameter("--ranks and --groups belong to --to msplora")
    conversion = convert_adapter(source, out, alpha=alpha, **limits)
    modules = conversion.modules
    if as_json:
        rows = [_as_json(module) for module in modules]
        print_json(_whole(conversion) | {"modules": rows} if dry_run else rows)
    elif not limited:
        found = sorted({module.rank for module in modules})
        data().print(f"{len(modules)} modules of rank {', '.join(map(str, found))}, with the same updates.")
    else:
        _print_errors(modules)
    if dry_run and not as_json:
        before, after = decimal(conversion.bytes_before), decimal(conversion.bytes)
        data().print(f"{before} before, {after} after; error of all modules together {conversion.error:.2e}.")
    for note in conversion.notes:
        say(f"note: {one_line(note)}")
    written = "Nothing written (--dry-run)" if dry_run else f"Wrote {one_line(str(out))}"
    say(written)


def _print_errors(modules: "Sequence[PlainModule]") -> None:
    from rich.table import Table

    from msplora_cli.console import data
    from msplora_cli.description import shortened

    table = Table("module", "rank", "kept", "error", title="Error: what was truncated, as a share of the norm")
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    paths = shortened([module.path for module in modules], max(20, data().width - 32))
    for path, module in zip(paths, modules, strict=True):
        table.add_row(path, str(module.rank_before), str(module.rank), f"{module.error:.2e}")
    data().print(table)


def _whole(conversion: "Conversion") -> dict[str, object]:
    return {
        "bytes_before": conversion.bytes_before,
        "bytes": conversion.bytes,
        "error": conversion.error,
        "mean_rank": sum(module.rank for module in conversion.modules) / max(1, len(conversion.modules)),
    }


def _as_json(module: "PlainModule") -> dict[str, object]:
    return {
        "module": module.path,
        "rank_before": module.rank_before,
        "rank": module.rank,
        "error": module.error,
    }
