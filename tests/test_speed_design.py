"""What makes it fast, held without a clock."""

from __future__ import annotations

import atexit
import gc
import json
import tracemalloc
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from fontTools.ttLib import TTFont
from matplotlib.figure import Figure
from peft import get_peft_model
from safetensors.numpy import save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from msplora_analysis import analyse, direction_overlaps, draw_figures, load_spectra
from msplora_analysis.plots.paper import new_figure, offscreen, paper_style
from msplora_analysis.report import summary, writing
from msplora_analysis.report.pictures import saved
from msplora_analysis.statistics import differences, power
from msplora_cli.app import main
from msplora_core.adapter import MSPLoraConfig
from msplora_core.formats.peft.configuration import PeftConfig
from msplora_core.linalg import LowRankUpdate
from msplora_core.runs import RunDirectory, RunRecord

OUT, IN = 40, 24


class Products(TorchDispatchMode):
    """The shapes of all matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm):
            self.shapes.append(tuple(result.shape))
        return result


def test_the_scales_of_an_adapted_layer_are_one_product_and_the_update_is_never_formed() -> None:
    layers = nn.ModuleList(nn.ModuleDict({"query": nn.Linear(IN, OUT)}) for _ in range(3))
    config = MSPLoraConfig(ranks=(4, 2, 1), groups=3, target_modules=["query"], lora_dropout=0.1)
    layer = get_peft_model(nn.ModuleDict({"layers": layers}), config).base_model.model["layers"][0]["query"]
    x = torch.randn(2, 7, IN, requires_grad=True)
    with Products() as forward:
        y = layer(x)
    assert len(forward.shapes) == 3  # the base, A, B
    with Products() as backward:
        y.sum().backward()
    assert len(backward.shapes) == 5  # for x through the base and A, for the hidden values, for A, for B
    assert not {(OUT, IN), (IN, OUT)} & {*forward.shapes, *backward.shapes}


def test_an_adapter_of_any_size_takes_little_memory(tmp_path: Path) -> None:
    """Some 32 MB at once, as float32 and as a batch, whatever there is on the disk."""
    factor = np.random.default_rng(0).standard_normal((32, 4096), dtype=np.float32)
    name = "base_model.model.layers.{}.q_proj.lora_{}.weight"
    tensors = {
        name.format(i, part): value for i in range(96) for part, value in (("A", factor), ("B", factor.T.copy()))
    }
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 32, "lora_alpha": 32}')
    del tensors
    tracemalloc.start()
    try:
        table = load_spectra(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == 96 * 32
    assert peak < 64e6 < (tmp_path / "adapter_model.safetensors").stat().st_size


def test_overlaps_have_the_singular_vectors_of_one_side_in_memory() -> None:
    factor = np.random.default_rng(0).standard_normal((16, 2048))
    updates = [LowRankUpdate(factor.T, factor)] * 16
    tracemalloc.start()
    try:
        found = direction_overlaps(updates)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    one_side = 16 * factor.nbytes
    assert one_side < peak < one_side + 3 * found.outputs.nbytes + 4 * factor.nbytes


def test_a_command_ends_without_a_search_for_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit = list[Any]()
    monkeypatch.setattr(atexit, "register", at_exit.append)
    monkeypatch.setattr("sys.argv", ["msplora-analyze", "--version"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert at_exit == [gc.freeze]


def test_the_configuration_of_an_adapter_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    factors = {"A": np.eye(2, 6), "B": np.eye(6, 2)}
    names = {f"base_model.model.layers.0.q_proj.lora_{part}.weight": value for part, value in factors.items()}
    save_file(names, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 64, "alpha_pattern": {"k_proj": 1}})
    )
    read, content = list[Path](), PeftConfig.read
    monkeypatch.setattr(PeftConfig, "read", lambda path: read.append(path) or content(path))
    table = load_spectra(tmp_path)
    assert {finding.kind for _, finding in table.attrs["findings"]} == {"unusual scaling", "pattern without module"}
    assert read == [tmp_path / "adapter_config.json"]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for method in ("lora-r2", "msplora-2-2-2"):
        for task in ("mrpc", "sst2"):
            run = RunDirectory(tmp_path / f"{method}-{task}")
            run.write_record(RunRecord(method=method, model="minilm", task=task, seed=0))
            scales = ["layer"] if method == "lora-r2" else ["global", "layer", "total"]
            for epoch in (0, 1, 2):
                spectra = {f"{scale}/q/{i}": epoch * np.array([2.0 + i, 1.0]) for scale in scales for i in range(4)}
                run.write_epoch(epoch, step=epoch, spectra=spectra)
    return tmp_path


def test_svd_makes_its_summary_once(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        return summary.summarise(*arguments, **options)

    monkeypatch.setattr(summary, "to_json", lambda analysis: json.dumps(counted(analysis)))
    monkeypatch.setattr(writing, "to_json", summary.to_json)
    monkeypatch.setattr("sys.argv", ["msplora-analyze", "svd", str(study), "--json", "--no-figures", "--no-report"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert json.loads(capsys.readouterr().out)["format"] == summary.FORMAT
    assert calls == [1]


def test_pictures_estimate_no_power(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They show means and intervals; how many runs would decide stands with the claims."""
    analysis = analyse(study)
    monkeypatch.setattr(power, "tasks_needed", None)
    monkeypatch.setattr(differences, "pairs_needed", None)
    names = [name for name, _ in draw_figures(analysis)]
    assert "fig4-msplora-2-2-2-vs-lora-r2-layer" in names
    assert any(name.startswith("m-eff") for name in names)


def test_a_pdf_embeds_its_fonts_without_the_tables_that_it_does_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    read, read_table = list[str](), TTFont._readTable

    def recorded(font: TTFont, tag: str) -> Any:
        read.append(tag)
        return read_table(font, tag)

    monkeypatch.setattr(TTFont, "_readTable", recorded)
    figure = Figure()
    figure.text(0.5, 0.5, "office AVAIL")
    assert b"/CIDFontType2" in saved(figure, "pdf")
    assert "glyf" in read
    assert not {"GDEF", "GPOS", "GSUB", "kern", "post"} & set(read)
    assert ("cmap" in read) == (matplotlib.__version_info__ < (3, 11))


def test_titles_are_not_measured_against_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    with offscreen(), paper_style():
        ax = new_figure(2.0).add_subplot(title="title", ylabel="label")
    place = ax.title.get_position()
    monkeypatch.setattr(type(ax.yaxis), "get_tightbbox", None)
    saved(ax.figure, "png")
    assert ax.title.get_position() == place
