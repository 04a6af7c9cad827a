"""Linear algebra on factors, without forming their product: singular values, inner products, truncation."""

from msplora_core.linalg.inner_products import update_inner_products
from msplora_core.linalg.nested import nested_singular_values
from msplora_core.linalg.singular_values import low_rank_singular_values
from msplora_core.linalg.truncation import Truncated, low_rank_svd, truncate
from msplora_core.linalg.updates import LowRankUpdate

__all__ = [
    "LowRankUpdate",
    "Truncated",
    "low_rank_singular_values",
    "low_rank_svd",
    "nested_singular_values",
    "truncate",
    "update_inner_products",
]
