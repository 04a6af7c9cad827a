"""From spectra to meaning: measures, comparisons, figures. Names are loaded when first used (PEP 562)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msplora_analysis.analysis import Analysis, analyse
    from msplora_analysis.comparison import Comparison, compare
    from msplora_analysis.kernels import (
        InfiniteDivergenceWarning,
        effective_rank_ratio,
        energy_rank,
        entropy_rank,
        kl_difference,
        pairwise_spectral_kl,
        participation_ratio,
        spectral_distribution,
        spectral_kl,
        stable_rank,
    )
    from msplora_analysis.layers import adjacent_kl, layer_divergences
    from msplora_analysis.measures import average_spectra, common_epochs, last_epochs, measure
    from msplora_analysis.plots import (
        draw_figures,
        plot_effective_rank,
        plot_kl_difference,
        plot_pairwise_kl,
        plot_svd_heatmaps,
    )
    from msplora_analysis.report import write_analysis
    from msplora_analysis.scores import load_scores
    from msplora_analysis.sources import AdapterOptions
    from msplora_analysis.summary import summarise
    from msplora_analysis.table import SkippedWarning, load_spectra

_HOME = {
    "AdapterOptions": "sources",
    "Analysis": "analysis",
    "Comparison": "comparison",
    "InfiniteDivergenceWarning": "kernels",
    "SkippedWarning": "table",
    "adjacent_kl": "layers",
    "analyse": "analysis",
    "average_spectra": "measures",
    "common_epochs": "measures",
    "compare": "comparison",
    "draw_figures": "plots",
    "effective_rank_ratio": "kernels",
    "energy_rank": "kernels",
    "entropy_rank": "kernels",
    "kl_difference": "kernels",
    "last_epochs": "measures",
    "layer_divergences": "layers",
    "load_scores": "scores",
    "load_spectra": "table",
    "measure": "measures",
    "pairwise_spectral_kl": "kernels",
    "participation_ratio": "kernels",
    "plot_effective_rank": "plots",
    "plot_kl_difference": "plots",
    "plot_pairwise_kl": "plots",
    "plot_svd_heatmaps": "plots",
    "spectral_distribution": "kernels",
    "spectral_kl": "kernels",
    "stable_rank": "kernels",
    "summarise": "summary",
    "write_analysis": "report",
}

__all__ = [
    "AdapterOptions",
    "Analysis",
    "Comparison",
    "InfiniteDivergenceWarning",
    "SkippedWarning",
    "adjacent_kl",
    "analyse",
    "average_spectra",
    "common_epochs",
    "compare",
    "draw_figures",
    "effective_rank_ratio",
    "energy_rank",
    "entropy_rank",
    "kl_difference",
    "last_epochs",
    "layer_divergences",
    "load_scores",
    "load_spectra",
    "measure",
    "pairwise_spectral_kl",
    "participation_ratio",
    "plot_effective_rank",
    "plot_kl_difference",
    "plot_pairwise_kl",
    "plot_svd_heatmaps",
    "spectral_distribution",
    "spectral_kl",
    "stable_rank",
    "summarise",
    "write_analysis",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
