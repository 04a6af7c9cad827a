"""Check each run of a study: its spectra, its adapter's file and its losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msplora_core.checkup.finding import SEVERITIES, Finding
from msplora_core.checkup.run_check import loss_findings
from msplora_core.checkup.spectra_check import spectra_findings
from msplora_core.wording import listed

if TYPE_CHECKING:
    from pandas import DataFrame

_COLUMNS = ["run", "method", "severity", "kind", "module", "value", "says", "advice"]


def checked_runs(final: DataFrame, scores: DataFrame, of_files: Sequence[tuple[str, Finding]] = ()) -> DataFrame:
    """Check the runs of a spectra table.

    Args:
        final: a spectra table with one moment a run.
        scores: as `load_scores` gives them.
        of_files: what was found in the files of adapters, by run; also of those that could not be measured.

    Returns:
        One row a finding, the most severe first: run, method, and the fields of a `Finding`.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"unit": [0, 0, 1, 1], "k": [1, 2, 1, 2], "sigma": [2.0, 1.0, 0.0, 0.0]})
        >>> table = table.assign(run="a", method="lora-r2", scale="layer", module="q")
        >>> checked_runs(table, pd.DataFrame(columns=["run", "metric", "value"]))[["severity", "kind", "module"]]
           severity           kind     module
        0  doubtful  never trained  layer/q/1
    """
    import pandas as pd

    members = final[["run", "method"]].drop_duplicates("run")
    methods = dict(zip(members["run"].astype(str), members["method"].astype(str), strict=True))
    losses = [(run, one) for run, one in _in_losses(scores) if run in methods]
    found = [*_in_spectra(final, methods), *of_files, *losses]
    rows = [(run, methods.get(run, ""), *vars(one).values()) for run, one in found]
    table = pd.DataFrame(rows, columns=_COLUMNS).astype({"value": "float64"})
    return table.sort_values(
        "severity", key=lambda names: names.map(SEVERITIES.index), kind="stable", ignore_index=True
    )


def by_kind(found: DataFrame) -> list[dict[str, Any]]:
    """Return a summary of findings: one entry for each kind, the most severe first.

    Args:
        found: from `checked_runs`.

    Returns:
        severity, kind, where (the first modules with their runs, and the number of others), runs (their number), says
        and advice (of the first).
    """
    several = found["run"].nunique() > 1
    entries = []
    for (severity, kind), rows in found.groupby(["severity", "kind"], sort=False):
        places = zip(rows["module"], rows["run"], strict=True)
        named = [f"{module} of {run}" if several else str(module) for module, run in places]
        first = rows.iloc[0]
        entries.append({"severity": severity, "kind": kind, "where": listed(named),
                        "runs": rows["run"].nunique(), "says": first["says"], "advice": first["advice"]})  # fmt: skip
    return entries


def _in_spectra(final: DataFrame, methods: dict[str, str]) -> Iterator[tuple[str, Finding]]:
    starts = np.flatnonzero(final["k"].to_numpy() == 1)
    spectra = np.split(final["sigma"].to_numpy(), starts[1:])
    heads = final.iloc[starts]
    keys = heads["scale"].astype(str) + "/" + heads["module"].astype(str) + "/" + heads["unit"].astype(str)
    by_run: dict[str, dict[str, NDArray[np.float64]]] = {}
    for run, key, sigma in zip(heads["run"].astype(str), keys, spectra, strict=True):
        by_run.setdefault(run, {})[key] = sigma
    for run, own in by_run.items():
        yield from ((run, one) for one in spectra_findings(own, pruned=methods[run].startswith("adalora")))


def _in_losses(scores: DataFrame) -> Iterator[tuple[str, Finding]]:
    losses = scores[(scores["metric"] == "loss") & scores["value"].notna()]
    for run, values in losses.groupby("run", observed=True, sort=False)["value"]:
        yield from ((str(run), one) for one in loss_findings("eval_loss", values.tolist()))
