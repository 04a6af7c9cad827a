"""Checks of an adapter or a run for defects. numpy only."""

from msplora_core.checkup.diagnosis import findings
from msplora_core.checkup.finding import Finding

__all__ = ["Finding", "findings"]
