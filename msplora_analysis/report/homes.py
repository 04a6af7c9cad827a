"""Where the results of the commands belong."""

from __future__ import annotations

from pathlib import Path


def home(path: Path) -> Path:
    """Return where an analysis belongs: in the folder it is of; here for what is no folder on this disk, a hub id."""
    if path.is_file():
        path = path.parent
    return path / "analysis" if path.is_dir() else Path("analysis")
