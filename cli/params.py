"""`msplora-analyze params`: how many parameters a pyramid has, beside plain LoRA."""

from __future__ import annotations

from typing import Annotated

import typer

from msplora_cli.options import groups_option, three_ranks


def params(
    layers: Annotated[int, typer.Option(min=1, help="Number of layers.")],
    hidden: Annotated[int, typer.Option(min=1, help="Width of the adapted matrices (in and out).")],
    ranks: Annotated[str, typer.Option(help="Ranks of MSPLoRA: global, mid, layer; 0 leaves one out.")] = "8,4,2",
    groups: Annotated[str, typer.Option(help="Number of groups of layers, or their boundaries: 4,8.")] = "3",
    rank: Annotated[
        int | None, typer.Option(min=1, help="Rank of plain LoRA.", show_default="the highest of --ranks")
    ] = None,
    modules: Annotated[int, typer.Option(min=1, help="Adapted module types per layer (query and value: 2).")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count the trainable parameters of MSPLoRA and of plain LoRA (Eq. 5 and 7).

    Example: msplora-analyze params --layers 12 --hidden 768 --ranks 8,4,2
    """
    from msplora_cli.console import data, print_json
    from msplora_core.pyramid import SCALES, Pyramid, lora_parameters

    pyramid = Pyramid(layers, three_ranks(ranks), groups_option(groups))
    rank = rank or max(pyramid.ranks)
    lora = modules * lora_parameters(layers, rank, hidden, hidden)
    per_scale = {scale: modules * pyramid.units(scale) * pyramid.rank(scale) * 2 * hidden for scale in SCALES}
    msplora = modules * pyramid.parameters(hidden, hidden)
    if as_json:
        print_json(
            {
                "layers": layers,
                "hidden": hidden,
                "modules": modules,
                "lora": {"rank": rank, "parameters": lora},
                "msplora": {"ranks": pyramid.ranks, "parameters": msplora, "per_scale": per_scale},
                "ratio": msplora / lora,
            }
        )
        return
    from rich.table import Table

    table = Table(
        "method",
        "scale",
        "rank",
        "units",
        "parameters",
        title=f"{layers} layers, {modules} modules of {hidden} × {hidden}",
    )
    for column in table.columns[2:]:
        column.justify = "right"
    table.add_row("LoRA", "layer", str(rank), str(layers), f"{lora:,}", end_section=True)
    for scale in SCALES:
        table.add_row("MSPLoRA", scale, str(pyramid.rank(scale)), str(pyramid.units(scale)), f"{per_scale[scale]:,}")
    table.add_row("MSPLoRA", "all", "", "", f"{msplora:,}", end_section=True)
    table.add_row("MSPLoRA / LoRA", "", "", "", f"{msplora / lora:.3f}")
    data().print(table)
