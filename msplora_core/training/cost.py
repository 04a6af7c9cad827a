"""Measured cost of a training: parameters, time, memory."""

from __future__ import annotations

import re
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
        self.parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # on Linux, reset the peak of memory
        self.started = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Return trained parameters (with the head), seconds, CPU seconds, and the peak of memory in bytes.

        The memory is that of the process or, with CUDA, of its tensors.
        """
        import torch

        wall, cpu = self.started
        return {
            "trained_parameters": self.parameters,
            "seconds": round(time.perf_counter() - wall, 3),
            "cpu_seconds": round(time.process_time() - cpu, 3),
            "peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _peak_of_process(),
        }


def _peak_of_process() -> int:
    with suppress(OSError):
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) * 1024
    from resource import RUSAGE_SELF, getrusage

    return getrusage(RUSAGE_SELF).ru_maxrss * 1024
