"""The packages to compare with: installed when needed, or reported as missing."""

from __future__ import annotations

import importlib
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"


@cache
def missing(package: str) -> str:
    """Install a package if needed; return why it cannot be measured, or an empty text."""
    if find_spec(package) is None:
        print(f"installing {package}", file=sys.stderr)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(_CONSTRAINTS), package]
        subprocess.run(command, check=False, stdout=sys.stderr)
        importlib.invalidate_caches()
    return f"{package} is not installed and cannot be" if find_spec(package) is None else ""
