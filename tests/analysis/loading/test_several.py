"""Several paths in one table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msplora_analysis.loading.several import load_several


def test_a_place_with_several_spellings_is_one_run(make_run: Callable[..., object], tmp_path: Path) -> None:
    for name in ("x", "y"):
        make_run(name)
    x = f"{tmp_path}/x"
    spellings = [x, f"{x}/", f"{tmp_path}/y/../x"]
    assert set(load_several(spellings)["run"]) == {"x"}
    assert list(load_several([*spellings, tmp_path / "y"])["run"].unique()) == [x, str(tmp_path / "y")]
