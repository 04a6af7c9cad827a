"""The examples run as their first lines say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_own_trainer_then_measures(tmp_path: Path) -> None:
    run(str(EXAMPLES / "own_trainer.py"), str(tmp_path / "mine"))
    assert len(list((tmp_path / "mine" / "snapshots").iterdir())) == 4
    out = run(str(EXAMPLES / "measures.py"), str(tmp_path / "mine"))
    assert "M_eff-1 by layer" in out
    assert "KL between layers" in out
