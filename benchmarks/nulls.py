"""Rotation nulls of a whole adapter, 200 draws for each component, compared with dense SVDs."""

from __future__ import annotations

from benchmarks import made
from benchmarks.sizes import LLAMA, ROBERTA, Size
from benchmarks.target import Line, Target
from benchmarks.timing import Bench

_DRAWS = 200


def rotation(bench: Bench) -> list[Line]:
    """LLaMA2-7B and RoBERTa-base."""
    import numpy as np

    from msplora_analysis import rotation_null

    def null(size: Size) -> object:
        random = np.random.default_rng(0)
        sigma = random.gamma(1.0, size=(2, size.matrices, size.rank))
        return rotation_null(sigma[0], sigma[1], _DRAWS)

    B, A = (factor[0].astype(np.float64) for factor in made.factors(ROBERTA))
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((ROBERTA.rank, ROBERTA.rank))).Q
    found = bench.medians(
        {
            "llama": lambda: null(LLAMA),
            "roberta": lambda: null(ROBERTA),
            "dense": lambda: np.linalg.svd(B @ Q @ A, compute_uv=False),
        },
        rounds=5,
    )
    count = ROBERTA.matrices * _DRAWS
    work = f"{_DRAWS} rotation nulls of each component, "
    dense = f"numpy: dense SVD of B·Q·A, float64 (1 draw × {count:,})"
    return [
        Line(f"{work}LLaMA2-7B size", "no nulls", found["llama"], 0.0, Target("over", 10)),
        Line(f"{work}RoBERTa-base size", "no nulls", found["roberta"], 0.0, Target("over", 0.3)),
        Line(f"{work}RoBERTa-base size", dense, found["roberta"], found["dense"] * count, Target("faster", 2000)),
    ]
