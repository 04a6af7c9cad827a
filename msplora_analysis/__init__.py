"""Measures, comparisons and figures of spectra. Names are loaded when first used (PEP 562)."""

from msplora_core.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
