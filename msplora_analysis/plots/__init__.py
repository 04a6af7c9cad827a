"""Figures of computed data: data and `ax=None` in, the axes out. Functions do not compute, save or show."""

from msplora_analysis.plots.cosine_courses import plot_interference
from msplora_analysis.plots.effective_rank import plot_effective_rank
from msplora_analysis.plots.energy_shares import plot_energy_shares
from msplora_analysis.plots.intruder_cosines import plot_intruders
from msplora_analysis.plots.kl_difference import plot_kl_difference
from msplora_analysis.plots.layer_cosines import plot_layer_cosines
from msplora_analysis.plots.layer_spectra import plot_layer_spectra
from msplora_analysis.plots.measures_by_run import plot_measures
from msplora_analysis.plots.paired_differences import plot_comparison, plot_paired_differences
from msplora_analysis.plots.pairwise_kl import plot_pairwise_kl
from msplora_analysis.plots.planned_ranks import plot_plan
from msplora_analysis.plots.sharing_course import plot_sharing_course
from msplora_analysis.plots.subspace_grid import plot_subspace_similarity
from msplora_analysis.plots.svd_heatmaps import plot_svd_heatmaps

__all__ = [
    "plot_comparison",
    "plot_effective_rank",
    "plot_energy_shares",
    "plot_interference",
    "plot_intruders",
    "plot_kl_difference",
    "plot_layer_cosines",
    "plot_layer_spectra",
    "plot_measures",
    "plot_paired_differences",
    "plot_pairwise_kl",
    "plot_plan",
    "plot_sharing_course",
    "plot_subspace_similarity",
    "plot_svd_heatmaps",
]
