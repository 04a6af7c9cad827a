"""`report.html`: an analysis as one page that works without a network, a server or other files."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msplora_analysis.checked_runs import by_kind
from msplora_analysis.loading.scores import at_last_epoch
from msplora_analysis.report.csv_tables import csv_tables
from msplora_analysis.report.embedded import as_script, embedded
from msplora_analysis.report.homes import home
from msplora_analysis.report.kept_section import kept_section
from msplora_analysis.report.pictured_study import like_chance
from msplora_analysis.report.pictures import pictures
from msplora_analysis.report.static_pictures import fitting, static_pictures
from msplora_analysis.report.summary import AVERAGING, READING
from msplora_analysis.report.templates import ASSETS, cells, template
from msplora_core.errors import one_line
from msplora_core.storage.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from msplora_analysis.analysis import Analysis
    from msplora_analysis.statistics.claims import Claim

_VENDOR = Path(__file__).parent / "vendor"
_LIBRARIES = ("d3.min.js", "plot.umd.min.js")
_SCRIPTS = ("data.js", "choices.js", "pointing.js", "spectra.js", "courses.js", "interference.js", "layers.js",
            "matrices.js", "directions.js", "plan.js", "verdicts.js", "tables.js", "start.js")  # fmt: skip
_PICTURES = "<!--pictures-->"
_MOST_OF_PICTURES = 110_000
"""Bytes of the pictures for readers without JavaScript."""
_MOST_CARDS = 4
"""How many verdicts on one claim are shown before the others are unfolded."""
TABLES = {
    "measures": "How concentrated each scale is",
    "pairs": "Adjacent layers, by pair of runs",
    "measures-by-run": "How concentrated each scale is, by run",
    "findings": "Findings of the check-up",
    "nulls": "Beside null models",
    "spread": "KL between seeds of the same layer",
    "scores": "Task metrics at the last epoch",
}
"""The CSV tables that the page shows, in order, with their titles."""


def write_report(
    analysis: Analysis,
    path: str | os.PathLike[str],
    *,
    figures: Iterable[tuple[str, Figure]] = (),
    made: Mapping[str, str] | None = None,
) -> Path:
    """Write an analysis as one HTML page that opens from disk and sends no request.

    Args:
        analysis: from `analyse`.
        path: the file; an existing file is replaced.
        figures: names and pictures for readers without JavaScript: `draw_figures(analysis)`.
        made: how the page was made: for example the command and the date, by name.

    Returns:
        The file.

    Raises:
        FileError: if it cannot be written.
    """
    path = Path(path)
    text = page(analysis, dict(csv_tables(analysis)), made or {})
    write_atomically(path, with_pictures(text, dict(pictures(figures, kinds=["svg"]))).encode())
    return path


def page(
    analysis: Analysis, tables: Mapping[str, DataFrame], made: Mapping[str, str], folder: Path | None = None
) -> str:
    """Return the page as text, without static pictures (see `write_report`): what can be made while these are drawn.

    `tables` are `csv_tables(analysis)`. The page includes the results of `overlap` and `plan` in `folder`, or else
    those in the analysis of the run or study.
    """
    first, more = _ordered(analysis.claims)
    scripts = [*((_VENDOR / name).read_text(encoding="utf-8") for name in _LIBRARIES), _own_script()]
    return template("page.html.j2").render(
        analysis=analysis,
        name=one_line(analysis.path.resolve().name if analysis.path.exists() else str(analysis.path)),
        claims=first,
        more_claims=more,
        runs=analysis.table["run"].nunique(),
        looked_at=_looked_at(analysis),
        findings=by_kind(analysis.findings),
        tables=list(_tables(tables)),
        reading=READING,
        averaging=AVERAGING[analysis.average],
        provenance=_provenance(analysis, made),
        kept=kept_section(*filter(None, (folder, home(analysis.path)))),
        data=as_script(embedded(analysis, tables)),
        style=(ASSETS / "page.css").read_text(encoding="utf-8"),
        scripts=scripts,
        policy=_policy(scripts),
    )


def with_pictures(text: str, static: Mapping[str, bytes]) -> str:
    """Put static pictures into a page, SVG by file name, for readers without JavaScript."""
    shown = list(static_pictures(fitting(static.items(), _MOST_OF_PICTURES)))
    more = len(static) - len(shown)
    return text.replace(_PICTURES, template("pictures.html.j2").render(pictures=shown, more=more), 1)


def _policy(scripts: Iterable[str]) -> str:
    """Return a policy that allows only these scripts, no requests, and inline styles, which Plot and SVG use."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    rules = [f"script-src {hashes}", "style-src 'unsafe-inline'", "img-src data:"]
    return "; ".join(["default-src 'none'", *rules, "base-uri 'none'", "form-action 'none'"])


