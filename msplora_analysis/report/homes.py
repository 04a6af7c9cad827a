"""The default folder for the results of the commands."""

from __future__ import annotations

from pathlib import Path


def home(path: Path) -> Path:
    """Return `analysis` in the folder that was analysed, or in the current folder for a model id on the Hub."""
    if path.is_file():
        path = path.parent
    return path / "analysis" if path.is_dir() else Path("analysis")
