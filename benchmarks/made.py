"""The data for the measurements: factors, adapters on disk and a study, all generated from a seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.sizes import ROBERTA, Size


def factors(size: Size, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return B (count, width, rank) and A (count, rank, width) with columns of various norms, as after training."""
    random = np.random.default_rng(seed)
    B = random.standard_normal((size.matrices, size.width, size.rank), dtype=np.float32)
    A = random.standard_normal((size.matrices, size.rank, size.width), dtype=np.float32)
    return B * np.geomspace(1, 0.05, size.rank, dtype=np.float32), A / np.float32(np.sqrt(size.width))


def ill_conditioned(size: Size) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the same in float64, with columns mixed so that the singular values span twelve orders of magnitude."""
    B, A = (factor.astype(np.float64) for factor in factors(size))
    random = np.random.default_rng(1)
    mix = np.geomspace(1, 1e-12, size.rank)[:, None] * np.linalg.qr(random.standard_normal((size.rank, size.rank))).Q
    return B @ mix, mix.T @ A


def adapter(folder: Path, size: Size, dtype: str = "float32", seed: int = 0) -> Path:
    """Write a PEFT LoRA adapter of query and value, in float32 or bfloat16, to a new folder."""
    import ml_dtypes
    from safetensors.numpy import save_file

    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32)
    B, A = (factor.astype(kind) for factor in factors(size, seed))
    layers, (query, value) = size.matrices // 2, ("query", "value") if size.width < 4096 else ("q_proj", "v_proj")
    paths = [f"base_model.model.model.layers.{i}.self_attn.{name}" for i in range(layers) for name in (query, value)]
    tensors = {
        f"{path}.lora_{part}.weight": factor
        for path, b, a in zip(paths, B, A, strict=True)
        for part, factor in (("A", a), ("B", b))
    }
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": size.rank, "lora_alpha": 16, "target_modules": [query, value]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def folder_of_adapters(folder: Path, count: int) -> Path:
    """Write `count` RoBERTa-base adapters."""
    for number in range(count):
        adapter(folder / f"adapter-{number:04d}", ROBERTA, seed=number)
    return folder


def study(folder: Path, tasks: int = 3, epochs: int = 30) -> Path:
    """Write runs of LoRA and MSPLoRA on RoBERTa-base: both methods on each task, with spectra that grow from zero."""
    from msplora_core.pyramid import SCALES, Pyramid
    from msplora_core.runs import RunDirectory, RunRecord

    random = np.random.default_rng(0)
    layers, pyramid = range(12), Pyramid(12, (8, 4, 2), 3)
    shared = {(scale, unit): pyramid.rank(scale) for scale in SCALES for unit in range(pyramid.units(scale))}
    ranks = {
        "lora-r8": {(scale, layer): 8 for scale in ("layer", "total") for layer in layers},
        "msplora-8-4-2": {**shared, **{("total", layer): 14 for layer in layers}},
    }
    for task in ("mrpc", "stsb", "cola", "rte", "sst2", "qnli")[:tasks]:
        for method, components in ranks.items():
            run = RunDirectory(folder / f"{task}-{method}-seed0")
            run.write_record(RunRecord(method, "roberta-base", task, 0, layers=12, modules=["query", "value"]))
            for epoch in range(epochs + 1):
                spectra = {
                    f"{scale}/{module}/{unit}": epoch / 10 * np.sort(random.random(rank))[::-1]
                    for (scale, unit), rank in components.items()
                    for module in ("query", "value")
                }
                run.write_epoch(epoch, step=epoch * 100, spectra=spectra)
    return folder
