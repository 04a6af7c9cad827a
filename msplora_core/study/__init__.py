"""Studies: a file that says which runs there are, what trains them, and the ledger of what is done."""

from msplora_core.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
