"""`msplora-analyze inspect`: describe and check an adapter."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from msplora_core.checkup.diagnosis import Diagnosis
    from msplora_core.formats import Adapter, AdapterRun


def inspect(
    path: Annotated[str, typer.Argument(help="An adapter's folder or file, a folder of them, or hf://owner/name.")],
    alpha: Annotated[float | None, typer.Option(help="Alpha, for files that do not hold it.")] = None,
    base: Annotated[Path | None, typer.Option(help="The base model of a full fine-tune.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 3 if something is broken, for pipelines.")
    ] = False,
) -> None:
    """Describe an adapter and check it: what it is, which modules it adapts, and what is wrong with it.

    Findings are sorted, worst first: broken (do not use it), doubtful (look at it), note (good to know). A folder with
    several adapters gives a table with a row for each, without methods that have no spectra. For a full fine-tune
    (--base), update sizes are checked.

    Example: msplora-analyze inspect adapter_model.safetensors

    Example: msplora-analyze inspect runs --strict
    """
    from msplora_cli.console import print_json, say
    from msplora_core.checkup.diagnosis import diagnose
    from msplora_core.errors import MSPLoraError, UnsupportedAdapterError

    found, failed = [], False
    adapters = _opened(path, alpha, base)
    for opened in adapters:
        try:
            adapter, run = opened()
            found.append((adapter, run, diagnose(adapter)))
        except MSPLoraError as error:
            aside = isinstance(error, UnsupportedAdapterError) and len(adapters) > 1
            say(f"{'left out' if aside else 'error'}: {error}")
            failed = failed or not aside
    if as_json:
        print_json([_as_json(*one) for one in found])
    elif len(found) > 1:
        _print_overview(path, [(adapter, diagnosis) for adapter, _, diagnosis in found])
    else:
        for one in found:
            _print(*one)
    if failed or not found:
        raise typer.Exit(1)
    if strict and any(one.severity == "broken" for _, _, diagnosis in found for one in diagnosis.findings):
        raise typer.Exit(3)


def _line(text: str) -> None:
    from msplora_cli.console import data
    from msplora_core.errors import one_line

    data().print(one_line(text), soft_wrap=True)


def _print(adapter: "Adapter", run: "AdapterRun | None", diagnosis: "Diagnosis") -> None:
    from msplora_cli.console import data
    from msplora_cli.description import heading, nested_table, table, totals
    from msplora_core.checkup.finding import summarised

    _line(heading(adapter))
    if run and (len(run.checkpoints) > 1 or not run.finished):
        _line(_training(run))
    _line(totals(adapter))
    common, rows = table(adapter.modules(), data().width, diagnosis.spectra if data().is_terminal else {})
    if common:
        _line(f"all: {common}")
    data().print(rows)
    if nested := _nested(adapter):
        data().print(nested_table(nested))
    for note in _notes(adapter, run):
        _line(f"note: {note}")
    for text in summarised(diagnosis.findings):
        _line(text)


def _print_overview(path: str, found: "Sequence[tuple[Adapter, Diagnosis]]") -> None:
    """Print a row for each adapter, then the broken and doubtful findings."""
    from msplora_cli.console import data
    from msplora_cli.description import overview
    from msplora_core.checkup.finding import summarised
    from msplora_core.errors import one_line

    names = [one_line(_name(path, adapter)) for adapter, _ in found]
    data().print(overview([(name, *one) for name, one in zip(names, found, strict=True)], data().width))
    for name, (_, diagnosis) in zip(names, found, strict=True):
        for text in summarised(one for one in diagnosis.findings if one.severity != "note"):
            _line(f"{name}: {text}")


def _name(path: str, adapter: "Adapter") -> str:
    """Return an adapter's path relative to the given path; for a run, that of the run."""
    from msplora_core.runs import RunDirectory

    place = adapter.path.parent if RunDirectory.is_run(adapter.path.parent) else adapter.path
    root = Path(path)
    return place.relative_to(root).as_posix() if place.is_relative_to(root) else str(place)


def _nested(adapter: "Adapter") -> list[dict[str, float]]:
    """The measures at each rank of a DyLoRA adapter; empty for other methods, and if values are not finite."""
    from msplora_core.errors import MSPLoraError

    if adapter.method.startswith("dylora"):
        from msplora_analysis.nested_ranks import nested_measures

        with suppress(MSPLoraError):  # the findings say which
            return nested_measures(adapter.components())
    return []


def _notes(adapter: "Adapter", run: "AdapterRun | None") -> list[str]:
    return [*adapter.notes, *(run.notes if run else ())]


def _opened(
    path: str, alpha: float | None, base: Path | None
) -> "list[Callable[[], tuple[Adapter, AdapterRun | None]]]":
    """What opens each adapter at or below a path; of a run with checkpoints the last."""
    from msplora_core.formats import find_runs, local_path, read_adapter

    place = local_path(path)
    runs = find_runs(place) if base is None else []
    if not runs:  # a full fine-tune, or nothing that is known: reading says what is missing
        return [lambda: (read_adapter(place, alpha=alpha, base=base), None)]

    def last(open_run: "Callable[[], AdapterRun]") -> "tuple[Adapter, AdapterRun]":
        run = open_run()
        adapter = read_adapter(run.last, alpha=alpha)
        return replace(adapter, method=_method_of_run(run) or adapter.method), run

    return [partial(last, run) for run in runs]


def _method_of_run(run: "AdapterRun") -> str:
    """The method that a run directory recorded; its adapter's file does not tell DyLoRA or a plan from LoRA."""
    from msplora_core.errors import MSPLoraError
    from msplora_core.runs import RunDirectory

    directory = RunDirectory(run.path.parent)
    if run.path in (directory.adapter_path, directory.checkpoints_path):
        with suppress(MSPLoraError):
            return directory.read_record().method
    return ""


def _training(run: "AdapterRun") -> str:
    """What the adapter is in its training, and when it was saved."""
    count = len(run.checkpoints)
    what = f"the last of {count} checkpoints" if run.last != run.path else "the end" if count > 1 else "a checkpoint"
    return f"{what}: {_moments(run)}{'' if run.finished else f', not finished ({run.planned:g} epochs planned)'}"


def _moments(run: "AdapterRun") -> str:
    """When the checkpoints were saved: epochs, or steps where these are not known."""
    from msplora_cli.description import ranges

    epochs = [one.epoch for one in run.checkpoints]
    if any(isnan(epoch) for epoch in epochs):
        return f"steps {', '.join(str(one.step) for one in run.checkpoints)}"
    if all(epoch.is_integer() for epoch in epochs):
        return f"epochs {ranges(list(map(int, epochs)))}"
    return f"epochs {', '.join(f'{epoch:g}' for epoch in epochs)}"


def _as_json(adapter: "Adapter", run: "AdapterRun | None", diagnosis: "Diagnosis") -> dict[str, Any]:
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
        "cut_at": _nested(adapter),
        "findings": [asdict(one) for one in diagnosis.findings],
    }
