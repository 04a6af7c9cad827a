"""Tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def titled_table(title: str, headers: Sequence[str], *, left: int) -> Table:
    """Return an empty table whose first `left` columns hold words: a narrow terminal breaks them, and no numbers."""
    from rich.table import Table

    table = Table(
        title=title, box=None, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left", min_width=len(title)
    )
    for place, header in enumerate(headers):
        if place < left:
            table.add_column(header, overflow="fold")
        else:
            table.add_column(header, justify="right", no_wrap=True)
    return table
