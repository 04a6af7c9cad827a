"""Measured cost of a training: parameters, time, memory."""

from __future__ import annotations

import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any


class CostMeter:
    """Measures the cost of a training from its own creation on.

    Args:
        model: the model in training.
    """

    def __init__(self, model: Any) -> None:
        import torch

        self.parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # on Linux, reset the peak of memory
        self.started = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Return trained parameters (with the head), seconds, CPU seconds, and the peak of memory in bytes.

        The memory is that of the process or, with CUDA, of its tensors. Without /proc, the peak is that of the whole
        life of the process, and Windows has none.
        """
        import torch

        wall, cpu = self.started
        cost = {
            "trained_parameters": self.parameters,
            "seconds": round(time.perf_counter() - wall, 3),
            "cpu_seconds": round(time.process_time() - cpu, 3),
        }
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _peak_of_process()
        return cost if peak is None else {**cost, "peak_bytes": peak}


def _peak_of_process() -> int | None:
    with suppress(OSError):
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) * 1024
    try:
        from resource import RUSAGE_SELF, getrusage
    except ModuleNotFoundError:
        return None
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
