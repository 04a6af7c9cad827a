"""Lists and counts in messages, titles and tables."""

from __future__ import annotations

from collections.abc import Sequence


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return names as a list; of more than `most`, the first ones and the number of the others.

    Example:
        >>> listed(["q", "k", "v"]), listed(["q", "k", "v", "o", "up"])
        ('q, k, v', 'q, k, v and 2 more')
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def counted(count: int, word: str) -> str:
    """Return a count with its noun.

    Example:
        >>> counted(1, "run"), counted(2, "run")
        ('1 run', '2 runs')
    """
    return f"{count} {word}{'' if count == 1 else 's'}"
