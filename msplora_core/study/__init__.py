"""Studies: the study file, its runs, and their execution."""

from msplora_core.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
