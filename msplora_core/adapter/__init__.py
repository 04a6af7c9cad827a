"""MSPLoRA as a PEFT method. Importing this package registers it with PEFT."""

from msplora_core.adapter.config import MSPLoraConfig
from msplora_core.adapter.extraction import read_components
from msplora_core.adapter.model import MSPLoraModel
from msplora_core.adapter.registration import NAME, register
from msplora_core.adapter.trainable_scales import set_trainable_scales

register(NAME, MSPLoraConfig, MSPLoraModel)

__all__ = ["MSPLoraConfig", "MSPLoraModel", "read_components", "set_trainable_scales"]
