"""A description of an adapter for a terminal of 80 columns or more."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from msplora_core.wording import runs_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from msplora_core.checkup.diagnosis import Diagnosis
    from msplora_core.formats import Adapter, ModuleSummary

_LEAST_WIDTH = 20
_MOST_BARS = 16
_BLOCKS = " ▁▂▃▄▅▆▇█"


def heading(adapter: Adapter) -> str:
    """Return the adapter's path, method, format and base model."""
    model = f", of {adapter.model}" if adapter.model else ", base model unknown"
    return f"{adapter.path}: {adapter.method} in the format of {adapter.format}{model}"


def totals(adapter: Adapter) -> str:
    """Return the line on the adapter as a whole."""
    count = sum(key.scale != "total" for key in adapter.keys)
    return (
        f"{count} components, {adapter.parameters:,} parameters, {decimal(adapter.size)} on disk, "
        f"mean rank {adapter.mean_rank:.3g}"
    )


def table(
    lines: Sequence[ModuleSummary], width: int, spectra: Mapping[str, NDArray[np.float64]] | None = None
) -> tuple[str, Any]:
    """Return the values that all scales and module types have in common, and a table with a row for each.

    Args:
        lines: the rows.
        width: columns of the terminal.
        spectra: singular values by component key; if given and short enough, each row shows its mean spectrum.
    """
    from rich import box
    from rich.table import Table

    columns = {
        "scale": [line.scale for line in lines],
        "module": [line.module for line in lines],
        "units": [ranges(line.units) for line in lines],
        "out × in": [", ".join(f"{out} × {in_}" for out, in_ in line.shapes) for line in lines],
        "rank": [", ".join(map(str, line.ranks)) for line in lines],
        "scaling": [", ".join(f"{scaling:.4g}" for scaling in line.scalings) for line in lines],
        "dtype": [", ".join(line.dtypes) for line in lines],
    }
    drawings = [_drawing(line, spectra or {}) for line in lines]
    if any(drawings):
        columns["spectrum"] = drawings
    common = [name for name in ("scale", "rank", "scaling", "dtype") if len(set(columns[name])) == 1]
    shown = {name: cells for name, cells in columns.items() if name not in common}
    others = sum(max(map(len, [name, *cells])) for name, cells in shown.items() if name != "module")
    shown["module"] = shortened(shown["module"], max(_LEAST_WIDTH, width - others - 3 * len(shown) - 1))
    drawn = Table(box=box.ROUNDED)
    for name in shown:
        drawn.add_column(name, overflow="fold")
    for row in zip(*shown.values(), strict=True):
        drawn.add_row(*row)
    return ", ".join(f"{name} {columns[name][0]}" for name in common), drawn


def _drawing(line: ModuleSummary, spectra: Mapping[str, NDArray[np.float64]]) -> str:
    """The mean spectrum of a row's components as bars."""
    keys = (f"{line.scale}/{line.module}/{unit}" for unit in line.units)
    own = [spectra[key] for key in keys if key in spectra]
    if not own or len({len(sigma) for sigma in own}) > 1 or not 1 < len(own[0]) <= _MOST_BARS:
        return ""
    return bars([float(sum(values)) for values in zip(*own, strict=True)])


def bars(values: Sequence[float]) -> str:
    """Return numbers of at least 0 as bars of block characters, the largest as a whole block.

    Example:
        >>> bars([8, 4, 1, 0])
        '█▄▁ '
    """
    most = max(values)
    return "".join(_BLOCKS[math.ceil(value / most * 8)] if most > 0 else " " for value in values)


def overview(found: Sequence[tuple[str, Adapter, Diagnosis]], width: int) -> Any:
    """Return a table with a row for each adapter: method, parameters, size, mean rank, findings.

    Args:
        found: the adapters, each with its name.
        width: columns of the terminal.
    """

    from msplora_cli.tables import titled_table

    rows = [
        (
            adapter.method,
            f"{adapter.parameters:,}",
            decimal(adapter.size),
            f"{adapter.mean_rank:.3g}",
            _counts(diagnosis),
        )
        for _, adapter, diagnosis in found
    ]
    headers = ["method", "parameters", "on disk", "mean rank", "findings"]
    others = sum(max(map(len, column)) + 1 for column in zip(headers, *rows, strict=True))
    names = shortened([name for name, *_ in found], max(_LEAST_WIDTH, width - others - 1))
    drawn = titled_table(f"{len(found)} adapters", ["adapter", *headers], left=2)
    for name, row in zip(names, rows, strict=True):
        drawn.add_row(name, *row)
    return drawn


def _counts(diagnosis: Diagnosis) -> str:
    """Return the number of findings of the worst severity."""
    from msplora_core.checkup.finding import SEVERITIES

    counts = Counter(one.severity for one in diagnosis.findings)
    worst = next((severity for severity in SEVERITIES if counts[severity]), None)
    if worst is None:
        return "none"
    plural = "s" if worst == "note" and counts[worst] > 1 else ""
    return f"{counts[worst]} {worst}{plural}"


def nested_table(rows: Sequence[Mapping[str, float]]) -> Any:
    """Return a table of the measures of DyLoRA's update at each rank (see `nested_measures`)."""
    from msplora_cli.tables import titled_table

    drawn = titled_table("Cut at rank b, as DyLoRA trains it: means", ["b", "σ₁", "M_eff-1", "entropy rank"], left=0)
    for row in rows:
        share = "–" if math.isnan(row["m_eff_1"]) else f"{row['m_eff_1']:.3f}"
        drawn.add_row(str(row["rank"]), f"{row['sigma_1']:.3g}", share, f"{row['entropy_rank']:.2f}")
    return drawn


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Shorten names in the middle to a width, unless two names would become equal.

    Example:
        >>> shortened(["encoder.layer.attention.query", "encoder.layer.attention.key"], 18)
        ['encode…ntion.query', 'encode…tention.key']
    """
    start, end = width // 3, width - width // 3 - 1
    cut = [name if len(name) <= width else f"{name[:start]}…{name[-end:]}" for name in names]
    return cut if len(set(cut)) == len(set(names)) else list(names)


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as text, with ranges for consecutive numbers.

    Example:
        >>> ranges((0, 1, 2, 5, 7, 8))
        '0-2, 5, 7-8'
    """
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs_of(numbers))
