"""An adapter, or the checkpoints of a training, as a source of spectra."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from msplora_analysis.loading.source import Moment, Saved, Source
from msplora_core.checkup.adapter_check import rounded_away
from msplora_core.checkup.diagnosis import file_findings
from msplora_core.checkup.finding import Finding
from msplora_core.components import Component, component_spectra, factored_spectra
from msplora_core.errors import AdapterFileError, MSPLoraError, ParameterError
from msplora_core.formats import Adapter, AdapterRun

_TASKS = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst-2", "sst2", "sts-b", "stsb", "wnli", "boolq", "copa",
          "multirc", "wic", "wsc", "squad", "xsum", "e2e", "webnlg", "gsm8k", "hellaswag", "winogrande", "piqa",
          "siqa", "arc-e", "arc-c", "obqa", "samsum")  # fmt: skip
_WORDS = ("record", "math", "dart", "cb", "alpaca")
"""Tasks whose names are common words (`qwen-math`): they must be the whole name of a file or folder."""
_TASK = re.compile(
    rf"(?:^|[-_./])task[-_=]([^-_./]+)|(?:^|[-_./])({'|'.join(_TASKS)})(?=$|[-_./])|(?:^|/)({'|'.join(_WORDS)})(?=$|/)",
    re.IGNORECASE,
)
_SEED = re.compile(r"(?:^|[-_./])seed[-_=]?(\d{1,9})(?=$|[-_./])", re.IGNORECASE)


def adapter_source(
    run: AdapterRun,
    name: str,
    read: Callable[[Path], Adapter],
    *,
    model: str | None = None,
    task: str | None = None,
    seed: int | None = None,
    factors: bool = False,
    check: bool = False,
) -> Source:
    """Open an adapter or a training's checkpoints.

    Args:
        run: its checkpoints.
        name: path below the given path.
        read: opens one adapter.
        model: the base model; by default that of the adapter.
        task: of the training; by default from the name.
        seed: of the training; likewise.
        factors: whether to read the spectra of both factors, too.
        check: whether to check the adapter's files; only for all modules, since patterns may match those left out.

    Raises:
        MSPLoraError: the error of the last checkpoint, if none can be opened.
    """
    (last, adapter), found = _last(run, read), list[Finding]()

    def moments(errors: list[MSPLoraError]) -> Iterator[Moment]:
        for epoch, step, path in run.checkpoints:
            try:
                one = adapter if path == last else read(path)
                components = _checked(one, found) if one is adapter and check else one.components()
                if factors:
                    spectra = factored_spectra(components)
                    yield Moment(epoch, step, spectra.spectra, spectra.factor_A, spectra.factor_B)
                else:
                    yield Moment(epoch, step, component_spectra(components))
            except ParameterError as error:
                errors.append(AdapterFileError(path, key=error.name, expected=error.expected, found=error.found))
            except MSPLoraError as error:
                errors.append(error)

    named_task, named_seed = task_and_seed(name)
    guessed = [f"task {named_task}"] if task is None and named_task else []
    guessed += [f"seed {named_seed}"] if seed is None and named_seed is not None else []
    return Source(
        adapter.method,
        adapter.model if model is None else model,
        named_task if task is None else task,
        named_seed if seed is None else seed,
        list(dict.fromkeys(key.module for key in adapter.keys)),
        moments,
        [*adapter.notes, *run.notes],
        adapter.stacks(),
        ", ".join(guessed),
        {str(key): update.scaling for key, update in zip(adapter.keys, adapter.updates, strict=True)},
        saved=partial(saved_updates, lambda: run, read),
        check=lambda: [*found, *file_findings(adapter)] if check else [],
    )


def _checked(adapter: Adapter, found: list[Finding]) -> Iterator[Component]:
    """The components of an adapter; what rounding took from their values goes into `found`."""
    for stored, component in zip(adapter.updates, adapter.components(), strict=True):
        found += rounded_away(component, stored.dtype)
        yield component


def saved_updates(
    opened: Callable[[], AdapterRun], read: Callable[[Path], Adapter], errors: list[MSPLoraError]
) -> Iterator[Saved]:
    """Yield the updates of each checkpoint of a training; append the errors of those that cannot be opened."""
    try:
        checkpoints = opened().checkpoints
    except MSPLoraError as error:
        errors.append(error)
        return
    for epoch, step, path in checkpoints:
        try:
            adapter = read(path)
        except MSPLoraError as error:
            errors.append(error)
            continue
        yield Saved(epoch, step, path, partial(_with_paths, adapter))


def _with_paths(adapter: Adapter) -> Iterator[tuple[str, Component]]:
    return zip((stored.path for stored in adapter.updates), adapter.components(), strict=True)


def task_and_seed(name: str) -> tuple[str, int | None]:
    """Return the task and the seed in a name; the last of each counts.

    Example:
        >>> task_and_seed("study/mrpc/lora-r8-seed-3"), task_and_seed("roberta-base-MNLI"), task_and_seed("vit-s-16")
        (('mrpc', 3), ('mnli', None), ('', None))
    """
    tasks, seeds = list(_TASK.finditer(name)), list(_SEED.finditer(name))
    task = next(filter(None, tasks[-1].groups())).lower() if tasks else ""
    return task, int(seeds[-1][1]) if seeds else None


def _last(run: AdapterRun, read: Callable[[Path], Adapter]) -> tuple[Path, Adapter]:
    """The path and the adapter of the last checkpoint that can be opened; if none can, raise the last one's error."""
    failed: MSPLoraError | None = None
    for checkpoint in reversed(run.checkpoints):
        try:
            return checkpoint.path, read(checkpoint.path)
        except MSPLoraError as error:
            failed = failed or error
    assert failed is not None
    raise failed
