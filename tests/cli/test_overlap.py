"""`msplora-analyze overlap`: what it prints, writes and says where something is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from msplora_cli.app import main
from msplora_cli.console import data


def write_adapter(
    folder: Path,
    *,
    seed: int = 0,
    layers: int = 4,
    width: int = 32,
    model: str = "minilm",
    module: str = "query",
    rank: int = 2,
    zero: Collection[int] = (),
) -> Path:
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    name = f"base_model.model.encoder.layer.{{}}.self.{module}.lora_{{}}.weight"
    tensors = {
        name.format(layer, factor): random.standard_normal((width, rank) if factor == "B" else (rank, width))
        * (layer not in zero)
        for layer in range(layers)
        for factor in "AB"
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "base_model_name_or_path": model}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


class Overlap:
    """The command, as a shell would run it."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["msplora-analyze", "overlap", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = self._capsys.readouterr()
        return code, captured.out, " ".join(captured.err.split())


@pytest.fixture
def overlap(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Overlap:
    monkeypatch.setenv("COLUMNS", "80")
    return Overlap(capsys, monkeypatch)


def test_prints_tables_that_fit_and_a_sentence_for_each_module(overlap: Overlap, tmp_path: Path) -> None:
    code, out, err = overlap(write_adapter(tmp_path / "lora"), "--no-figures")
    assert code == 0
    assert "…" not in out
    rows = [line.split() for line in out.splitlines()]
    assert ["module", "all", "groups", "own", "beyond", "chance", "cosine", "bound"] in rows
    assert "query: the layers share nothing (" in out
    assert f"6 files in {tmp_path / 'lora' / 'analysis' / 'overlap'}" in err


def test_adapters_are_held_against_each_other(overlap: Overlap, tmp_path: Path) -> None:
    one, two = write_adapter(tmp_path / "one"), write_adapter(tmp_path / "two", seed=1)
    code, out, _ = overlap(one, "--with", two, "--with", one, "--no-figures", "--out", tmp_path / "out")
    assert code == 0
    assert "one with two: modules most in conflict" in out
    assert "one and two are orthogonal as a whole: cosine" in out
    assert "one and one (again) have equal updates: the same adapter twice." in out
    assert "Cosines between adapters" in out
    assert (tmp_path / "out" / "adapters.csv").read_text().count("\n") == 13
    other = write_adapter(tmp_path / "other", model="bert")
    code, _, err = overlap(one, "--with", other, "--no-figures")
    assert code == 1
    assert "adapts minilm, but" in err
    assert "bert; compare adapters of the same base model; if the names mean the same model, set --model" in err
    assert overlap(one, "--with", other, "--model", "minilm", "--json", "--no-figures")[0] == 0


def test_zero_updates_are_said_and_print_no_nan(overlap: Overlap, tmp_path: Path) -> None:
    one, zero = write_adapter(tmp_path / "one"), write_adapter(tmp_path / "zero", zero=range(4))
    part = write_adapter(tmp_path / "part", seed=1, zero=[2])
    for arguments, words in (
        ((zero,), "query: at most one layer has a nonzero update."),
        ((one, "--with", part), "Opposed: 0 of 3 modules; 1 more has a zero update."),
        ((one, "--with", zero, "--with", part, "--with", one), "Note: zero: every update is zero"),
    ):
        code, out, _ = overlap(*arguments, "--no-figures")
        assert (code, "nan" in out) == (0, False)
        assert words in " ".join(out.split())


def test_no_number_is_cut_in_a_file_or_on_a_narrow_terminal(
    overlap: Overlap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write_adapter(tmp_path / name, seed=seed, module=f"{'long_' * 6}query") for seed, name in enumerate("ab")]
    for columns, longest in (("80", 80), (None, 120)):
        monkeypatch.delenv("COLUMNS") if columns is None else monkeypatch.setenv("COLUMNS", columns)
        data.cache_clear()
        _, out, _ = overlap(paths[0], "--with", paths[1], "--no-figures")
        assert "…" not in out
        assert max(map(len, out.splitlines())) in range(longest - 10, longest + 1)
    data.cache_clear()


def test_pictures_are_drawn(overlap: Overlap, tmp_path: Path) -> None:
    one, two = write_adapter(tmp_path / "one"), write_adapter(tmp_path / "two", seed=1)
    overlap(one, "--with", two, "--out", tmp_path / "out")
    names = {path.stem for path in (tmp_path / "out").glob("*.p*")}
    assert names == {"cosines-lora-r2-layer-query", "phi-lora-r2-layer-query", "phi-one-with-two", "shares"}


def test_a_subspace_of_one_direction_has_no_picture_of_one_cell(overlap: Overlap, tmp_path: Path) -> None:
    one, two = write_adapter(tmp_path / "one", rank=1), write_adapter(tmp_path / "two", seed=1, rank=1)
    overlap(one, "--with", two, "--out", tmp_path / "out")
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == {"cosines-lora-r1-layer-query", "shares"}


def test_json_is_the_summary_and_nothing_else(overlap: Overlap, tmp_path: Path) -> None:
    code, out, _ = overlap(write_adapter(tmp_path / "lora"), "--json", "--no-figures", "--out", tmp_path / "out")
    assert code == 0
    assert out == (tmp_path / "out" / "summary.json").read_text()
    assert json.loads(out)["format"] == "msplora-overlap"


def test_wrong_input_is_one_line(overlap: Overlap, tmp_path: Path) -> None:
    code, out, err = overlap(write_adapter(tmp_path / "one", layers=1), "--no-figures")
    assert (code, out) == (1, "")
    assert "expected two or more layers of a module type" in err
    code, _, err = overlap(write_adapter(tmp_path / "lora"), "--groups", 9)
    assert code == 1
    assert "groups: expected 1 to 4, the number of layers, found 9" in err
    assert overlap(tmp_path / "lora", "--groups", "x")[0] == 2


def test_a_study_fits_80_columns_and_no_number_is_cut_short() -> None:
    from rich.console import Console

    from msplora_cli.overlap_tables import _sharing_table

    numbers = {"shared_by_all": 0.497, "shared_by_groups": 0.358, "own": 0.145, "excess": 0.355,
               "deviation_own": 0.0005, "largest_cosine": 0.747, "cosine_bound": 0.009}  # fmt: skip
    rows = [
        {"model": "minilm", "method": method, "stack": "", "scale": scale, "module": module, "run": method, **numbers}
        for method in ("lora-r14", "msplora-8-8-8-random-labels")
        for scale in ("layer", "total")
        for module in ("query", "value")
    ]
    console = Console(width=80, file=StringIO())
    console.print(_sharing_table(pd.DataFrame(rows)))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("+0.355 ± 0.0005 +0.747 0.009" in " ".join(line.split()) for line in lines) == len(rows)
    assert [line.split()[0] for line in lines if "lora" in line] == ["lora-r14", "msplora-8-8-8"]  # once each
