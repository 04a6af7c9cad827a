"""The run directory on disk: written while training, read by the analysis. numpy and safetensors only."""

from msplora_core.runs.directory import RunDirectory
from msplora_core.runs.record import RunRecord
from msplora_core.runs.snapshot import Snapshot, read_snapshot, write_snapshot

__all__ = ["RunDirectory", "RunRecord", "Snapshot", "read_snapshot", "write_snapshot"]
