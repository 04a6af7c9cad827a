"""Training: tasks, the configuration of a run, the run itself, and the callback that records it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msplora_core.training.config import PRESETS, RunConfig
    from msplora_core.training.data import Examples, TaskData
    from msplora_core.training.recording import SpectralSnapshotCallback, method_name
    from msplora_core.training.run import train_run
    from msplora_core.training.tasks import TASKS

_HOME = {
    "Examples": "data",
    "PRESETS": "config",
    "RunConfig": "config",
    "SpectralSnapshotCallback": "recording",
    "TASKS": "tasks",
    "TaskData": "data",
    "method_name": "recording",
    "train_run": "run",
}

__all__ = [
    "PRESETS",
    "TASKS",
    "Examples",
    "RunConfig",
    "SpectralSnapshotCallback",
    "TaskData",
    "method_name",
    "train_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
