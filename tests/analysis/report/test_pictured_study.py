"""What pictures say of the runs that they show."""

import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.text import Text
from safetensors.numpy import save_file

from msplora_analysis import analyse, draw_figures

_SHAPES = {"query": "64x64", "value": "32x64"}


def with_stacks(run):
    """A run whose module types have shapes of their own."""
    record, spectra = run.read_record(), next(run.snapshots()).spectra
    run.write_record(replace(record, components=[
        {"key": key, "shape": [64, 64], "stack": f"model.layers {_SHAPES[key.split('/')[1]]}"} for key in spectra
    ]))  # fmt: skip


def titles_of(analysis, **options):
    """The words of each picture, lines joined."""
    return {
        name: " ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))
        for name, figure in draw_figures(analysis, **options)
    }


def test_titles_of_many_doubtful_methods_count_their_runs(make_run, tmp_path):
    for method in ("lora-r2", "lora-r4", "lora-r8"):
        make_run(f"study/{method}", method)
        killed = make_run(f"study/{method}-killed", method, seed=1)
        killed.write_record(replace(killed.read_record(), finished=None))
    shown = titles_of(analyse(tmp_path / "study", draws=0))
    assert "1 of 2 runs not finished: LoRA r=2; LoRA r=4; LoRA r=8" in shown["fig3"]


def test_the_title_of_fig_4_counts_the_runs_compared(make_run, tmp_path):
    make_run("study/a", "msplora-8-8-8")
    for seed in range(3):
        run = make_run(f"study/b{seed}", "lora-r8", seed=seed)
        run.write_record(replace(run.read_record(), finished=None))
    shown = titles_of(analyse(tmp_path / "study", draws=0))["fig4-msplora-8-8-8-vs-lora-r8-layer"]
    assert "1 pair of runs" in shown
    assert "1 of 1 runs not finished: LoRA r=8" in shown


def test_pictures_by_task_say_that_their_colours_are_their_own(study):
    shown = titles_of(analyse(study, draws=0), by="task")
    by = {name: words for name, words in shown.items() if "-by-task-" in name}
    assert {name.partition("-")[0] for name in by} == {"fig3", "kl"}
    assert all("this picture has its own colour scale" in words for words in by.values())


def test_random_weights_are_said_to_be_no_more_in_the_title(tmp_path):
    random = np.random.default_rng(0)
    factors = {
        f"base_model.model.layers.{layer}.q_proj.lora_{side}.weight": random.normal(size=shape)
        for layer in range(4)
        for side, shape in (("A", (4, 64)), ("B", (64, 4)))
    }
    save_file(factors, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    shown = titles_of(analyse(tmp_path))
    assert "no different from chance" in shown["spectra-lora-r4"]
    assert "entropy rank within 95% of the rotation null (B and A aligned at random)" in shown["spectra-lora-r4"]
    assert "base unknown" in shown["spectra-lora-r4"]


def test_stacks_of_one_list_of_layers_are_named_by_their_modules(make_run, tmp_path):
    for method in ("lora-r2", "lora-r4"):
        with_stacks(make_run(f"study/{method}", method))
    shown = titles_of(analyse(tmp_path / "study", draws=0))
    assert all(f"LoRA r={rank}, {module}" in shown["fig3"] for rank in (2, 4) for module in _SHAPES)
    assert "LoRA r=2, value" in shown["kl-layer"].replace(" LoRA", "LoRA")
    assert not any("model.layers" in words for words in shown.values())


@pytest.mark.parametrize(("ranks", "names"), [((2, 8), [""]), (range(2, 13), ["-query", "-value"])])
def test_methods_are_side_by_side_in_one_picture_of_all_stacks_or_of_each(ranks, names, make_run, tmp_path):
    methods = ["msplora-4-4-2", "msplora-8-4-2", *(f"lora-r{rank}" for rank in ranks)]
    for method in methods:
        with_stacks(make_run(f"study/{method}", method))
    figures = {name: figure for name, figure in draw_figures(analyse(tmp_path / "study", draws=0)) if "fig3" in name}
    assert sorted(figures) == [f"fig3{name}" for name in names]
    headings = {ax.get_title(loc="left") for figure in figures.values() for ax in figure.axes} - {""}
    assert len(headings) == 2 * (2 if len(names) == 1 else 1)
    panels = [ax for figure in figures.values() for ax in figure.axes if ax.images]
    assert len(panels) == 2 * (2 * 3 + len(ranks))
    assert len({ax.images[0].get_clim() for ax in panels}) == 1
    for figure in figures.values():
        figure.canvas.draw()
        assert figure.get_figheight() < 10
        assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in figure.findobj(Text))


def test_more_methods_than_rows_of_a_picture_have_further_pictures(make_run, tmp_path):
    for rank in range(2, 9):
        make_run(f"study/{rank}", f"msplora-{rank}-{rank}-{rank}", layers=3, epochs=2)
    shown = titles_of(analyse(tmp_path / "study", draws=0))
    assert [name for name in shown if "fig3" in name] == ["fig3", "fig3-2"]
    assert "Singular values over training: MSPLoRA 8/8/8" in shown["fig3-2"]


def test_runs_of_unknown_task_are_no_tasks_in_titles(tmp_path):
    for rank in (2, 4):
        factors = {
            f"base_model.model.layers.{layer}.q_proj.lora_{side}.weight": np.eye(*shape) * (layer + 1)
            for layer in range(4)
            for side, shape in (("A", (rank, 64)), ("B", (64, rank)))
        }
        (tmp_path / f"rank{rank}").mkdir()
        save_file(factors, tmp_path / f"rank{rank}" / "lora.safetensors")
    shown = titles_of(analyse(tmp_path, draws=0))
    assert "Singular values by layer (base unknown, 1 run each; q_proj)" in shown["spectra"]
    alone = titles_of(analyse(tmp_path / "rank2", draws=0))
    assert "Singular values by layer: LoRA r=2, lora (base unknown, 1 run; q_proj)" in alone["spectra-lora-r2"]
