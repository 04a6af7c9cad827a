"""Training: tasks, the configuration of a run, the run itself, and the callback that records it."""

from msplora_core.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
