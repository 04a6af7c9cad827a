"""The pictures of an analysis and their names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msplora_analysis.plots.paper import figure_of, offscreen
from msplora_analysis.report.layer_pictures import By, by_task_or_module, comparisons, divergences, interference
from msplora_analysis.report.pictured_study import PicturedStudy
from msplora_analysis.report.spectra_pictures import (
    measures_by_run,
    measures_over_training,
    spectra_by_layer,
    spectra_over_training,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from msplora_analysis.analysis import Analysis

_PICTURES = (
    spectra_over_training,
    spectra_by_layer,
    measures_by_run,
    measures_over_training,
    divergences,
    comparisons,
    interference,
)


def draw_figures(analysis: Analysis, *, by: By | None = None, log: bool | None = None) -> Iterator[tuple[str, Figure]]:
    """Draw all pictures of an analysis, one at a time, for `write_analysis` to save; pyplot is not used.

    Args:
        analysis: from `analyse`.
        by: also draw Fig. 3 and the KL of each method with a panel for each `task` or `module`.
        log: use a logarithmic colour scale for singular values, which makes small values distinguishable, and show all
            values instead of the 8 largest. None: only if most cells would be dark.

    Yields:
        The name without ending, as listed in `write_analysis`, and the figure.
    """
    models = [str(model) for model in analysis.spectra["model"].unique()]
    with offscreen():
        for model in models:
            study = PicturedStudy(analysis, model, log)
            for draw in _PICTURES:
                for name, ax in draw(study):
                    yield file_name(*_placed(name, model, models)), figure_of(ax)
            for name, ax in by_task_or_module(study, by) if by else ():
                yield file_name(*_placed(name, model, models)), figure_of(ax)


def _placed(name: str, model: str, models: Sequence[str]) -> tuple[str, ...]:
    """Return the parts of a file name: the kind, the model if there are several, the rest."""
    kind, _, rest = name.partition("-") if not name.startswith("m-eff") else ("m-eff", "", name[6:])
    return (kind, model if len(models) > 1 else "", rest)


def file_name(*words: str) -> str:
    """Return words as a file name that is valid on every system.

    Example:
        >>> file_name("fig3", "org/model name", "lora-r8")
        'fig3-org_model_name-lora-r8'
    """
    return "-".join(re.sub(r"[^\w.-]+", "_", word) for word in words if word)
