"""`msplora-analyze inspect`: what an adapter is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from msplora_core.formats import Adapter, AdapterRun


def inspect(
    path: Annotated[str, typer.Argument(help="An adapter's folder or file, a folder of them, or hf://owner/name.")],
    alpha: Annotated[float | None, typer.Option(help="Alpha, for files that do not hold it.")] = None,
    base: Annotated[Path | None, typer.Option(help="The base model of a full fine-tune.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Describe an adapter: format, method, base model, and which modules it adapts.

    Example: msplora-analyze inspect adapter_model.safetensors
    """
    from msplora_cli.console import messages, print_json
    from msplora_core.errors import MSPLoraError

    found, failed = [], False
    for opened in _opened(path, alpha, base):
        try:
            found.append(opened())
        except MSPLoraError as error:
            messages().print(f"error: {error}", markup=False, soft_wrap=True)
            failed = True
    if as_json:
        print_json([_as_json(adapter, run) for adapter, run in found])
    else:
        for adapter, run in found:
            _print(adapter, run)
    if failed:
        raise typer.Exit(1)


def _print(adapter: Adapter, run: AdapterRun | None) -> None:
    from msplora_cli.console import data
    from msplora_cli.description import heading, table, totals
    from msplora_core.errors import one_line

    def line(text: str) -> None:
        data().print(one_line(text), markup=False, soft_wrap=True)

    line(heading(adapter))
    if run and len(run.checkpoints) > 1:
        line(f"the last of {len(run.checkpoints)} checkpoints: {_moments(run)}")
    line(totals(adapter))
    common, rows = table(adapter.modules(), data().width)
    if common:
        line(f"all: {common}")
    data().print(rows)
    for note in _notes(adapter, run):
        line(f"note: {note}")


def _notes(adapter: Adapter, run: AdapterRun | None) -> list[str]:
    return [*adapter.notes, *(run.notes if run else ())]


def _opened(path: str, alpha: float | None, base: Path | None) -> list[Callable[[], tuple[Adapter, AdapterRun | None]]]:
    """What opens each adapter at or below a path; of a run with checkpoints the last."""
    from msplora_core.formats import find_runs, local_path, read_adapter

    place = local_path(path)
    runs = find_runs(place) if base is None else []
    if not runs:  # a full fine-tune, or nothing that is known: reading says what is missing
        return [lambda: (read_adapter(place, alpha=alpha, base=base), None)]

    def last(open_run: Callable[[], AdapterRun]) -> tuple[Adapter, AdapterRun]:
        run = open_run()
        return read_adapter(run.checkpoints[-1].path, alpha=alpha), run

    return [partial(last, run) for run in runs]


def _moments(run: AdapterRun) -> str:
    """When the checkpoints were saved: epochs, or steps where these are not known."""
    from msplora_cli.description import ranges

    epochs = [one.epoch for one in run.checkpoints]
    if any(isnan(epoch) for epoch in epochs):
        return f"steps {', '.join(str(one.step) for one in run.checkpoints)}"
    if all(epoch.is_integer() for epoch in epochs):
        return f"epochs {ranges(list(map(int, epochs)))}"
    return f"epochs {', '.join(f'{epoch:g}' for epoch in epochs)}"


def _as_json(adapter: Adapter, run: AdapterRun | None) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "path": str(adapter.path),
        "format": adapter.format,
        "method": adapter.method,
        "model": adapter.model,
        "parameters": adapter.parameters,
        "bytes": adapter.size,
        "mean_rank": adapter.mean_rank,
        "notes": _notes(adapter, run),
        "epochs": [None if isnan(one.epoch) else one.epoch for one in run.checkpoints] if run else [],
        "steps": [one.step for one in run.checkpoints] if run else [],
        "modules": [asdict(line) for line in adapter.modules()],
    }
