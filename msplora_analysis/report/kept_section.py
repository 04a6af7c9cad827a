"""The sections of the page with the results of `overlap` and `plan`; they can be added to an existing page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msplora_analysis.choices import by_choice
from msplora_analysis.courses import courses
from msplora_analysis.directions.findings import by_module
from msplora_analysis.report.embedded import as_columns, as_script, rounded, square
from msplora_analysis.report.kept_results import (
    INTRUDERS,
    OVERLAP,
    PLAN,
    Kept,
    known_course,
    mean_cosines,
    mean_grids,
    read_kept,
)
from msplora_analysis.report.static_pictures import fitting, static_pictures
from msplora_analysis.report.templates import cells, number, template
from msplora_analysis.run_means import sharing_course_means
from msplora_core.errors import FileError
from msplora_core.storage.atomic import write_atomically
from msplora_core.storage.folder import first_present, inside, read_file

if TYPE_CHECKING:
    from pandas import DataFrame

PAGE = "report.html"
_START, _END = "<!--kept-->", "<!--/kept-->"
_LARGEST_PAGE = 2**26
_MOST = 120_000
"""Numbers of all matrices. Beyond, those of each task are left out, then the lowest and the highest."""
_MOST_IN_GRIDS = 20_000
"""Numbers of all grids. Beyond, those of each task are left out, then the last directions."""
_MOST_OF_PICTURES = 60_000
"""Bytes of the pictures for readers without JavaScript."""
_NAMES = ["run", "model", "method", "task", "stack", "scale", "module"]
_SHARING = ["layers", "rank", "shared_by_all", "shared_by_groups", "own", "null_shared_by_all", "null_shared_by_groups",
            "null_own", "deviation_own", "excess", "largest_cosine", "cosine_bound"]  # fmt: skip
_SUBSPACES = ["rank", "size", "common", "null_common", "pairs", "neighbours", "chance"]
_PLAN = ["unit", "rank_before", "rank", "parameters_before", "parameters", "energy", "kept", "kept_uniform"]


def kept_section(*folders: Path) -> str:
    """Return as HTML the sections on `overlap` and `plan`, each from the first folder that has its results.

    Results that cannot be read are named in the sections; the page is written all the same.
    """
    failed = list[str]()
    parts: dict[str, Any] = {}
    for name, prepare in ((OVERLAP, _overlap), (INTRUDERS, _intruders), (PLAN, _plan)):
        try:
            kept = read_kept(name, *folders)
            parts[Path(name).stem] = prepare(kept) if kept else None
        except FileError as error:
            parts[Path(name).stem] = None
            failed.append(str(error))
    data = as_script({name: part.pop("data") for name, part in parts.items() if part and "data" in part})
    text = template("kept.html.j2").render(parts=parts, failed=failed, data=data)
    return f"{_START}{text}{_END}"


def refresh_page(results: Path) -> bool:
    """Put the results of `overlap` or `plan` into the page that `svd` wrote in the folder above theirs.

    Args:
        results: the folder `overlap` or `plan` with the results.

    Returns:
        Whether there is such a page.

    Raises:
        FileError: if it cannot be read or written.
    """
    folder = results.resolve().parent
    if not (folder / PAGE).is_file():
        return False
    text = read_file(inside(folder, PAGE), "a page that svd wrote", _LARGEST_PAGE).decode(errors="replace")
    section = kept_section(folder)
    changed, count = re.subn(f"{_START}.*?{_END}", lambda _: section, text, count=1, flags=re.DOTALL)
    if count:
        write_atomically(folder / PAGE, changed.encode())
    return count > 0


def _overlap(kept: Kept) -> dict[str, Any]:
    sharing, subspaces = kept.table("sharing", _SHARING, _NAMES), kept.table("subspaces", _SUBSPACES, [*_NAMES, "side"])
    cosines = list(mean_cosines(kept, sharing)) if len(sharing) else []
    grids = list(mean_grids(kept, sharing)) if len(sharing) else []
    course = known_course(kept, sharing)
    shown = [cells(table, f"overlap/{name}", title) for name, title, table in (
        ("sharing", "What the layers share, beside updates rotated at random", sharing),
        ("subspaces", "Which subspaces the layers share, beside random ones", subspaces)) if len(table)]  # fmt: skip
    pictures = list(static_pictures(fitting(_pictures(kept), _MOST_OF_PICTURES)))
    adapters = kept.content.get("adapters")
    return {
        "written": kept.written,
        "findings": kept.sentences("findings"),
        "answers": [_answer(one) for one in kept.rows("answers")],
        "notes": kept.sentences("notes"),
        "tables": shown,
        "pictures": pictures,
        "more_pictures": len(kept.sentences("pictures")) - len(pictures),
        "pairs": list(_pairs(Kept(kept.path, adapters))) if isinstance(adapters, dict) else [],
        "data": {
            "sharing": _means(sharing[[*_NAMES, *_SHARING]]) if len(sharing) else {},
            "subspaces": _means(subspaces[[*_NAMES, "side", *_SUBSPACES]]) if len(subspaces) else {},
            "course": as_columns(sharing_course_means(courses(course))) if len(course) else {},
            "cosines": _thinned(cosines),
            "grids": _cropped(grids),
        },
    }


def _pictures(kept: Kept) -> Iterator[tuple[str, bytes]]:
    """Yield the pictures that `overlap` drew, those of all layers first."""
    names = [name for name in kept.sentences("pictures") if name.endswith(".svg")]
    for name in sorted(names, key=lambda name: not name.startswith(("shares", "course"))):
        if (path := first_present(kept.path.parent, name)) is not None:
            yield name, read_file(path, "a picture that overlap drew", _LARGEST_PAGE)


def _means(table: DataFrame) -> dict[str, Any]:
    return as_columns(by_choice(by_module, table, [], choices=["task"]))


def _answer(one: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a `Redundancy` that a card shows."""
    found = one.get("verdict")
    verdict: dict[str, Any] = found if isinstance(found, dict) else {}
    interval = verdict.get("interval")
    effect = f"{number(verdict.get('effect'))} {verdict.get('unit') or ''}" if verdict.get("effect") is not None else ""
    facts = {
        "effect": effect,
        "95% interval": " to ".join(map(number, interval)) if isinstance(interval, list) else "",
        "p": number(verdict.get("p")) if verdict.get("p") is not None else "",
        "n": f"{verdict['n']} {verdict.get('of') or ''}" if verdict.get("n") else "",
    }
    texts = {name: str(verdict.get(name) or "") for name in ("verdict", "question", "null", "reason", "next_step")}
    about = {name: str(one.get(name) or "") for name in ("method", "baseline", "model", "numbers")}
    return texts | about | {"facts": {name: text for name, text in facts.items() if text}}


