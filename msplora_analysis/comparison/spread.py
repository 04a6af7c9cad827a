"""KL between the spectra of one layer in two replicates, as reference for other KLs."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from msplora_analysis.comparison.layers import by_stack, layer_rows, layer_spectra
from msplora_analysis.kernels import spectral_kl
from msplora_analysis.measures import Average
from msplora_core.pyramid import LAYER_SCALES

if TYPE_CHECKING:
    from pandas import DataFrame

SPREAD_COLUMNS = ("model", "method", "stack", "modules", "scale", "task", "kl", "pairs")


def replicate_spread(table: DataFrame, *, floor: float | None = None, average: Average = "spectra") -> DataFrame:
    """Measure the KL between the spectra of the same layer in two runs that differ in their seed only.

    Compare differences between layers or methods with it: smaller ones can be due to the seed.

    Args:
        table: spectra of one epoch per run (see `last_epochs`).
        floor: as in `spectral_kl`.
        average: within a run, average the singular values of its modules, then measure (`spectra`), or measure each
            module, then average (`measures`), as in `compare`.

    Returns:
        A row for each model, method, stack, set of module types in the same layers, scale (`layer`, and `total` if
        scales are shared) and task with two seeds: kl (nats, the mean over the layers, both directions and the pairs
        of seeds) and pairs (number of pairs of seeds).

    Example:
        >>> import pandas as pd
        >>> one = pd.DataFrame({"model": "m", "method": "lora-r2", "task": "mrpc", "scale": "layer", "stack": "",
        ...                     "module": "q", "unit": 0, "rank": 2, "k": [1, 2]})
        >>> runs = [one.assign(run="a", seed=0, sigma=[3.0, 1.0]), one.assign(run="b", seed=1, sigma=[1.0, 1.0])]
        >>> replicate_spread(pd.concat(runs))[["method", "scale", "task", "kl", "pairs"]].round(4)
            method  scale  task      kl  pairs
        0  lora-r2  layer  mrpc  0.1373      1
    """
    import pandas as pd

    found = []
    shared = table.loc[table["scale"].isin(["global", "mid"]), "run"].unique()
    for scale in LAYER_SCALES:
        rows = layer_rows(table, scale)
        if scale == "total":
            rows = rows[rows["run"].isin(shared)]  # for other runs it equals `layer`
        for names, part in rows.groupby(["model", "method", "task"], observed=True, sort=False):
            model, method, task = (str(name) for name in names)
            part = part[part["seed"].notna()]
            if part["run"].nunique() < 2:
                continue
            for stack, modules, of_stack in by_stack(part):
                _, spectra = layer_spectra(of_stack, modules, int(of_stack["rank"].min()))
                if average == "spectra":
                    spectra = spectra.mean(axis=1, keepdims=True)
                one, other = np.array(list(combinations(range(len(spectra)), 2))).T
                both = (
                    spectral_kl(spectra[one], spectra[other], floor),
                    spectral_kl(spectra[other], spectra[one], floor),
                )
                found.append((model, method, stack, "+".join(modules), scale, task, float(np.mean(both)), len(one)))
    return pd.DataFrame(found, columns=list(SPREAD_COLUMNS))
