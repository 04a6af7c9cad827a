"""The notebooks run from their first cell to their last, and keep outputs that can be read where they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["adapter", "own_training", "study_statistics"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    kept = nbformat.read(path, as_version=4)
    assert all(cell.execution_count for cell in kept.cells if cell.cell_type == "code")
    assert path.stat().st_size < 400_000
    run = nbformat.read(path, as_version=4)
    NotebookClient(run, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for before, after in zip(kept.cells, run.cells, strict=True):
        assert shown(before) == shown(after)


def shown(cell: Any) -> str:
    """The words that a cell shows, in one: printed lines come in one output or in several.

    Numbers depend on the machine; warnings of libraries are not kept.
    """
    words = [words_of(output) for output in cell.get("outputs", []) if output.get("name") != "stderr"]
    return re.sub(r"[-+]?\d[\d.,e+-]*", "#", "".join(words))


def words_of(output: Any) -> str:
    data = output.get("data", {})
    return "picture" if "image/png" in data else str(
        output.get("text") or data.get("text/html") or data.get("text/plain") or "")  # fmt: skip