def _pairs(adapters: Kept) -> Iterator[dict[str, Any]]:
    """Yield the compared pairs of adapters: sentences, and their modules with those in conflict first."""
    for pair in adapters.rows("pairs"):
        one = Kept(adapters.path, pair)
        modules = one.table("modules", ["cosine", "overwritten", "overwritten_other", "conflict"])
        columns = [name for name in _CONFLICTS if name in modules]
        title = f"{pair.get('first')} with {pair.get('second')}: modules, those in conflict first"
        yield {"findings": one.sentences("findings"), "table": cells(modules[columns], "overlap/adapters", title)}


_CONFLICTS = ["module", "layer", "rank", "rank_other", "cosine", "deviation_cosine", "overwritten", "null_overwritten",
              "overwritten_other", "null_overwritten_other", "conflict"]  # fmt: skip


def _thinned(cosines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the matrices, reduced to what fits in the page."""
    size = sum(3 * len(one["layers"]) ** 2 * len(one["parts"]) for one in cosines)
    for one in cosines:
        kept = one["parts"] if size <= _MOST else one["parts"][:1]
        ranged = sum(3 * len(other["layers"]) ** 2 for other in cosines) <= _MOST
        one["parts"] = [
            {name: square(value) if isinstance(value, np.ndarray) else value for name, value in part.items()
             if name not in ("low", "high") or (ranged and part["runs"] > 1)} | {"bound": rounded([part["bound"]])[0]}
            for part in kept
        ]  # fmt: skip
    return cosines


def _cropped(grids: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The grids as the page has them: those of each task where there is room, and as many directions."""
    if sum(part["mean"].size for one in grids for part in one["parts"]) > _MOST_IN_GRIDS:
        for one in grids:
            del one["parts"][1:]
    size = max((one["parts"][0]["mean"].shape[0] for one in grids), default=0)
    while sum(min(size, len(one["parts"][0]["mean"])) ** 2 for one in grids) > _MOST_IN_GRIDS:
        size -= 1
    for one in grids:
        one["parts"] = [{"task": part["task"], "runs": part["runs"], "phi": square(part["mean"][:size, :size])}
                        for part in one["parts"]]  # fmt: skip
    return grids


def _intruders(kept: Kept) -> dict[str, Any]:
    table = kept.table("modules", ["intruders", "null_intruders", "enters_at", "least_cosine"])
    title = f"Intruder dimensions of {kept.content.get('path')} against {kept.content.get('base')}"
    return {"written": kept.written, "notes": kept.sentences("notes"),
            "tables": [cells(table, "overlap/intruder-modules", title)]}  # fmt: skip


def _plan(kept: Kept) -> dict[str, Any]:
    modules = kept.table("modules", _PLAN, ["scale", "module"])
    uniform = kept.content.get("uniform")
    rank = uniform.get("mean_rank") if isinstance(uniform, dict) else None
    return {
        "written": kept.written,
        "rule": str(kept.content.get("rule", "")),
        "findings": kept.sentences("findings"),
        "notes": kept.sentences("notes"),
        "tables": [cells(modules, "plan/plan", "Ranks before and after, and the share of energy that they keep")],
        "data": {
            "uniform_rank": rank if isinstance(rank, int | float) else None,
            "modules": as_columns(modules[["scale", "module", *_PLAN]]),
        },
    }
