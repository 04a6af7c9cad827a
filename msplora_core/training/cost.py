"""What a training takes: parameters, time, memory."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any


class CostMeter:
    """Measures from its making on.

    Args:
        model: the one that trains.
    """

    def __init__(self, model: Any) -> None:
        self.parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # of Linux: the peak begins anew
        self.started = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Return the trained parameters, the head's included, seconds, seconds of CPU, and bytes of memory at the peak.

        The memory is that of the process, or where CUDA is used that of its tensors.
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
