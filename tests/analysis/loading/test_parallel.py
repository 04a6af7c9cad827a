"""Work in several processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from time import sleep

import pytest
from matplotlib.figure import Figure

from msplora_analysis.loading.parallel import in_processes, while_made
from msplora_analysis.report.pictures import pictures

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only"),
    # other tests leave threads of torch in this process; commands that fork have none (Python 3.12 and later warn)
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)  # with it nothing is forked


def _touched(path: Path) -> str:
    path.touch()
    return path.name


def _appeared(path: Path) -> bool:
    waits = 0
    while waits < 3000 and not path.exists():
        sleep(0.01)
        waits += 1
    return path.exists()


def test_processes_begin_before_their_results_are_wanted(tmp_path: Path) -> None:
    found = in_processes(_touched, [tmp_path / "first", tmp_path / "second"], n_jobs=2)
    assert _appeared(tmp_path / "second")
    assert list(found) == ["first", "second"]


def test_items_are_worked_on_while_others_are_made(tmp_path: Path) -> None:
    def made() -> Iterator[Path]:
        yield tmp_path / "first"
        yield tmp_path / ("second" if _appeared(tmp_path / "first") else "the first was not begun")

    assert list(while_made(_touched, made(), n_jobs=2)) == ["first", "second"]


def test_an_error_of_another_process_arrives(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(while_made(_touched, [tmp_path / "missing" / "file"], n_jobs=2))


def test_pictures_saved_by_other_processes_are_the_same() -> None:
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([1, 2], label=r"$\sigma_1$")
    kinds = ("png", "pdf")
    assert dict(pictures([("one", figure)], 2, kinds)) == dict(pictures([("one", figure)], 1, kinds))
