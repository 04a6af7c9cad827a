"""A check-up: what is wrong with an adapter or a run, worst first. numpy alone."""

from msplora_core.checkup.diagnosis import findings
from msplora_core.checkup.finding import Finding

__all__ = ["Finding", "findings"]
