"""An adapter described for people, readable at 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msplora_core.formats import Adapter, ModuleSummary

_LEAST_WIDTH = 20


def heading(adapter: Adapter) -> str:
    """Return where the adapter lies and what it is."""
    model = f", of {adapter.model}" if adapter.model else ", base model unknown"
    return f"{adapter.path}: {adapter.method} in the format of {adapter.format}{model}"


def totals(adapter: Adapter) -> str:
    """Return the line on the adapter as a whole."""
    count = sum(key.scale != "total" for key in adapter.keys)
    return (
        f"{count} components, {adapter.parameters:,} parameters, {_size(adapter.size)} on disk, "
        f"mean rank {adapter.mean_rank:.3g}"
    )


def table(lines: Sequence[ModuleSummary], width: int) -> tuple[str, Any]:
    """Return what is the same for all scales and module types, and a table with a row for each.

    Args:
        lines: the rows.
        width: columns of the terminal.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    columns = {
        "scale": [line.scale for line in lines],
        "module": [line.module for line in lines],
        "units": [ranges(line.units) for line in lines],
        "out × in": [", ".join(f"{out} × {in_}" for out, in_ in line.shapes) for line in lines],
        "rank": [", ".join(map(str, line.ranks)) for line in lines],
        "scaling": [", ".join(f"{scaling:.4g}" for scaling in line.scalings) for line in lines],
        "dtype": [", ".join(line.dtypes) for line in lines],
    }
    common = [name for name in ("scale", "rank", "scaling", "dtype") if len(set(columns[name])) == 1]
    shown = {name: cells for name, cells in columns.items() if name not in common}
    others = sum(max(map(len, [name, *cells])) for name, cells in shown.items() if name != "module")
    shown["module"] = shortened(shown["module"], max(_LEAST_WIDTH, width - others - 3 * len(shown) - 1))
    drawn = Table(box=box.ROUNDED)
    for name in shown:
        drawn.add_column(name, overflow="fold")
    for row in zip(*shown.values(), strict=True):
        drawn.add_row(*map(Text, row))
    return ", ".join(f"{name} {columns[name][0]}" for name in common), drawn


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Shorten names in the middle to a width, as long as they stay different; else leave them as they are.

    Example:
        >>> shortened(["encoder.layer.attention.query", "encoder.layer.attention.key"], 18)
        ['encode…ntion.query', 'encode…tention.key']
    """
    start, end = width // 3, width - width // 3 - 1
    cut = [name if len(name) <= width else f"{name[:start]}…{name[-end:]}" for name in names]
    return cut if len(set(cut)) == len(set(names)) else list(names)


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers with consecutive ones as a range.

    Example:
        >>> ranges((0, 1, 2, 5, 7, 8))
        '0-2, 5, 7-8'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)


def _size(size: float) -> str:
    """Bytes in the largest unit that leaves a number of at least 1."""
    units = ["bytes", "kB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"
