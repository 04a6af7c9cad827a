"""`msplora-analyze params`: the number of parameters of MSPLoRA and of plain LoRA."""

import re
from typing import Annotated, Any

import typer

from msplora_cli.options import groups_option, three_ranks
from msplora_core.wording import significant

_SQUARE_MODULES = 2
_MEMORY = "Memory and time"
_MOST = 1e18
"""Parameters or tokens: more are a slip, and infinity has no whole number."""


def params(
    layers: Annotated[int | None, typer.Option(min=1, help="Number of layers.", show_default=False)] = None,
    hidden: Annotated[
        int | None, typer.Option(min=1, help="Width of square matrices, in place of --shape.", show_default=False)
    ] = None,
    modules: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Adapted module types per layer, each of width --hidden.",
            show_default=f"{_SQUARE_MODULES}: query and value",
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            help="Shape of a module type's matrix, OUTxIN. Repeat it once per module type.", show_default=False
        ),
    ] = None,
    ranks: Annotated[str, typer.Option(help="Ranks of MSPLoRA: global, mid, layer; 0 leaves one out.")] = "8,4,2",
    groups: Annotated[
        str | None,
        typer.Option(
            help="Number of groups of layers, or their boundaries: 4,8.",
            show_default="3, or as many as there are layers",
        ),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(min=1, help="Rank of plain LoRA.", show_default="the highest of --ranks")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Count what each method trains of this model, by its config.json in place of --layers; no weights are "
            "needed. A local folder or hub id.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="With --model: count this method. May be repeated.", show_default="all"),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=_MOST,
            help="Estimate memory and time of instruction tuning of a model with N parameters, as in 6.74e9.",
            show_default=False,
            rich_help_panel=_MEMORY,
        ),
    ] = None,
    vocabulary: Annotated[int, typer.Option(min=1, help="Its tokens.", rich_help_panel=_MEMORY)] = 32_000,
    at_a_time: Annotated[
        int, typer.Option(min=1, help="Tokens computed at a time: 4 × 256 in the paper.", rich_help_panel=_MEMORY)
    ] = 1024,
    training_tokens: Annotated[
        float, typer.Option(min=1, max=_MOST, help="Tokens over all epochs; Alpaca's at most.", rich_help_panel=_MEMORY)
    ] = 38.4e6,
    tflops: Annotated[
        float,
        typer.Option(
            min=0.001, help="Sustained speed; 100 is a third of an A100's peak in bfloat16.", rich_help_panel=_MEMORY
        ),
    ] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count the trainable parameters of MSPLoRA and of plain LoRA, or with --model of every method on a model.

    LoRA (Eq. 5): layers × rank × (in + out), summed over the module types.
    MSPLoRA (Eq. 7): (in + out) × Σ units × rank over the scales, summed likewise;
    units: 1 (global), the number of groups (mid), the number of layers (layer).

    Example: msplora-analyze params --layers 12 --hidden 768 --ranks 8,4,2

    Example: msplora-analyze params --layers 32 --shape 4096x4096 --shape 1024x4096 --ranks 64,32,16 --memory 6.74e9
    """
    from msplora_cli.console import data, print_json
    from msplora_core.pyramid import Pyramid

    boundaries = groups_option(groups) if groups else None
    if model is not None:
        for name, value in (("layers", layers), ("hidden", hidden), ("modules", modules), ("shape", shape),
                            ("memory", memory)):  # fmt: skip
            if value:
                raise typer.BadParameter("expected none beside --model", param_hint=f"--{name}")
        _print_methods(model, method or [], rank, three_ranks(ranks), boundaries, as_json=as_json)
        return
    if method:
        raise typer.BadParameter("expected none without --model", param_hint="--method")
    if layers is None:
        raise typer.BadParameter("Missing option '--layers', or '--model'")
    pyramid = Pyramid(layers, three_ranks(ranks), boundaries)
    counts = _count(pyramid, rank or max(pyramid.ranks), _shapes(hidden, modules, shape))
    if memory is not None:
        counts["training"] = _costs(counts, int(memory), vocabulary, at_a_time, int(training_tokens), tflops)
    if as_json:
        print_json(counts)
        return
    data().print(_table(counts))
    if memory is not None:
        data().print(_cost_table(counts["training"]))


def _print_methods(
    model: str,
    methods: list[str],
    rank: int | None,
    ranks: tuple[int, int, int],
    groups: int | tuple[int, ...] | None,
    *,
    as_json: bool,
) -> None:
    from msplora_cli.console import data, print_json, say
    from msplora_cli.method_counts import count_methods, methods_table

    counts = count_methods(model, methods, rank, ranks, groups)
    if as_json:
        print_json(counts)
        return
    data().print(methods_table(counts, model))
    for count in counts.values():
        if "error" in count:
            say(count["error"])


def _shapes(hidden: int | None, modules: int | None, given: list[str] | None) -> list[tuple[int, int]]:
    """Return (out, in) of each module type.

    Example:
        >>> _shapes(768, None, None), _shapes(None, None, ["1024x4096"])
        ([(768, 768), (768, 768)], [(1024, 4096)])
    """
    if (hidden is None) == (not given):
        raise typer.BadParameter("expected either --hidden or --shape")
    if hidden is not None:
        return [(hidden, hidden)] * (modules or _SQUARE_MODULES)
    if modules is not None:
        raise typer.BadParameter("--modules goes with --hidden; repeat --shape once per module type")
    return [_shape(text) for text in given or []]


def _shape(text: str) -> tuple[int, int]:
    sizes = re.fullmatch(r"([1-9]\d*)[x×]([1-9]\d*)", text)
    if not sizes:
        raise typer.BadParameter(f"--shape: expected OUTxIN, as in 1024x4096, found {text!r}")
    return int(sizes[1]), int(sizes[2])


def _count(pyramid: Any, rank: int, shapes: list[tuple[int, int]]) -> dict[str, Any]:
    """Return all printed values, in the form of the JSON."""
    from msplora_core.pyramid import SCALES, lora_parameters

    widths = sum(map(sum, shapes))
    lora = sum(lora_parameters(pyramid.layers, rank, columns, rows) for rows, columns in shapes)
    msplora = sum(pyramid.parameters(columns, rows) for rows, columns in shapes)
    return {
        "layers": pyramid.layers,
        "shapes": shapes,
        "lora": {"rank": rank, "parameters": lora},
        "msplora": {
            "ranks": pyramid.ranks,
            "units": {scale: pyramid.units(scale) for scale in SCALES},
            "per_scale": {scale: widths * pyramid.units(scale) * pyramid.rank(scale) for scale in SCALES},
            "parameters": msplora,
        },
        "ratio": msplora / lora,
    }


def _table(counts: dict[str, Any]) -> Any:
    from rich.table import Table

    lora, msplora, layers = counts["lora"], counts["msplora"], counts["layers"]
    title = f"{layers} layers, matrices per layer: {_listed(counts['shapes'])}"
    table = Table("method", "scale", "rank", "units", "parameters", title=title)
    for column in table.columns[2:]:
        column.justify = "right"
    table.add_row("LoRA", "layer", str(lora["rank"]), str(layers), f"{lora['parameters']:,}", end_section=True)
    for (scale, parameters), rank in zip(msplora["per_scale"].items(), msplora["ranks"], strict=True):
        table.add_row("MSPLoRA", scale, str(rank), str(msplora["units"][scale]), f"{parameters:,}")
    table.add_row("MSPLoRA", "all", "", "", f"{msplora['parameters']:,}", end_section=True)
    table.add_row("MSPLoRA / LoRA", "", "", "", f"{counts['ratio']:.3f}")
    return table


def _costs(
    counts: dict[str, Any], parameters: int, vocabulary: int, at_a_time: int, tokens: int, tflops: float
) -> dict[str, Any]:
    """Return bytes and hours of MSPLoRA with and without gradient checkpointing."""
    from msplora_core.training_cost import TrainingCost

    width = max(shape[1] for shape in counts["shapes"])
    trained = counts["msplora"]["parameters"]
    found = {}
    for name, checkpointing in (("plain", False), ("gradient checkpointing", True)):
        cost = TrainingCost(parameters, trained, counts["layers"], width, vocabulary, at_a_time, checkpointing)
        hours = cost.operations(tokens) / (tflops * 1e12) / 3600
        found[name] = {"bytes": cost.memory(), "hours": hours}
    return found


def _cost_table(training: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table("MSPLoRA in bfloat16, estimated", *training)
    for column in table.columns[1:]:
        column.justify = "right"
    for part in training["plain"]["bytes"]:
        table.add_row(part, *(f"{cost['bytes'][part] / 2**30:.2f} GiB" for cost in training.values()))
    sums = [sum(cost["bytes"].values()) / 2**30 for cost in training.values()]
    table.add_row("sum", *(f"{size:.1f} GiB" for size in sums), end_section=True)
    table.add_row("time", *(f"{significant(cost['hours'])} h" for cost in training.values()))
    return table


def _listed(shapes: list[tuple[int, int]]) -> str:
    """Return shapes with their counts.

    Example:
        >>> _listed([(8, 8), (8, 8), (4, 8)])
        '2 of 8 × 8, 1 of 4 × 8'
    """
    numbers = {shape: shapes.count(shape) for shape in shapes}
    return ", ".join(f"{number} of {rows} × {columns}" for (rows, columns), number in numbers.items())
