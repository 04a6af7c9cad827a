"""`msplora-analyze demo`, made small."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

import msplora_cli.demo
from msplora_cli.app import main
from msplora_core.runs import RunDirectory


def test_nine_runs_and_both_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    small = tmp_path / "small.toml"
    small.write_text(
        msplora_cli.demo._STUDY.read_text().replace(
            "epochs = 6", "epochs = 2\nmax_train_examples = 16\nmax_eval_examples = 8"
        )
    )
    monkeypatch.setattr(msplora_cli.demo, "_STUDY", small)
    monkeypatch.setattr(sys, "argv", ["msplora-analyze", "demo", "--out", str(tmp_path / "demo")])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    assert caught.value.code in (0, None), err
    names = [
        f"{task}-{method}-seed0"
        for task in ("acceptability", "paraphrase", "similarity")
        for method in ("lora-r8", "msplora-8-4-2", "msplora-8-8-8")
    ]
    runs = sorted(path.parent.name for path in (tmp_path / "demo").glob("*/run.json"))
    assert runs == sorted(names)
    assert all(RunDirectory(tmp_path / "demo" / name).read_record().finished for name in names)
    assert "[9/9]" in err
    analysis = tmp_path / "demo" / "analysis"
    assert (analysis / "summary.json").is_file()
    assert list((analysis / "acceptability").glob("fig3*.png"))
    assert list(analysis.glob("*.png"))
    assert not pd.read_csv(next(analysis.glob("*.csv"))).empty
    assert "msplora-8-4-2" in out
    assert f"files in {analysis / 'acceptability'}" in out  # the first task's table, while the others train
