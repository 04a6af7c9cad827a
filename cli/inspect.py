"""`msplora-analyze inspect`: what an adapter of unknown origin is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from msplora_core.formats import Adapter, AdapterRun, ModuleSummary


def inspect(
    path: Annotated[str, typer.Argument(help="An adapter's folder or file, a folder of them, or hf://owner/name.")],
    alpha: Annotated[float | None, typer.Option(help="Alpha, for files that do not hold it.")] = None,
    base: Annotated[Path | None, typer.Option(help="The base model of a full fine-tune.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what an adapter is: format, method, base model, and what it adapts where.

    Example: msplora-analyze inspect adapter_model.safetensors
    """
    from msplora_cli.console import data, messages, print_json
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
    for adapter, run in found if not as_json else ():
        data().print(_heading(adapter), markup=False, soft_wrap=True)
        if run and len(run.checkpoints) > 1:
            data().print(f"the last of {len(run.checkpoints)} checkpoints: {_moments(run)}", markup=False)
        data().print(_table(adapter.modules()))
        for note in [*adapter.notes, *(run.notes if run else ())]:
            data().print(f"note: {note}", markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


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
    epochs = [one.epoch for one in run.checkpoints]
    if any(isnan(epoch) for epoch in epochs):
        return f"steps {', '.join(str(one.step) for one in run.checkpoints)}"
    if all(epoch.is_integer() for epoch in epochs):
        return f"epochs {_ranges(tuple(map(int, epochs)))}"
    return f"epochs {', '.join(f'{epoch:g}' for epoch in epochs)}"


def _heading(adapter: Adapter) -> str:
    model = f", of {adapter.model}" if adapter.model else ", base model unknown"
    return f"{adapter.path}: {adapter.method} in the format of {adapter.format}{model}"


def _table(lines: list[ModuleSummary]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table("scale", "module", "units", "out × in", "rank", "scaling", "dtype")
    for line in lines:
        table.add_row(*(Text(text) for text in (line.scale, line.module, _ranges(line.units), *_ways(line))))
    return table


def _ways(line: ModuleSummary) -> tuple[str, ...]:
    return (
        ", ".join(f"{out} × {in_}" for out, in_ in line.shapes),
        ", ".join(map(str, line.ranks)),
        ", ".join(f"{scaling:.4g}" for scaling in line.scalings),
        ", ".join(line.dtypes),
    )


def _ranges(numbers: tuple[int, ...]) -> str:
    """Numbers with runs drawn together.

    Example:
        >>> _ranges((0, 1, 2, 5, 7, 8))
        '0-2, 5, 7-8'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)


def _as_json(adapter: Adapter, run: AdapterRun | None) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "path": str(adapter.path),
        "format": adapter.format,
        "method": adapter.method,
        "model": adapter.model,
        "notes": [*adapter.notes, *(run.notes if run else ())],
        "epochs": [None if isnan(one.epoch) else one.epoch for one in run.checkpoints] if run else [],
        "steps": [one.step for one in run.checkpoints] if run else [],
        "modules": [asdict(line) for line in adapter.modules()],
    }
