"""`msplora-analyze svd`: what it prints, writes and says where something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from msplora_cli.app import main
from msplora_cli.console import data
from msplora_core.runs import RunDirectory, RunRecord


def write_run(
    path: Path,
    method: str,
    *,
    fall: float = 0.5,
    model: str = "minilm",
    task: str = "mrpc",
    layers: int = 4,
    stack: str = "",
) -> RunDirectory:
    run = RunDirectory(path)
    run.write_record(
        RunRecord(
            method=method,
            model=model,
            task=task,
            seed=0,
            layers=layers,
            modules=["query"],
            components=[{"key": "layer/query/0", "shape": [64, 64], "stack": stack}] if stack else [],
            finished="2026-01-01T00:00:00+00:00",
        )
    )
    scales = {"layer": layers} if method.startswith("lora") else {"global": 1, "layer": layers, "total": layers}
    for epoch in (0, 1, 2):
        spectra = {
            f"{scale}/query/{unit}": epoch * np.exp(-(0.05 if scale == "global" else 0.2 + fall * unit) * np.arange(4))
            for scale, units in scales.items()
            for unit in range(units)
        }
        run.write_epoch(epoch, step=epoch, spectra=spectra)
    return run


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_run(tmp_path / "study" / "lora", "lora-r4", fall=0.1)
    write_run(tmp_path / "study" / "msplora", "msplora-4-0-4", fall=0.5)
    return tmp_path / "study"


class Svd:
    """The command, as a shell would run it."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        data.cache_clear()  # the console keeps the width that it finds first
        self._monkeypatch.setattr(sys, "argv", ["msplora-analyze", "svd", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = self._capsys.readouterr()
        return code, captured.out, " ".join(captured.err.split())


@pytest.fixture
def svd(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Svd:
    monkeypatch.setenv("COLUMNS", "120")
    return Svd(capsys, monkeypatch)


def test_prints_a_table_and_a_line_for_each_claim(svd: Svd, study: Path) -> None:
    code, out, err = svd(study, "--no-figures")
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert ["method", "scale", "rank", "M_eff-1", "M_eff-2", "entropy", "stable"] in rows
    assert "How concentrated each scale is: 1 run each" in out
    sigma = np.exp(-0.05 * np.arange(4))
    expected = [f"{sigma[0] / sigma.sum():.3f}", f"{sigma[:2].sum() / sigma.sum():.3f}"]
    row = next(row for row in rows if row[:3] == ["msplora-4-0-4", "global", "4"])
    assert row[3:5] == expected
    lines = out.splitlines()
    assert lines[0].split() == ["Claims", "effect", "95%", "interval", "p", "least", "p", "n"]
    place = lines.index("2 MSPLoRA's layers are further apart than LoRA's")
    assert lines[place + 1] == " msplora-4-0-4 layer against lora-r4: in nats"
    assert lines[place + 2].split()[:4] == ["these", "tasks", "not", "decided"]
    assert lines[place + 2].split()[-3:] == ["1", "1", "1"]  # p, least p, n
    assert lines[place + 3].split()[:5] == ["tasks", "like", "these", "cannot", "tell"]
    assert lines[place + 4] == "  next: 6 pairs or more (1 cannot reach p 0.05); train at least two tasks"
    assert place < next(number for number, line in enumerate(lines) if line.startswith("How concentrated"))
    assert "19 files in" in err
    assert str(study / "analysis") in err


def test_the_table_fits_80_columns(svd: Svd, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write_run(study / "random", "msplora-4-0-4-random-labels", fall=0.4)
    _, out, _ = svd(study, "--no-figures")
    tables = [line for line in out.splitlines() if not line.startswith("Note")]
    assert max(map(len, tables)) <= 80
    assert "…" not in out


def test_json_is_the_summary_and_nothing_else(svd: Svd, study: Path) -> None:
    code, out, _ = svd(study, "--json", "--no-figures")
    assert code == 0
    assert out == (study / "analysis" / "summary.json").read_text()
    assert json.loads(out)["format"] == "msplora-analysis"


def test_no_figures_leaves_the_pictures_out(svd: Svd, study: Path, tmp_path: Path) -> None:
    svd(study, "--no-figures", "-o", tmp_path / "tables")
    assert {path.suffix for path in (tmp_path / "tables").iterdir()} == {".csv", ".html", ".json"}
    svd(study, "--no-figures", "--no-report", "--out", tmp_path / "numbers")
    assert {path.suffix for path in (tmp_path / "numbers").iterdir()} == {".csv", ".json"}
    assert not (study / "analysis").exists()
    svd(study, "--out", tmp_path / "all")
    assert {"fig3.png", "fig4-msplora-4-0-4-vs-lora-r4-layer.pdf", "m-eff.png"} <= {
        path.name for path in (tmp_path / "all").iterdir()
    }


def test_the_files_are_the_same_whatever_the_number_of_cores(study: Path, tmp_path: Path) -> None:
    found = []
    for cores in ({0}, {0, 1}):
        code = f"import os; os.sched_getaffinity = lambda _: {cores}; from msplora_cli.app import main; main()"
        out = tmp_path / f"{len(cores)}"
        command = [sys.executable, "-c", code, "svd", str(study), "--no-report", "--out", str(out)]
        subprocess.run(command, check=True, capture_output=True)
        found.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert "m-eff.pdf" in found[0]
    assert found[0] == found[1]


def test_options_reach_the_analysis(svd: Svd, study: Path) -> None:
    _, out, _ = svd(study, "--json", "--no-figures", "--epoch", 1, "--lengths", "own", "--average", "measures")
    content = json.loads(out)
    assert {pair["epoch"] for one in content["comparisons"] for pair in one["pairs"]} == {1}
    assert content["averaging"]["measures"].startswith("each component measured")
    assert content["averaging"]["comparisons"].startswith("KL of each run and module")


def test_a_baseline_elsewhere(svd: Svd, tmp_path: Path) -> None:
    write_run(tmp_path / "mine", "msplora-4-0-4")
    write_run(tmp_path / "its", "lora-r4", fall=0.1)
    _, out, _ = svd(tmp_path / "mine", "--baseline", tmp_path / "its", "--json", "--no-figures")
    assert {one["baseline"] for one in json.loads(out)["comparisons"]} == {"lora-r4"}


def test_without_lora_it_says_how_to_get_it_and_does_the_rest(svd: Svd, tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", "msplora-4-0-4")
    code, out, _ = svd(run.path)
    assert code == 0
    assert "Note: Fig. 4 needs LoRA runs with the same model, task, seed and settings: msplora-analyze train" in out
    assert (run.path / "analysis" / "fig3.png").is_file()


def test_a_damaged_snapshot_is_a_warning(svd: Svd, study: Path) -> None:
    RunDirectory(study / "lora").snapshot_path(1).write_bytes(b"cut off")
    code, out, err = svd(study, "--no-figures")
    assert code == 0
    assert "warning: left out:" in err
    assert "epoch-0001.safetensors: header: expected" in err
    assert "2 MSPLoRA's layers" in out


def test_a_run_that_cannot_be_read_is_told_and_the_exit_code_1(svd: Svd, study: Path) -> None:
    write_run(study / "newer", "lora-r4").record_path.write_text('{"format": "msplora-run", "version": 99}')
    code, out, err = svd(study, "--no-figures")
    assert code == 1
    assert "expected at most 1, found 99; update msplora" in err
    assert "2 MSPLoRA's layers" in out


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"model": "roberta"},
            "error: no run of the baseline has the model of a run to compare: msplora-4-0-4 has model minilm",
        ),
        ({"task": "cola"}, "has task mrpc, the baseline lora-r4 cola"),
        ({"layers": 3}, "has 4 layers (0 to 3) of query, but lora-r4 on minilm 3 (0 to 2)"),
    ],
)
def test_a_baseline_that_does_not_fit(svd: Svd, tmp_path: Path, other: dict[str, object], message: str) -> None:
    write_run(tmp_path / "mine", "msplora-4-0-4")
    write_run(tmp_path / "its", "lora-r4", **other)  # type: ignore[arg-type]
    code, out, err = svd(tmp_path / "mine", "--baseline", tmp_path / "its")
    assert (code, out) == (1, "")
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "mine" / "analysis").exists()


