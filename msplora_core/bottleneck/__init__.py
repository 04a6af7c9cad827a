"""Bottleneck adapters as a PEFT method. Importing this package registers it with PEFT."""

from msplora_core.adapter.registration import register
from msplora_core.bottleneck.bottleneck_config import NAME, BottleneckConfig
from msplora_core.bottleneck.bottleneck_model import BottleneckModel

register(NAME, BottleneckConfig, BottleneckModel)

__all__ = ["BottleneckConfig", "BottleneckModel"]
