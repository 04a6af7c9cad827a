"""figures/README.md shows every picture of its folder, and its tables of claims are those of the CSV files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FIGURES = Path(__file__).parents[1] / "figures"
TEXT = (FIGURES / "README.md").read_text(encoding="utf-8")


def test_every_picture_is_shown() -> None:
    shown = set(re.findall(r"^!\[[^\]]{20,}\]\(([^)]+\.png)\)$", TEXT, re.MULTILINE))
    kept = {path.relative_to(FIGURES).as_posix() for path in FIGURES.rglob("*.png")} - {"report-page.png"}
    assert shown == kept


@pytest.mark.parametrize("study", ["minilm", "smollm2"])
def test_claims_are_those_of_the_table(study: str) -> None:
    command = [sys.executable, FIGURES / "claims.py", FIGURES / study / "claims.csv"]
    assert subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout in TEXT
