"""The spectra table: one tidy DataFrame for all sources."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.loading.names import name_runs
from msplora_analysis.loading.parallel import in_processes
from msplora_analysis.loading.reading import read_whole
from msplora_analysis.loading.source import Moment, Source
from msplora_analysis.loading.sources import find_sources
from msplora_core.checkup.finding import Finding
from msplora_core.components import ComponentKey
from msplora_core.errors import MSPLoraError, RunDirectoryError, UnsupportedAdapterError
from msplora_core.methods import title
from msplora_core.pyramid import ALL_SCALES
from msplora_core.wording import listed

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ["run", "method", "model", "task", "seed", "epoch", "step", "scale", "stack", "module", "unit", "rank", "k",
           "sigma"]  # fmt: skip


class SkippedWarning(UserWarning):
    """A file could not be read and was left out."""


def load_spectra(
    path: str | os.PathLike[str],
    *,
    alpha: float | None = None,
    base: str | os.PathLike[str] | None = None,
    module: str | Collection[str] = (),
    model: str | None = None,
    task: str | None = None,
    seed: int | None = None,
    factors: bool = False,
    n_jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> DataFrame:
    """Read all spectra of a run, of adapters, or of a study (a folder that contains such at any depth), into one table.

    Files that cannot be read are left out with a `SkippedWarning` that names them, unless nothing remains. Runs of one
    method that differ in more than task and seed get different methods: `lora-r8 (learning rate 0.01)`.

    Args:
        path: a run directory; an adapter's folder or file, or hf://owner/name; a Trainer's folder of checkpoints; or a
            folder of such.
        alpha: for adapters whose files do not hold α.
        base: for full fine-tunes: the base model's folder or file.
        module: for adapters: module types, or ends of module paths, to keep; by default all.
        model: for adapters: the base model; by default from each adapter.
        task: for adapters: the task; by default from names below `path`.
        seed: for adapters: the seed; by default from names below `path`, `seed` with a number.
        factors: whether to read the spectra of both factors of each update, too; null models need them.
        n_jobs: number of processes that read, as in scikit-learn: -1 for one a core, -2 for one less. Useful from
            about a hundred adapters on; fewer processes are started for few. Processes are forked, so there is always
            one on systems other than Linux and after torch was imported.
        progress: called after each run with the number of runs read and of all.

    Returns:
        One row a singular value, ordered by run, epoch, scale, module, unit and k:

        | column | type | |
        |---|---|---|
        | run | category | path in the study, `mrpc/lora-r8/seed-0` |
        | method | category | `lora-r8`, `msplora-8-4-2`; with a variant in brackets where runs are not replicates |
        | model | category | the base model; if unknown, a name derived from the adapted modules |
        | task | category | if unknown, the name of the run if there are several, else empty |
        | seed | Int64 | missing if unknown |
        | epoch | float64 | 0 before the first step, a fraction within an epoch; NaN if unknown |
        | step | Int64 | optimiser steps so far; missing if unknown |
        | scale | ordered category | global < mid < layer < total |
        | stack | category | list of layers and shape of its matrices, `encoder.layer 768x768`; empty if unknown |
        | module | category | `query` |
        | unit | int32 | 0 for global, the group's index for mid, the layer's for layer and total |
        | rank | int32 | number of singular values of the component |
        | k | int32 | from 1, in descending order of sigma |
        | sigma | float64 | |

        With `factors` also `sigma_B` and `sigma_A`, the singular values of the stored factors, and `scaling`, so that
        ΔW = scaling·B·A; NaN if unknown, as for snapshots of version 1 and updates that are not products of two
        factors.

        `attrs["skipped"]` lists messages on what was left out; `attrs["failed"]` the runs of which nothing could be
        read; `attrs["notes"]` remarks on the numbers, also on guesses from names; `attrs["findings"]` defects of
        adapters' files, as (run, `Finding`).

    Raises:
        RunDirectoryError: if there is no run, or none can be read.
        UnsupportedAdapterError: if the methods of all runs have no spectra.
        ParameterError: for a parameter with a wrong value.

    Example:
        >>> import tempfile, numpy as np
        >>> from msplora_core.runs import RunDirectory, RunRecord
        >>> run = RunDirectory(tempfile.mkdtemp())
        >>> run.write_record(RunRecord(method="lora-r2", model="minilm", task="mrpc", seed=0))
        >>> run.write_epoch(1, step=20, spectra={"layer/query/0": np.array([2.0, 1.0])})
        >>> load_spectra(run.path)[["method", "epoch", "scale", "module", "unit", "k", "sigma"]]
            method  epoch  scale module  unit  k  sigma
        0  lora-r2    1.0  layer  query     0  1    2.0
        1  lora-r2    1.0  layer  query     0  2    1.0
    """
    found = find_sources(
        path, alpha=alpha, base=base, module=module, model=model, task=task, seed=seed, factors=factors
    )
    builder, skipped, failed, without = _Builder(), list[str](), list[str](), list[tuple[str, Source]]()
    last: MSPLoraError | None = None
    read = in_processes(read_whole, found, n_jobs, chunk=_CHUNK, least=4 * _CHUNK)
    findings = list[tuple[str, Finding]]()
    for done, (name, source, moments, errors, wrong) in enumerate(read, 1):
        findings += [(name, one) for one in wrong]
        if source is not None and source.no_spectra and not moments:
            without.append((name, source))
        elif source is None or not builder.add(name, source, moments, errors):
            failed.append(name)
        skipped.extend(str(error) for error in errors)
        last = errors[-1] if errors else last
        if progress is not None:
            progress(done, len(found))
    if not builder.runs and last is not None:
        if len(found) == 1:
            raise last
        raise RunDirectoryError(
            path, expected="at least one run that can be read", found=f"{len(found)} that cannot, the last: {last}"
        )
    if not builder.runs:
        raise UnsupportedAdapterError(f"{path}: {' '.join(_without_spectra(without))}")
    for message in skipped:
        warnings.warn(f"left out: {message}", SkippedWarning, stacklevel=2)
    notes = [*_without_spectra(without), *_notes(builder.runs), *_guesses(builder.runs), *builder.name_runs()]
    table = builder.table(factors=factors)
    table.attrs.update(skipped=skipped, failed=failed, notes=notes, findings=findings)
    return table


_CHUNK = 16


def _notes(runs: list[tuple[str, Source]]) -> list[str]:
    """The notes of all runs, each once, with the runs that it concerns if these are not all."""
    concerned: dict[str, list[str]] = {}
    for name, source in runs:
        for note in source.notes:
            concerned.setdefault(note, []).append(name)
    return [note if len(names) == len(runs) else f"{note} ({listed(names, 2)})" for note, names in concerned.items()]


def _without_spectra(runs: list[tuple[str, Source]]) -> list[str]:
    """A note for each method without spectra."""
    reasons = {title(source.method): source.no_spectra for _, source in runs}
    return [f"{method} has no spectra: {reason}." for method, reason in reasons.items()]


def _guesses(runs: list[tuple[str, Source]]) -> list[str]:
    """The note on guesses from names: all of them, so that each can be checked."""
    guessed = [f"{name} ({source.guessed})" for name, source in runs if source.guessed]
    return [f"Taken from the name{'s' if len(guessed) > 1 else ''}: {', '.join(guessed)}."] if guessed else []


class _Builder:
    """Collects components as numbers and arrays, and builds the columns at the end without a loop over rows."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, Source]] = []
        self.modules: dict[str, int] = {}
        self.keys: dict[str, tuple[int, int, int]] = {}
        self.first_keys: list[list[str]] = []  # of each run's first moment
        self.moments: list[tuple[int, float, int | None]] = []  # run, epoch, step
        self.components: list[tuple[int, int, int, int]] = []  # moment, scale, module, unit
        self.sigmas: list[NDArray[np.float64]] = []
        self.factors: list[tuple[_Sigma, _Sigma, float | None]] = []  # of B and A, and the scaling

    def add(self, name: str, source: Source, moments: list[Moment], errors: list[MSPLoraError]) -> bool:
        """Add one source. Return whether it has any spectra."""
        for module in source.modules:
            self._module(module)
        seen: set[tuple[float, int | None]] = set()
        for moment in sorted(moments, key=_when):
            epoch, step, spectra = moment[:3]
            of_B, of_A = moment.factor_B or {}, moment.factor_A or {}
            when = (-1.0, step) if epoch != epoch else (epoch, None)
            if when in seen:
                errors.append(RunDirectoryError(name, expected="each epoch once", found=f"epoch {epoch:g} twice"))
                continue
            seen.add(when)
            for key, sigma in spectra.items():
                self.components.append((len(self.moments), *self._numbers(key)))
                self.sigmas.append(sigma)
                self.factors.append((of_B.get(key), of_A.get(key), source.scalings.get(key)))
            self.moments.append((len(self.runs), epoch, step))
        if seen:
            self.runs.append((name, source))
            self.first_keys.append(list(moments[0].spectra))
        return bool(seen)

    def name_runs(self) -> list[str]:
        """Name unknown tasks and base models, and runs that are not replicates; return the notes on them."""
        sources, notes = name_runs(self.runs, self.first_keys)
        self.runs = [(name, source) for (name, _), source in zip(self.runs, sources, strict=True)]
        return notes

    def _numbers(self, key: str) -> tuple[int, int, int]:
        """Scale, module and unit of a key as numbers; the same keys occur in every epoch and run."""
        if key not in self.keys:
            parsed = ComponentKey.parse(key)
            self.keys[key] = ALL_SCALES.index(parsed.scale), self._module(parsed.module), parsed.unit
        return self.keys[key]

    def _module(self, name: str) -> int:
        return self.modules.setdefault(name, len(self.modules))

    def table(self, *, factors: bool) -> DataFrame:
        import pandas as pd

        numbers = np.array(self.components, dtype=np.int32).reshape(-1, 4)
        order = np.lexsort(numbers.T[::-1])  # runs and moments were added in order
        rank = np.array([len(sigma) for sigma in self.sigmas], dtype=np.int32)[order]
        moment, scale, module, unit = np.repeat(numbers[order], rank, axis=0).T
        runs, epochs, steps = zip(*self.moments, strict=True)
        run = np.array(runs)[moment]
        starts = np.repeat(np.cumsum(rank) - rank, rank)
        names, sources = zip(*self.runs, strict=True)
        seed = pd.array([source.seed for source in sources], dtype="Int64")

        stacks = [source.stacks.get(name, "") for source in sources for name in self.modules]

        def category(values: list[str], place: NDArray[np.integer[Any]] = run) -> pd.Categorical:
            codes, unique = pd.factorize(np.array(values, dtype=object))
            return pd.Categorical.from_codes(codes[place], pd.Index(unique, dtype="str"))

        table = pd.DataFrame(
            {
                "run": category(list(names)),
                "method": category([source.method for source in sources]),
                "model": category([source.model for source in sources]),
                "task": category([source.task for source in sources]),
                "seed": seed[run],
                "epoch": np.array(epochs, dtype=np.float64)[moment],
                "step": pd.array(steps, dtype="Int64")[moment],
                "scale": pd.Categorical.from_codes(scale, pd.Index(ALL_SCALES), ordered=True),
                "stack": category(stacks, run * len(self.modules) + module),
                "module": pd.Categorical.from_codes(module, pd.Index(list(self.modules))),
                "unit": unit,
                "rank": np.repeat(rank, rank),
                "k": (np.arange(len(run)) - starts + 1).astype(np.int32),
                "sigma": np.concatenate([self.sigmas[place] for place in order]),
            },
            columns=COLUMNS,
        )
        if factors:
            of_B, of_A, scalings = zip(*(self.factors[place] for place in order), strict=True)
            table["sigma_B"], table["sigma_A"] = _joined(of_B, rank), _joined(of_A, rank)
            table["scaling"] = np.repeat(np.array(scalings, dtype=np.float64), rank)
        return table


_Sigma = NDArray[np.float64] | None


def _joined(spectra: Sequence[_Sigma], ranks: NDArray[np.int32]) -> NDArray[np.float64]:
    """Concatenated spectra, with NaN for unknown ones."""
    unknown = np.full(ranks.max(), np.nan)
    return np.concatenate([unknown[:rank] if one is None else one for one, rank in zip(spectra, ranks, strict=True)])


def _when(moment: Moment) -> tuple[float, int]:
    """The sort key of a moment in its run."""
    return (0.0 if moment.epoch != moment.epoch else moment.epoch), moment.step or 0
