"""Linear algebra on factors: singular values, decompositions and truncation, never forming the product."""

from msplora_core.linalg.singular_values import low_rank_singular_values
from msplora_core.linalg.truncation import Truncated, low_rank_svd, truncate
from msplora_core.linalg.updates import LowRankUpdate

__all__ = ["LowRankUpdate", "Truncated", "low_rank_singular_values", "low_rank_svd", "truncate"]
