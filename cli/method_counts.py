"""The number of parameters that each method trains on a model, for `params --model`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msplora_core.method_list import METHODS


def count_methods(
    model: str,
    methods: Sequence[str],
    rank: int | None,
    ranks: tuple[int, int, int],
    groups: int | tuple[int, ...] | None = None,
) -> dict[str, Any]:
    """Return the number of trained parameters of each method on a model with a head of two classes and no weights.

    Args:
        model: folder or hub id.
        methods: their names; if empty, all but `peft`.
        rank: the rank, for methods that have one; if None, each method's default.
        ranks: the ranks of MSPLoRA.
        groups: of layers, for MSPLoRA: their number, or the boundaries between them.

    Returns:
        By the method's name with its ranks: `parameters` and `with_head`, or `error` if it does not fit the model.

    Raises:
        ParameterError: for an unknown method, or a model that cannot be loaded.
    """
    from msplora_core.errors import MSPLoraError
    from msplora_core.training.checking import trained_parameters
    from msplora_core.training.models import quiet_transformers
    from msplora_core.training.run_config import RunConfig

    found: dict[str, Any] = {}
    for name in methods or [name for name in METHODS if name != "peft"]:
        config = RunConfig(task="mrpc", method=name, model=model, rank=rank, ranks=ranks, groups=groups)
        try:
            with quiet_transformers():
                own, head = trained_parameters(config)
            found[config.method_name] = {"parameters": own, "with_head": own + head}
        except MSPLoraError as error:
            if getattr(error, "name", "") == "model" or methods:
                raise
            found[config.method_name] = {"error": str(error)}
    return found


def methods_table(counts: dict[str, Any], model: str) -> Any:
    """Return the counts as a table for the terminal."""
    from rich.table import Table

    from msplora_core.methods import title

    table = Table("method", "parameters", "with the head", title=f"What trains of {model}")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, count in counts.items():
        numbers = [f"{count[key]:,}" for key in ("parameters", "with_head")] if "error" not in count else ["–", "–"]
        table.add_row(title(name), *numbers)
    return table
