"""The spectra of several paths in one table."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from msplora_analysis.loading.table import load_spectra

if TYPE_CHECKING:
    from pandas import DataFrame


def load_several(
    paths: Sequence[str | os.PathLike[str]],
    *,
    alpha: float | None = None,
    base: str | os.PathLike[str] | None = None,
    module: str | Collection[str] = (),
) -> DataFrame:
    """Read the spectra of several paths into one table; the names of runs begin with their path.

    Paths of one place, as `x` and `x/`, are read once. A run of unknown task counts as a task of its own, as in
    `load_spectra`. The messages in `attrs` are those of all.

    Args:
        paths: at least one, each as for `load_spectra`.
        alpha, base, module: how adapters are read (see `load_spectra`).

    Raises:
        RunDirectoryError: if nothing can be read at one of them.
    """
    import pandas as pd

    places: dict[str, str] = {}
    for path in map(str, paths):
        places.setdefault(os.path.realpath(path), path)
    if len(places) == 1:
        return load_spectra(paths[0], alpha=alpha, base=base, module=module)
    tables = []
    for path in places.values():
        table = load_spectra(path, alpha=alpha, base=base, module=module)
        own = table["run"].astype(str)
        several = own.nunique() > 1
        run = f"{path}/" + own if several else own.replace({own.iloc[0]: path})
        tables.append(table.assign(run=run, task=table["task"].astype(str).where(table["task"] != "", run)))
    messages = {name: [one for table in tables for one in table.attrs[name]] for name in tables[0].attrs}
    messages["notes"] = list(dict.fromkeys(messages["notes"]))
    whole = pd.concat(tables, ignore_index=True)
    whole.attrs = messages
    return whole