def _own_script() -> str:
    parts = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return f'"use strict";\n{{\n{parts}\n}}\n'


def _ordered(claims: Sequence[Claim]) -> tuple[list[tuple[int, Claim]], list[tuple[int, Claim]]]:
    """Return the numbered claims shown at first, and those beyond the first few about one measure."""
    places = sorted(enumerate(claims), key=lambda one: one[1].verdict.verdict == "cannot tell")
    counts = Counter[str]()
    parts: dict[bool, list[tuple[int, Claim]]] = {True: [], False: []}
    for place, claim in places:
        counts[claim.number] += 1
        parts[counts[claim.number] <= _MOST_CARDS].append((place, claim))
    return parts[True], parts[False]


def _looked_at(analysis: Analysis) -> list[dict[str, Any]]:
    """Return for each model and method the number of runs, the tasks, the seeds and the last epoch."""
    found, spectra = [], analysis.table[analysis.table["k"] == 1]
    chance = {(one["model"], one["method"]): one["words"] for one in like_chance(analysis.nulls)}
    for (model, method), rows in spectra.groupby(["model", "method"], observed=True, sort=False):
        names = str(model), str(method)
        last = rows.groupby("run", observed=True)["epoch"].max()
        found.append(
            {
                "model": names[0],
                "method": names[1],
                "runs": rows["run"].nunique(),
                "tasks": [str(task) for task in rows["task"].unique() if task],
                "seeds": [str(seed) for seed in sorted(rows["seed"].dropna().unique())],
                "modules": [str(module) for module in rows["module"].unique()],
                "layers": rows.loc[rows["scale"] == "layer", "unit"].nunique(),
                "epochs": _span(last.min(), last.max()),
                "doubts": [known[names] for known in (analysis.doubts, chance) if names in known],
            }
        )
    return found


def _span(low: float, high: float) -> str:
    if high != high:
        return ""
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _tables(found: Mapping[str, DataFrame]) -> Iterator[dict[str, Any]]:
    for name, words in TABLES.items():
        if name in found and len(found[name]):
            yield cells(at_last_epoch(found[name]) if name == "scores" else found[name], name, words)


def _provenance(analysis: Analysis, made: Mapping[str, str]) -> list[tuple[str, str]]:
    packages = ("msplora", "numpy", "scipy", "pandas")
    facts = [
        ("source", str(analysis.path)),
        *made.items(),
        ("versions", ", ".join([*(f"{name} {_version(name)}" for name in packages),
                                f"Python {platform.python_version()}"])),
        ("draws", "; ".join(dict.fromkeys(one.reason for claim in analysis.claims
                                          for one in claim.verdicts if "seed" in one.reason))),
        ("null models", "; ".join(f"{row.draws} draws of the {row.null} null, seed {row.null_seed}" for row in
                                  analysis.nulls[["null", "draws", "null_seed"]].drop_duplicates().itertuples())),
    ]  # fmt: skip
    return [(name, one_line(text)) for name, text in facts if text]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
