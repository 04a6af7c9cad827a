"""Inner products of all layers' updates from their factors, compared with dense products; the command `overlap`."""

from __future__ import annotations

from benchmarks import made
from benchmarks.commands import command, python
from benchmarks.processes import apart, costs
from benchmarks.sizes import LLAMA
from benchmarks.target import Line, Target
from benchmarks.timing import Bench


def pairs(bench: Bench) -> list[Line]:
    """All pairs of one module type of LLaMA2-7B."""
    import numpy as np

    from msplora_core.linalg import LowRankUpdate, update_inner_products

    size = LLAMA._replace(matrices=LLAMA.matrices // 2)
    B, A = made.factors(size)
    updates = [LowRankUpdate(b, a) for b, a in zip(B, A, strict=True)]
    B64, A64 = B[:2].astype(np.float64), A[:2].astype(np.float64)
    found = bench.medians(
        {
            "ours": lambda: update_inner_products(updates),
            "dense": lambda: np.vdot(B64[0] @ A64[0], B64[1] @ A64[1]),
        },
        rounds=5,
    )
    count = size.matrices * (size.matrices + 1) // 2
    work = f"inner products of {size.matrices} layers, LLaMA2-7B size, float32"
    dense = f"numpy: both products formed, float64 (1 pair × {count})"
    return [
        Line(work, "nothing", found["ours"], 0.0, Target("over", 1.0)),
        Line(work, dense, found["ours"], found["dense"] * count, Target("faster", 30)),
    ]


def process(bench: Bench) -> list[Line]:
    """The overlap of a LLaMA2-7B adapter's layers, from disk."""
    path = apart("made:adapter", bench.folder / "adapter", LLAMA, "float32")
    ours = command("overlap", str(path), "--json", "--no-figures", "--out", str(bench.folder / "out"))
    found = costs(bench, {"peer": python("import numpy, pandas"), "ours": ours})
    work = "process: overlap --json --no-figures, LLaMA2-7B adapter, float32"
    return [Line(work, "import numpy, pandas", found["ours"].seconds, found["peer"].seconds, Target("over", 2.0))]
