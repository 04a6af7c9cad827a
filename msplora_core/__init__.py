"""Adapters and training: what produces a run directory. Names are loaded when first used (PEP 562)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msplora_core.adapter import MSPLoraConfig, convert_to_lora
    from msplora_core.errors import MSPLoraError
    from msplora_core.pyramid import Pyramid, geometric_ranks
    from msplora_core.snapshots import RunDirectory
    from msplora_core.spectra import low_rank_singular_values
    from msplora_core.training import RunConfig, SpectralSnapshotCallback, train_run

_HOME = {
    "MSPLoraConfig": "adapter",
    "MSPLoraError": "errors",
    "Pyramid": "pyramid",
    "RunConfig": "training",
    "RunDirectory": "snapshots",
    "SpectralSnapshotCallback": "training",
    "convert_to_lora": "adapter",
    "geometric_ranks": "pyramid",
    "low_rank_singular_values": "spectra",
    "train_run": "training",
}

__all__ = [
    "MSPLoraConfig",
    "MSPLoraError",
    "Pyramid",
    "RunConfig",
    "RunDirectory",
    "SpectralSnapshotCallback",
    "convert_to_lora",
    "geometric_ranks",
    "low_rank_singular_values",
    "train_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        from msplora_core.errors import training_needs

        raise training_needs(error, f"{__name__}.{name}") from error


def __dir__() -> list[str]:
    return __all__
