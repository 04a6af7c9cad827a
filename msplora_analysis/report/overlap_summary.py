"""An overlap as plain values, for `summary.json` and `overlap --json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from msplora_analysis.directions.adapter_pairs import AdapterComparison
from msplora_analysis.directions.findings import findings, merging
from msplora_analysis.directions.overlap import Overlap
from msplora_analysis.report.summary import records
from msplora_core.storage.strict_json import plain

FORMAT = "msplora-overlap"
VERSION = 1
_COURSE = ["run", "epoch", "step", "scale", "module", "excess", "deviation_own"]
MOST_DIRECTIONS = 32
"""A grid of all directions of a large rank has more numbers than all else; φ at full rank is in `subspaces`."""
READING = {
    "shared_by_all": "share of the energy, the sum of squared norms, that the mean update over all layers explains",
    "shared_by_groups": "share that the means over groups of layers explain in addition",
    "own": "the rest; the three sum to 1",
    "null_": "the same for randomly rotated updates, which share no direction: exact mean",
    "deviation_": "standard deviation of the null",
    "excess": "shared_by_all + shared_by_groups minus their null; 0 if nothing is shared",
    "cosine_bound": "if layers share no direction, no cosine between two layers exceeds it with probability 0.95",
    "common": "mean share of the layers' energy in the best common subspace of dimension `rank`",
    "neighbours": "phi at full rank, ||U^T V||_F^2 / rank, mean over neighbouring layers; pairs: over all pairs",
    "chance": "phi of random subspaces",
    "phi": "of the i leading directions of a layer and the j leading ones of the next, mean over neighbours",
    "overwritten": "share of the energy of one adapter in both the inputs and the outputs of the other",
    "conflict": "share of both adapters' energy in the module x (sqrt(the smaller overwritten) - cosine) / 2",
}


def summarise_overlap(found: Overlap) -> dict[str, Any]:
    """Return the numbers of an overlap as plain values for strict JSON: null for values that are not finite.

    Args:
        found: from `overlap`.

    Returns:
        format, version, path, seed, reading (what the numbers mean), sharing and subspaces (a row a run, module type
        and scale, at the end of the run), cosines (whole matrices), course (what is shared over training), grids
        (φ(i, j) of neighbouring layers, 32 leading directions), methods (mean excess with its intervals), findings
        (sentences), answers (the paper's question, with the verdict), adapters (held against
        each other, or null), notes, skipped, failed.
    """
    value: dict[str, Any] = plain(
        {
            "format": FORMAT,
            "version": VERSION,
            "path": str(found.path),
            "seed": found.seed,
            "reading": READING,
            "sharing": records(found.sharing),
            "subspaces": records(found.subspaces),
            "cosines": [
                {"run": run.name, "module": one.cosines.module, "scale": one.cosines.scale,
                 "layers": one.cosines.layers, "cosines": one.cosines.cosines}
                for run in found.runs for one in run.final
            ],
            "course": records(found.course[_COURSE]) if len(found.course) else [],
            "grids": [
                {"run": run.name, "module": one.cosines.module, "scale": one.cosines.scale, "side": side.side,
                 "phi": side.grid[:MOST_DIRECTIONS, :MOST_DIRECTIONS]}
                for run in found.runs for one in run.final for side in one.sides
            ],
            "methods": records(found.methods),
            "findings": list(findings(found.sharing, found.subspaces)),
            "answers": [asdict(answer) for answer in found.answers],
            "adapters": _adapters(found.adapters) if found.adapters else None,
            "notes": found.notes,
            "skipped": found.skipped,
            "failed": found.failed,
        }
    )  # fmt: skip
    return value


def _adapters(found: AdapterComparison) -> dict[str, Any]:
    return {
        "names": found.names,
        "cosines": found.cosines,
        "pairs": [
            vars(pair)
            | {"modules": records(pair.modules), "angles": records(pair.angles), "findings": list(merging(pair))}
            for pair in found.pairs
        ],
    }


def overlap_json(found: Overlap, pictures: Sequence[str] = ()) -> str:
    """Return `summarise_overlap` as the text of `summary.json`, with the names of the SVG files that the page shows."""
    return json.dumps(summarise_overlap(found) | {"pictures": pictures}, indent=2, allow_nan=False) + "\n"
