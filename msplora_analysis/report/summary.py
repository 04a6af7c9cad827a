"""An analysis as plain values, for `summary.json` and `--json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from msplora_analysis.comparison.controls import CONTROLS, control_means
from msplora_analysis.comparison.difference import Comparison
from msplora_analysis.comparison.layers import LayerDivergence, adjacent_kl
from msplora_analysis.interference_courses import interference_by_method
from msplora_analysis.loading.scores import last_scores
from msplora_core.storage.strict_json import plain

if TYPE_CHECKING:
    from pandas import DataFrame

    from msplora_analysis.analysis import Analysis
    from msplora_analysis.statistics.claims import Claim

FORMAT = "msplora-analysis"
VERSION = 2
READING = {
    "m_eff_k": "share of the k largest singular values (Eq. 8); high means concentrated, simple; null where the rank "
    "is at most k, for it is 1 by definition, and for zero spectra",
    "entropy_rank": "ranks (Roy and Vetterli 2007); high means broad, complex",
    "kl": "nats (Eq. 9); row i, column j holds D(layer i || layer j); adjacent: mean of both directions",
    "interference": "cosine over training; 0 for unrelated directions, negative where one undoes part of what "
    "the other does",
    "random_labels": "the same number of the method trained on permuted labels, on the same tasks and seeds; null "
    "where not trained",
    "difference": "method minus baseline; positive where the method's layers are further apart",
}
AVERAGING = {
    "spectra": {
        "measures": "singular values averaged over the modules of a stack, units, tasks and seeds, then measured",
        "layers": "per layer, singular values averaged over the modules of a stack, tasks and seeds, then KL",
        "comparisons": "per layer and run, singular values averaged over the modules of a stack, then KL; the mean "
        "over pairs of runs",
    },
    "measures": {
        "measures": "each component measured, then averaged over the modules of a stack, units, tasks and seeds",
        "layers": "KL of each run and module, then averaged over the modules of a stack, tasks and seeds",
        "comparisons": "KL of each run and module, then averaged over the modules of a stack and pairs of runs",
    },
}


def summarise(analysis: Analysis) -> dict[str, Any]:
    """Return the numbers of an analysis as plain values for strict JSON: null if not finite or not informative.

    Args:
        analysis: from `analyse`.

    Returns:
        format, version, path, reading (what the numbers mean), averaging, runs, measures (by method, stack and
        scale), measures_by_run, measure_means (over runs, with intervals and the runs' nulls), layers (KL
        between the layers of each method), comparisons (with the baseline, for `layer` and `total`; whole matrices,
        their cells with interval and p, and a row for each pair of runs), spread (KL between seeds), nulls (beside
        each measure), interference (by method and pair, where recorded), scores (task metrics), findings (of the
        check-up, worst first), claims (each with its verdicts), notes, skipped, failed.
    """
    found: dict[str, Any] = plain(
        {
            "format": FORMAT,
            "version": VERSION,
            "path": str(analysis.path),
            "reading": READING,
            "averaging": AVERAGING[analysis.average],
            "runs": _runs(analysis.table, analysis.runs),
            "measures": records(analysis.final),
            "measures_by_run": records(analysis.by_run),
            "measure_means": records(analysis.measure_means),
            "layers": [_layers(divergence) for divergence in analysis.layers],
            "comparisons": [_comparison(comparison) for comparison in analysis.comparisons],
            "spread": records(analysis.spread),
            "nulls": records(analysis.nulls),
            "interference": records(interference_by_method(analysis.interference)),
            "scores": records(last_scores(analysis.scores)),
            "findings": records(analysis.findings),
            "claims": [{"statement": claim.statement, **asdict(claim)} for claim in analysis.claims],
            "notes": analysis.notes,
            "skipped": analysis.skipped,
            "failed": analysis.failed,
        }
    )
    return found


def claims_frame(claims: Sequence[Claim]) -> DataFrame:
    """Return a row for each verdict on each claim."""
    import pandas as pd

    kinds = ["number", "model", "method", "scale", "baseline", "stack"]
    rows = []
    for claim in claims:
        for answer in claim.verdicts:
            numbers = asdict(answer)
            low, high = numbers.pop("interval") or (None, None)
            rows.append({name: getattr(claim, name) for name in kinds} | numbers | {"low": low, "high": high})
    return pd.DataFrame(rows)


def to_json(analysis: Analysis) -> str:
    """Return `summarise` as the text of `summary.json`."""
    return json.dumps(summarise(analysis), indent=2, allow_nan=False) + "\n"


def _runs(table: DataFrame, runs: DataFrame) -> list[dict[str, Any]]:
    columns = ["run", "method", "model", "task", "seed"]
    outcome = runs[["run", "finished", "metric", "score", "constant"]]
    epochs = table[[*columns, "epoch"]].drop_duplicates().groupby(columns, observed=True, dropna=False)["epoch"]
    recorded = epochs.agg(epochs="size", last_epoch="max").reset_index()
    return records(recorded.astype({"run": object}).merge(outcome, on="run", how="left"))


def records(frame: DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, with None for what is missing."""
    known = frame.astype(object).where(frame.notna(), None)
    return [dict(zip(frame.columns, row, strict=True)) for row in known.itertuples(index=False, name=None)]


def _layers(divergence: LayerDivergence) -> dict[str, Any]:
    adjacent = adjacent_kl(divergence.kl)
    return vars(divergence) | {"adjacent_kl": adjacent.mean() if adjacent.size else None}


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "model": comparison.model,
        "method": comparison.method,
        "baseline": comparison.baseline,
        "scale": comparison.scale,
        "stack": comparison.stack,
        "modules": comparison.modules,
        "rule": comparison.rule,
        "ranks": comparison.ranks,
        "lengths": comparison.lengths,
        "layers": comparison.layers,
        **comparison.adjacent,
        **dict(zip(CONTROLS, control_means(comparison), strict=False)),
        "adjacent_differences": adjacent_kl(comparison.difference),
        "pooled_difference": comparison.pooled_difference,
        "pairs": records(comparison.pairs),
        "cells": records(comparison.cells),
        "kl": comparison.kl,
        "kl_baseline": comparison.kl_baseline,
    }
