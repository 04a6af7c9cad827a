"""Mutations of run directories: read as far as they are whole, analysed and drawn, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from msplora_core.runs import RunDirectory, RunRecord, Snapshot

Files = dict[str, bytes]


def spectra(method: str, epoch: int) -> dict[str, np.ndarray]:
    """Three layers of two modules; zero before the first step."""
    random = np.random.default_rng([epoch, *method.encode()])
    units = {"layer": range(3)} if method.startswith("lora") else {"global": [0], "mid": [0, 1], "layer": range(3),
                                                                  "total": range(3)}  # fmt: skip
    rank = {"global": 4, "mid": 3, "layer": 2, "total": 9} if len(units) > 1 else {"layer": 4}
    return {
        f"{scale}/{module}/{unit}": epoch * np.sort(random.random(rank[scale]))[::-1]
        for scale in units
        for module in ("q", "v")
        for unit in units[scale]
    }


def run(path: Path, method: str, task: str = "mrpc", seed: int | None = 0) -> None:
    """A run of three epochs as training leaves it."""
    directory = RunDirectory(path)
    components = [
        {"key": key, "rank": len(sigma), "shape": [8, 8], "stack": "layers 8x8", "layers": [0]}
        for key, sigma in spectra(method, 0).items()
    ]
    directory.write_record(
        RunRecord(method, "tiny", task, seed, 3, ["q", "v"], components, {"r": 4}, {"epochs": 2}, metric="accuracy",
                  constant_score=0.5, started="2026-01-01T00:00:00Z", finished="2026-01-01T00:01:00Z")
    )  # fmt: skip
    for epoch in range(3):
        found = spectra(method, epoch)
        inner = {module: epoch * np.eye(3) for module in ("q", "v")}
        directory.write_snapshot(Snapshot(epoch, 10 * epoch, found, found, found, inner))
        directory.append_metrics({"epoch": float(epoch), "step": 10 * epoch, "loss": 1.0 / (epoch + 1)})
        directory.append_metrics({"epoch": float(epoch), "step": 10 * epoch, "eval_accuracy": 0.5 + 0.1 * epoch})


def as_version_1(content: bytes) -> bytes:
    """A snapshot as the first version wrote it: singular values alone."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    kept = {key: values for key, values in load(content).items() if key.split("/")[0] not in ("inner", *FACTORS)}
    return save(kept, {**header, "version": "1"})


FACTORS = ("factor_A", "factor_B")


def files(folder: Path) -> Files:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def one(folder: Path) -> Files:
    run(folder, "msplora-4-3-2")
    return files(folder)


def older(folder: Path) -> Files:
    run(folder, "msplora-4-3-2")
    return {name: as_version_1(content) if "snapshots" in name else content for name, content in files(folder).items()}


def study(folder: Path) -> Files:
    for method in ("lora-r4", "msplora-4-3-2"):
        for seed in range(2):
            run(folder / method / f"seed-{seed}", method, seed=seed)
    return files(folder)


SEEDS: dict[str, Callable[[Path], Files]] = {"run": one, "run of version 1": older, "study": study}


@pytest.mark.parametrize("name", SEEDS)
def test_mutations_of_runs_are_read_or_refused(name: str, tmp_path: Path, fuzz: Any) -> None:
    folder, refused = tmp_path / "mutated", 0
    for number, mutated in fuzz.mutations(SEEDS[name](tmp_path / "seed"), fuzz.count // 60 + 1):
        fuzz.write(folder, mutated)
        analysed, drawn = number % 10 == 0, number % 100 == 0
        look = partial(fuzz.look, folder, analysed=analysed, drawn=drawn)
        message = fuzz.check(number, mutated, look, memory=not analysed)
        if message:
            refused += 1
            assert number, f"{name} itself is refused: {message}"
    assert refused
