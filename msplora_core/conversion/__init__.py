"""Conversion of adapters to plain LoRA, to a lower rank or to MSPLoRA, on disk and on a live model."""

from msplora_core.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
