"""Intruder dimensions of a whole adapter, compared with two full SVDs of each weight, as PEFT computes them."""

from __future__ import annotations

import os
import shutil

import numpy as np

from benchmarks import made
from benchmarks.sizes import ROBERTA
from benchmarks.target import Line, Target
from benchmarks.timing import Bench


def intruders(bench: Bench) -> list[Line]:
    """RoBERTa-base, with an empty cache and with cached bases of its weights."""
    from safetensors.numpy import load_file, save_file

    from msplora_analysis import find_intruders

    adapter, base, cache = (
        made.adapter(bench.folder / "adapter", ROBERTA),
        bench.folder / "base",
        bench.folder / "cache",
    )
    random = np.random.default_rng(0)
    paths = {name.removeprefix("base_model.model.").partition(".lora_")[0]
             for name in load_file(adapter / "adapter_model.safetensors")}  # fmt: skip
    shape = ROBERTA.width, ROBERTA.width
    weights = {f"{path}.weight": random.standard_normal(shape).astype(np.float32) for path in sorted(paths)}
    base.mkdir()
    save_file(weights, base / "model.safetensors")
    os.environ["XDG_CACHE_HOME"] = str(cache)
    W = next(iter(weights.values()))

    def first() -> None:
        shutil.rmtree(cache, ignore_errors=True)
        find_intruders(adapter, base)

    def dense() -> None:
        for _ in range(2):
            np.linalg.svd(W, full_matrices=False)

    first()
    found = bench.medians({"kept": lambda: find_intruders(adapter, base), "dense": dense, "first": first}, rounds=5)
    peer = f"numpy: full SVDs of W₀ and W₀ + ΔW, float32 (1 weight × {ROBERTA.matrices})"
    dense_time = found["dense"] * ROBERTA.matrices
    work = "intruder dimensions with 3 draws of the null, RoBERTa-base size"
    return [
        Line(f"{work}, empty cache", "no intruders", found["first"], 0.0, Target("over", 15)),
        Line(f"{work}, bases kept", "no intruders", found["kept"], 0.0, Target("over", 3)),
        Line(f"{work}, bases kept", peer, found["kept"], dense_time, Target("faster", 3)),
    ]
