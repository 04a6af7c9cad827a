"""Singular values of low-rank updates in memory, compared with a lower bound, dense SVD, PEFT and WeightWatcher."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

from benchmarks import made
from benchmarks.peers import missing
from benchmarks.sizes import LLAMA, ROBERTA, Size
from benchmarks.target import Line, Target
from benchmarks.timing import Bench

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DENSE = {LLAMA: 2000, ROBERTA: 1500}
_WEIGHTWATCHER = {LLAMA: 400, ROBERTA: 200}


def llama(bench: Bench) -> list[Line]:
    """LLaMA2-7B, float32 and bfloat16."""
    return _sizes(bench, "LLaMA2-7B size", LLAMA)


def roberta(bench: Bench) -> list[Line]:
    """RoBERTa-base, float32 and bfloat16."""
    return _sizes(bench, "RoBERTa-base size", ROBERTA)


def ill_conditioned(bench: Bench) -> list[Line]:
    """LLaMA2-7B, factors whose singular values span twelve orders of magnitude."""
    from msplora_core.linalg.singular_values import low_rank_singular_values

    B, A = made.ill_conditioned(LLAMA)
    found = bench.medians({"ours": lambda: low_rank_singular_values(B, A), "floor": lambda: _gram_products(B, A)})
    work = "singular values, LLaMA2-7B size, ill-conditioned"
    return [Line(work, "two Gram products, float64", found["ours"], found["floor"], Target("at most", 12))]


def _sizes(bench: Bench, name: str, size: Size) -> list[Line]:
    import ml_dtypes
    import numpy as np

    from msplora_core.linalg.singular_values import low_rank_singular_values

    B, A = made.factors(size)
    B16, A16 = B.astype(ml_dtypes.bfloat16), A.astype(ml_dtypes.bfloat16)
    B64, A64 = B.astype(np.float64), A.astype(np.float64)
    ours = {
        "float32": lambda: low_rank_singular_values(B, A),
        "bfloat16": lambda: low_rank_singular_values(B16, A16),
        "floor": lambda: _gram_products(B64, A64),
    }
    found = bench.medians(ours)
    peers = {
        "numpy: dense SVD of B·A, float64": lambda: np.linalg.svd(B64[0] @ A64[0], compute_uv=False),
        "PEFT: get_delta_weight, torch SVD": _peft_svd(size, B[0], A[0]),
    }
    absent = missing("weightwatcher")
    if not absent:
        import weightwatcher  # noqa: F401 # not while it is timed

        peers["WeightWatcher on B·A"] = _weightwatcher_dense(size, B[0], A[0])
        peers["WeightWatcher, peft=True"] = _weightwatcher_peft(size, B[0], A[0])
    theirs = bench.medians(peers, rounds=5, seconds=8.0)
    lines = []
    for dtype in ("float32", "bfloat16"):
        work = f"singular values, {name}, {dtype}"
        if size == LLAMA:
            lines.append(Line(work, "two Gram products, float64", found[dtype], found["floor"], Target("at most", 3)))
        for peer, seconds in theirs.items():
            limit = (_WEIGHTWATCHER if peer.startswith("WeightWatcher") else _DENSE)[size]
            shown = f"{peer} (1 matrix × {size.matrices})"
            lines.append(Line(work, shown, found[dtype], seconds * size.matrices, Target("faster", limit)))
        if absent:
            target = Target("faster", _WEIGHTWATCHER[size])
            lines.append(Line(work, "WeightWatcher", found[dtype], None, target, absent))
    return lines


def _gram_products(B: NDArray[Any], A: NDArray[Any]) -> None:
    """The lower bound for any exact method: both Gram matrices of each update."""
    for b, a in zip(B, A, strict=True):
        b.T @ b
        a @ a.T


def _peft_model(size: Size, B: NDArray[Any], A: NDArray[Any]) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model
    from torch import nn

    model = get_peft_model(
        nn.Sequential(nn.Linear(size.width, size.width, bias=False)),
        LoraConfig(r=size.rank, lora_alpha=size.rank, target_modules=["0"]),
    )
    layer = model.base_model.model[0]
    with torch.no_grad():
        layer.lora_A["default"].weight.copy_(torch.from_numpy(A))
        layer.lora_B["default"].weight.copy_(torch.from_numpy(B))
    return model


def _peft_svd(size: Size, B: NDArray[Any], A: NDArray[Any]) -> Callable[[], object]:
    import torch

    layer = _peft_model(size, B, A).base_model.model[0]

    @torch.no_grad()
    def run() -> object:
        return torch.linalg.svdvals(layer.get_delta_weight("default"))

    return run


def _weightwatcher_dense(size: Size, B: NDArray[Any], A: NDArray[Any]) -> Callable[[], object]:
    """WeightWatcher on a model whose one weight is the formed product."""
    import torch
    from torch import nn

    layer = nn.Linear(size.width, size.width, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(B @ A))
    model = nn.Sequential(layer)
    return lambda: _analyze(model)


def _weightwatcher_peft(size: Size, B: NDArray[Any], A: NDArray[Any]) -> Callable[[], object]:
    """WeightWatcher's experimental support for LoRA: it forms the product and takes a truncated SVD."""
    model = _peft_model(size, B, A)
    return lambda: _analyze(model, peft=True)


def _analyze(model: Any, **options: Any) -> object:
    import weightwatcher

    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        return weightwatcher.WeightWatcher(model=model, log_level=logging.CRITICAL).analyze(**options)
