"""Many adapters in one folder."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.sizes import ROBERTA
from benchmarks.target import Line, Target
from benchmarks.timing import Bench

_MANY = 1000
_FEW = 250


def thousand_adapters(bench: Bench) -> list[Line]:
    """1,000 of RoBERTa-base size, into one table."""
    import joblib
    from joblib.externals.loky import get_reusable_executor

    from benchmarks.made import folder_of_adapters
    from msplora_analysis import load_spectra
    from msplora_analysis.loading.parallel import in_processes

    many, few = bench.folder / "many", bench.folder / "few"
    paths = sorted(folder_of_adapters(many, _MANY).iterdir())
    few.mkdir()
    for path in paths[:_FEW]:
        (few / path.name).mkdir()
        for file in path.iterdir():
            os.link(file, few / path.name / file.name)
    found = bench.medians(
        {
            "ours": lambda: load_spectra(many, n_jobs=-1),
            "one process": lambda: load_spectra(many),
            "few": lambda: load_spectra(few, n_jobs=-1),
            "bare": lambda: [_spectra(path) for path in paths],
            "bare, all cores": lambda: _on_all_cores(paths),
            "forked": lambda: list(in_processes(_spectra, paths, -1, chunk=8)),
            "joblib": lambda: joblib.Parallel(n_jobs=-1)(joblib.delayed(_spectra)(path) for path in paths),
        },
        rounds=5,
        seconds=30.0,
    )
    get_reusable_executor().shutdown()  # else the program ends when its processes do, minutes later
    work = f"{_MANY:,} adapters of RoBERTa-base size, one table"
    bare = "the files read by safetensors and the same batched kernel"
    few_work = f"{_FEW} of them, × {_MANY // _FEW}: linear in their number"
    pays = Target("faster", 1.2)
    return [
        Line(work, f"{bare}, one after another", found["ours"], found["bare"], Target("at most", 1.25)),
        Line(work, f"{bare}, on all cores", found["ours"], found["bare, all cores"], Target("at most", 1.25)),
        Line(work, few_work, found["ours"], found["few"] * _MANY / _FEW, Target("at most", 1.1)),
        Line(f"{work}, a process a core", "n_jobs=1", found["ours"], found["one process"], pays),
        Line(f"{_MANY:,} files read in forked processes", "joblib.Parallel", found["forked"], found["joblib"], pays),
    ]


def _on_all_cores(paths: list[Path]) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_spectra, paths))


def _spectra(path: Path) -> object:
    """Read a file and compute its spectra, nothing else."""
    import numpy as np
    from safetensors.numpy import load_file

    from msplora_core.linalg.singular_values import low_rank_singular_values

    tensors = load_file(path / "adapter_model.safetensors")
    B = np.stack([tensor for name, tensor in tensors.items() if ".lora_B." in name])
    A = np.stack([tensor for name, tensor in tensors.items() if ".lora_A." in name])
    assert len(B) == len(A) == ROBERTA.matrices
    return low_rank_singular_values(B, A, 2.0)