def test_an_empty_folder(svd: Svd, tmp_path: Path) -> None:
    code, out, err = svd(tmp_path)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "expected a run directory (with run.json)" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [["--scale", "mid"], ["--floor", "much"], ["--epoch", "-1"], ["--colour", "red"]])
def test_wrong_usage_is_exit_code_2(svd: Svd, study: Path, options: list[str]) -> None:
    code, out, _ = svd(study, *options)
    assert (code, out) == (2, "")


def test_a_floor_out_of_range_is_named(svd: Svd, study: Path) -> None:
    code, _, err = svd(study, "--floor", "7", "--no-figures")
    assert code == 1
    assert err == "error: floor: expected above 0 and at most 1, or None, found 7.0"


def test_help_has_an_example(svd: Svd) -> None:
    code, out, _ = svd("--help")
    assert code == 0
    assert "msplora-analyze svd runs" in out


def test_two_seeds_of_one_method_by_position(svd: Svd, tmp_path: Path) -> None:
    for side, fall in (("a", 0.1), ("b", 0.2)):
        run = write_run(tmp_path / side, "lora-r4", fall=fall)
        record = run.read_record()
        record.seed = ord(side)
        run.write_record(record)
    code, _, err = svd(tmp_path / "a", "--baseline", tmp_path / "b", "--no-figures")
    assert (code, "--pair position" in err) == (1, True)
    code, out, _ = svd(tmp_path / "a", "--baseline", tmp_path / "b", "--pair", "position", "--no-figures")
    assert code == 0
    assert "lora-r4 in a lora-r4 in b layer" in out


