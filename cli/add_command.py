"""Commands whose help ends with their examples."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def add_command(app: typer.Typer, command: Callable[..., None], above: str = "") -> None:
    """Add a command whose help ends with the examples of its docstring, below its options.

    Args:
        app: the application.
        command: a function whose docstring ends with paragraphs `Example: ...`.
        above: paragraphs between options and examples.
    """
    text, *examples = re.split(r"\n\s*(?=Example: )", command.__doc__ or "")
    app.command(help=text, epilog="\n\n".join(filter(None, [above, *map(str.strip, examples)])))(command)
