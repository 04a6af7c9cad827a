"""Output of the commands: data on standard output, messages on standard error."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from msplora_core.errors import one_line
from msplora_core.storage.strict_json import plain

if TYPE_CHECKING:
    from rich.console import Console


_FILE_WIDTH = 120
"""Without it, rich takes 80 columns, or those of the terminal that a pipe was started in."""


def say(text: str) -> None:
    """Print a message. It needs no rich, which loads slowly."""
    print(text, file=sys.stderr)


@cache
def messages() -> Console:
    """Return the console for progress, and for messages while it is shown."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, emoji=False, markup=False)


@cache
def data() -> Console:
    """Return the console for a command's results in readable form; a file has lines of 120 columns."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _FILE_WIDTH
    return console


@contextmanager
def shown_warnings(*kinds: type[Warning]) -> Iterator[None]:
    """Print each warning of these classes immediately as one line; other warnings are unchanged."""
    with warnings.catch_warnings():
        for kind in kinds:
            warnings.simplefilter("always", kind)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, kinds):
                messages().print(f"warning: {one_line(str(message))}", soft_wrap=True)
            else:
                usual(message, category, *place, **more)

        warnings.showwarning = show
        yield


def print_json(value: Any) -> None:
    """Print a value as strict JSON, with null for values that are not finite."""
    print(json.dumps(plain(value), indent=2, allow_nan=False))


@contextmanager
def warnings_told() -> Iterator[None]:
    """Collect the warnings of the code inside, and print each once, on one line, at the end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", category=UserWarning)
        warnings.simplefilter("always", category=RuntimeWarning)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        say(f"warning: {message}")
