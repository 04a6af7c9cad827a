"""Read adapters of any tool from disk."""

from msplora_core.formats.adapter_file import Adapter, ModuleSummary
from msplora_core.formats.checkpoints import AdapterRun, find_runs, recognise_run, recognise_saved
from msplora_core.formats.hub import local_path
from msplora_core.formats.recognising import read_adapter

__all__ = [
    "Adapter",
    "AdapterRun",
    "ModuleSummary",
    "find_runs",
    "local_path",
    "read_adapter",
    "recognise_run",
    "recognise_saved",
]
