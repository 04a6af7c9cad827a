"""Studies made up for the tests: run directories with spectra that are known."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from msplora_core.pyramid import SCALES, Pyramid
from msplora_core.runs import RunDirectory, RunRecord

Spectra = dict[str, np.ndarray]


def spectra_of(method: str, *, layers: int, modules: tuple[str, ...], epoch: int, seed: int) -> Spectra:
    """Random spectra that grow with the epoch; the global scale's fall slowly, the layers' own fast."""
    random = np.random.default_rng([seed, epoch, layers, *method.encode()])

    def spectrum(rank: int, fall: float) -> np.ndarray:
        return np.sort(epoch * np.exp(-fall * np.arange(rank)) * random.uniform(0.8, 1.2, rank))[::-1].copy()

    found: Spectra = {}
    name, *ranks = method.removesuffix("-random-labels").split("-")
    for module in modules:
        if name == "lora":
            for layer in range(layers):
                found[f"layer/{module}/{layer}"] = spectrum(int(ranks[0][1:]), 0.3)
                found[f"total/{module}/{layer}"] = found[f"layer/{module}/{layer}"]
            continue
        pyramid = Pyramid(layers, tuple(map(int, ranks)), 3)
        for scale, fall in zip(SCALES, (0.1, 0.3, 0.6), strict=True):
            for unit in range(pyramid.units(scale)):
                found[f"{scale}/{module}/{unit}"] = spectrum(pyramid.rank(scale), fall)
        for layer in range(layers):
            found[f"total/{module}/{layer}"] = spectrum(pyramid.rank("total"), 0.2)
    return found


def write_run(
    path: Path,
    method: str = "lora-r8",
    *,
    task: str = "mrpc",
    seed: int | None = 0,
    model: str = "minilm",
    layers: int = 6,
    modules: tuple[str, ...] = ("query", "value"),
    epochs: int = 3,
    spectra: Callable[[int], Spectra] | None = None,
) -> RunDirectory:
    run = RunDirectory(path)
    run.write_record(RunRecord(method=method, model=model, task=task, seed=seed, layers=layers, modules=list(modules),
                              finished="2026-01-01T00:00:00Z"))  # fmt: skip
    known = (seed or 0) + len(task)
    spectra = spectra or (lambda epoch: spectra_of(method, layers=layers, modules=modules, epoch=epoch, seed=known))
    for epoch in range(epochs + 1):
        run.write_epoch(epoch, step=10 * epoch, spectra=spectra(epoch))
    return run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunDirectory]:
    return lambda name="run", *words, **options: write_run(tmp_path / name, *words, **options)


@pytest.fixture(scope="session")
def _one_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("studies") / "study"
    for task in ("mrpc", "stsb"):
        for seed in (0, 1):
            for method in ("lora-r8", "msplora-8-4-2", "msplora-8-8-8"):
                write_run(path / task / method / f"seed-{seed}", method, task=task, seed=seed)
    return path


@pytest.fixture
def study(_one_study: Path, tmp_path: Path) -> Path:
    """Two tasks, two seeds, three methods; a copy to do with as a test likes."""
    return shutil.copytree(_one_study, tmp_path / "study")
