"""Several runs of one study: one run per core at the same time, or one after the other with all cores."""

from __future__ import annotations

from itertools import count

from benchmarks.target import Line, Target
from benchmarks.timing import Bench

_EXAMPLES = 400


def jobs(bench: Bench) -> list[Line]:
    """As many runs as cores, of MiniLM-L6 on the generated task `paraphrase`, MSPLoRA 8/4/2."""
    from msplora_core.study import LocalLauncher
    from msplora_core.study.local import cores
    from msplora_core.training import RunConfig

    number = count()

    def trained(at_a_time: int) -> None:
        out = bench.folder / str(next(number))
        size = 32 if bench.quick else _EXAMPLES
        configs = [
            RunConfig(task="paraphrase", seed=seed, epochs=1, max_train_examples=size, out=out)
            for seed in range(cores())
        ]
        LocalLauncher(at_a_time)(configs, lambda event: None)

    found = bench.medians({"ours": lambda: trained(cores()), "peer": lambda: trained(1)}, rounds=2, seconds=60.0)
    work = f"{cores()} runs of {_EXAMPLES} examples, MSPLoRA 8/4/2 on MiniLM-L6, at the same time with a thread each"
    peer = f"one at a time with {cores()} threads"
    return [Line(work, peer, found["ours"], found["peer"], Target("faster", 1.0))]
