"""The code in the README runs, and gives what it says."""

import re
from pathlib import Path

import numpy as np
import pytest

from msplora_analysis import entropy_rank
from msplora_core.runs import RunDirectory, RunRecord

README = Path(__file__).parents[1] / "README.md"
METHODS = {"lora-r4": 0.1, "msplora-4-4-4": 0.9}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two methods with two seeds each, whose spectra are far apart."""
    for method, fall in METHODS.items():
        for seed in (0, 1):
            run = RunDirectory(tmp_path / "runs" / f"{method}-{seed}")
            run.write_record(RunRecord(method=method, model="minilm", task="mrpc", seed=seed, layers=3))
            for epoch in (0, 1 + seed):  # runs end at different epochs
                run.write_epoch(epoch, step=epoch, spectra={f"layer/query/{i}": spectrum(fall, i) for i in range(3)})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spectrum(fall: float, layer: int) -> np.ndarray:
    return np.exp(-(fall + 0.05 * layer) * np.arange(4))


def test_the_notebook_snippet_averages_each_method_alone(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    (snippet,) = [block for block in blocks if 'load_spectra("runs")' in block]
    names: dict[str, object] = {}
    exec(compile(snippet, str(README), "exec"), names)
    printed = " ".join(capsys.readouterr().out.split())
    for method, fall in METHODS.items():
        expected = entropy_rank(np.array([spectrum(fall, layer) for layer in range(3)]))
        assert f"('minilm', '{method}', '') {expected}" in printed
