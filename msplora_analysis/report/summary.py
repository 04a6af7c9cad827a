"""An analysis as plain values: what `summary.json` holds and `--json` prints."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from msplora_analysis.comparison.difference import Comparison
from msplora_analysis.comparison.layers import LayerDivergence, adjacent_kl
from msplora_analysis.loading.scores import last_scores

if TYPE_CHECKING:
    from pandas import DataFrame

    from msplora_analysis.analysis import Analysis

FORMAT = "msplora-analysis"
VERSION = 1
READING = {
    "m_eff_k": "share of the k largest singular values (Eq. 8); high means concentrated, simple; null where the rank "
    "is at most k, for it is 1 by definition, and for zero spectra",
    "entropy_rank": "ranks (Roy and Vetterli 2007); high means broad, complex",
    "kl": "nats (Eq. 9); row i, column j holds D(layer i || layer j); adjacent: mean of both directions",
    "difference": "method minus baseline; positive where the method's layers are further apart",
}
AVERAGING = {
    "spectra": "singular values averaged over modules, units, tasks and seeds, then measured",
    "measures": "each component measured, then averaged over modules, units, tasks and seeds",
}
COMPARING = "per layer, singular values averaged over modules, tasks and seeds, then compared"


def summarise(analysis: Analysis) -> dict[str, Any]:
    """The numbers of an analysis as strict JSON has them: null for what is not finite or not informative.

    Args:
        analysis: what `analyse` found.

    Returns:
        format, version, path, reading (what the numbers mean), averaging, runs, measures (by method and
        scale), layers (KL between the layers of each method), comparisons (with the baseline, for `layer`
        and `total`; whole matrices, and a row for each pair of runs), scores (task metrics), claims, notes,
        skipped, failed.
    """
    found: dict[str, Any] = _plain(
        {
            "format": FORMAT,
            "version": VERSION,
            "path": str(analysis.path),
            "reading": READING,
            "averaging": {"measures": AVERAGING[analysis.average], "comparisons": COMPARING},
            "runs": _runs(analysis.table),
            "measures": _records(analysis.final),
            "layers": [_layers(divergence) for divergence in analysis.layers],
            "comparisons": [_comparison(comparison) for comparison in analysis.comparisons],
            "scores": _records(last_scores(analysis.scores)),
            "claims": [vars(claim) for claim in analysis.claims],
            "notes": analysis.notes,
            "skipped": analysis.skipped,
            "failed": analysis.failed,
        }
    )
    return found


def to_json(analysis: Analysis) -> str:
    """`summarise` as the text of `summary.json`."""
    return json.dumps(summarise(analysis), indent=2, allow_nan=False) + "\n"


def _runs(table: DataFrame) -> list[dict[str, Any]]:
    columns = ["run", "method", "model", "task", "seed"]
    epochs = table[[*columns, "epoch"]].drop_duplicates().groupby(columns, observed=True, dropna=False)["epoch"]
    return _records(epochs.agg(epochs="size", last_epoch="max").reset_index())


def _records(frame: DataFrame) -> list[dict[str, Any]]:
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.itertuples(index=False, name=None)]


def _layers(divergence: LayerDivergence) -> dict[str, Any]:
    adjacent = adjacent_kl(divergence.kl)
    return vars(divergence) | {"adjacent_kl": adjacent.mean() if adjacent.size else None}


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "model": comparison.model,
        "method": comparison.method,
        "baseline": comparison.baseline,
        "scale": comparison.scale,
        "modules": comparison.modules,
        "rule": comparison.rule,
        "lengths": comparison.lengths,
        "layers": comparison.layers,
        **comparison.adjacent,
        "adjacent_differences": adjacent_kl(comparison.difference),
        "pairs": _records(comparison.pairs),
        "kl": comparison.kl,
        "kl_baseline": comparison.kl_baseline,
    }


def _plain(value: Any) -> Any:
    """Python's own types, with None for what is missing or not finite."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None  # pandas.NA: an unknown seed