def test_spectra_of_one_value_are_left_out_of_the_table(svd: Svd, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.write_record(RunRecord(method="lora-r1", model="minilm", task="mrpc", seed=0, layers=2, modules=["query"]))
    run.write_epoch(1, step=1, spectra={f"layer/query/{unit}": np.ones(1) for unit in (0, 1)})
    code, out, _ = svd(run.path, "--no-figures")
    assert code == 0
    assert "Spectra of one singular value have no shape" in out
    assert "lora-r1" not in out


def test_a_run_that_was_not_finished_is_marked_in_the_table(svd: Svd, study: Path) -> None:
    run = RunDirectory(study / "lora")
    record = run.read_record()
    record.finished = None
    run.write_record(record)
    _, out, _ = svd(study, "--no-figures")
    assert "lora-r4*" in out.split()
    assert "msplora-4-0-4*" not in out.split()
    assert "* lora-r4: 1 of 1 runs not finished" in out


def test_a_mark_stays_beside_its_method_in_80_columns(
    svd: Svd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    keys = [f"{part}/{module}/{unit}" for module in ("query", "value") for part, units in (("global", 1), ("layer", 4))
            for unit in range(units)]  # fmt: skip
    components = [{"key": key, "shape": [64, 64], "stack": "encoder 64x64" if "query" in key else "encoder 32x64"}
                  for key in keys]  # fmt: skip
    run = RunDirectory(tmp_path / "run")
    run.write_record(RunRecord("msplora-8-4-2", "minilm", "mrpc", 0, layers=4, components=components))
    run.write_epoch(1, step=1, spectra={key: np.exp(-0.2 * np.arange(16)) for key in keys})
    _, out, _ = svd(tmp_path, "--no-figures", "--no-report")
    assert [line.split()[0] for line in out.splitlines() if "*" in line] == 2 * ["msplora-8-4-2*"] + ["*"]
    assert "How concentrated each scale is: 64x64, 1 run" in out


def test_tables_for_a_paper(svd: Svd, study: Path, tmp_path: Path) -> None:
    code, _, _ = svd(study, "--no-figures", "--latex", "--out", tmp_path / "out")
    assert code == 0
    assert {path.stem for path in (tmp_path / "out").glob("*.tex")} == {"measures", "comparisons", "claims"}
    text = (tmp_path / "out" / "measures.tex").read_text()
    assert text.count("\\toprule") == text.count("\\bottomrule") == 1
    assert r"method & scale & rank & M\_eff-1 & M\_eff-2" in text
    assert "σ" not in (tmp_path / "out" / "claims.tex").read_text()
    assert "<!doctype html>" in (tmp_path / "out" / "report.html").read_text().lower()


def test_draws_of_the_null_are_chosen_and_shown(svd: Svd, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "lora-r4", fall=0.1, stack="encoder 64x64")
    _, out, _ = svd(run.path, "--no-figures", "--draws", 30)
    assert "null: mean of 30 draws of random factors of the same shape (seed 0)" in " ".join(out.split())
    assert "Note: lora-r4: null of random factors" in out
    content = json.loads((run.path / "analysis" / "summary.json").read_text())
    assert {(row["draws"], row["null_seed"], row["null"]) for row in content["nulls"]} == {(30, 0, "gaussian")}
    _, out, _ = svd(run.path, "--no-figures", "--draws", 0)
    assert "null" not in out


def test_what_cannot_be_told_of_any_stack_is_said_once(svd: Svd, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shapes = {"query": (24, 24), "value": (16, 24)}
    parts = {f"{module}/{layer}": module for module in shapes for layer in range(4)}
    for method, scales in (("lora-r4", ("layer",)), ("msplora-4-0-2", ("global", "layer"))):
        run = RunDirectory(tmp_path / "study" / method)
        keys = {f"{scale}/{part}": module for scale in scales for part, module in parts.items()
                if scale == "layer" or part.endswith("/0")}  # fmt: skip
        components = [{"key": key, "shape": list(shapes[module]), "stack": f"encoder {shapes[module][0]}x24"}
                      for key, module in keys.items()]  # fmt: skip
        run.write_record(RunRecord(method, "minilm", "mrpc", 0, layers=4, modules=list(shapes), components=components))
        ranks = {"global": 4, "layer": 4 if method == "lora-r4" else 2}
        spectra = {key: np.sort(random.uniform(1, 2, ranks[key.split("/")[0]]))[::-1].copy() for key in keys}
        run.write_epoch(1, step=1, spectra=spectra)
    _, out, _ = svd(tmp_path / "study", "--no-figures", "--no-report", "--draws", "0")
    told = [line for line in out.splitlines() if line.startswith("Cannot tell")]
    assert [line.partition(":")[0] for line in told] == [
        "Cannot tell 1a, 1b for msplora-4-0-2", "Cannot tell 2 for msplora-4-0-2"
    ]  # fmt: skip
    assert " lora-r4 (16x24)" in out
