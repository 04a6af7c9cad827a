"""The formulas, as functions of arrays along the last axis; without runs and files."""

from msplora_analysis.kernels.concentration import (
    effective_rank_ratio,
    energy_rank,
    entropy_rank,
    participation_ratio,
    stable_rank,
)
from msplora_analysis.kernels.direction_nulls import (
    common_subspace_null,
    cosine_bound,
    sharing_null,
    subspace_null,
)
from msplora_analysis.kernels.distribution import spectral_distribution
from msplora_analysis.kernels.divergence import (
    InfiniteDivergenceWarning,
    kl_difference,
    pairwise_spectral_kl,
    spectral_kl,
)
from msplora_analysis.kernels.intruders import leading_directions, left_basis
from msplora_analysis.kernels.nulls import gaussian_null, mismatch_null, null_place, rotation_null
from msplora_analysis.kernels.overlaps import DirectionOverlaps, direction_overlaps
from msplora_analysis.kernels.similarity import (
    CommonSubspace,
    common_subspace,
    principal_angles,
    sharing_shares,
    subspace_similarity,
    update_cosines,
)
from msplora_core.linalg.inner_products import update_inner_products

__all__ = [
    "CommonSubspace",
    "DirectionOverlaps",
    "InfiniteDivergenceWarning",
    "common_subspace",
    "common_subspace_null",
    "cosine_bound",
    "direction_overlaps",
    "effective_rank_ratio",
    "energy_rank",
    "entropy_rank",
    "gaussian_null",
    "kl_difference",
    "leading_directions",
    "left_basis",
    "mismatch_null",
    "null_place",
    "pairwise_spectral_kl",
    "participation_ratio",
    "principal_angles",
    "rotation_null",
    "sharing_null",
    "sharing_shares",
    "spectral_distribution",
    "spectral_kl",
    "stable_rank",
    "subspace_null",
    "subspace_similarity",
    "update_cosines",
    "update_inner_products",
]
