"""The formulas: arrays in, arrays out, along the last axis. numpy only; nothing here knows of runs or files."""

from msplora_analysis.kernels.concentration import (
    effective_rank_ratio,
    energy_rank,
    entropy_rank,
    participation_ratio,
    stable_rank,
)
from msplora_analysis.kernels.distribution import spectral_distribution
from msplora_analysis.kernels.divergence import (
    InfiniteDivergenceWarning,
    kl_difference,
    pairwise_spectral_kl,
    spectral_kl,
)
from msplora_analysis.kernels.nulls import gaussian_null, mismatch_null, null_place, rotation_null

__all__ = [
    "InfiniteDivergenceWarning",
    "effective_rank_ratio",
    "energy_rank",
    "entropy_rank",
    "gaussian_null",
    "kl_difference",
    "mismatch_null",
    "null_place",
    "pairwise_spectral_kl",
    "participation_ratio",
    "rotation_null",
    "spectral_distribution",
    "spectral_kl",
    "stable_rank",
]
