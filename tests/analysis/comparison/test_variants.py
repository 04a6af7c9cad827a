"""Only replicates are averaged: runs that differ in task or seed."""

import numpy as np
import pytest

from msplora_analysis import analyse, load_spectra
from msplora_analysis.comparison.variants import separate_variants


def methods(folder):
    table, notes = separate_variants(load_spectra(folder))
    return dict(table[["run", "method"]].drop_duplicates().astype(str).itertuples(index=False, name=None)), notes


def test_runs_that_differ_in_task_or_seed_are_replicates(study):
    table = load_spectra(study)
    separated, notes = separate_variants(table)
    assert separated is table
    assert notes == []


def test_runs_with_other_modules_are_measured_apart(make_run, tmp_path):
    make_run("study/a", modules=("query",))
    for seed in (1, 2):
        make_run(f"study/b{seed}", modules=("query", "value"), seed=seed)
    names, notes = methods(tmp_path / "study")
    assert names == {"a": "lora-r8 (a)", "b1": "lora-r8 (query, value)", "b2": "lora-r8 (query, value)"}
    assert notes == ["lora-r8: runs that adapt other modules or layers are not replicates; measured separately"]
    final = analyse(tmp_path / "study").final
    layer = final[final["scale"] == "layer"].set_index("method")["runs"]
    assert dict(layer) == {"lora-r8 (a)": 1, "lora-r8 (query, value)": 2}


def test_runs_with_other_layers_are_measured_apart(make_run, tmp_path):
    for seed in (0, 1):
        make_run(f"study/short{seed}", layers=3, seed=seed)
        make_run(f"study/long{seed}", layers=6, seed=seed)
    names, _ = methods(tmp_path / "study")
    assert names["short0"] == names["short1"] == "lora-r8 (query, value, 3 layers from 0)"
    assert names["long0"] == names["long1"] == "lora-r8 (query, value, 6 layers from 0)"


def test_two_runs_of_one_task_and_seed_are_no_replicates(make_run, tmp_path):
    """A sweep of learning rates: nothing says that its runs are one."""
    for name in ("lr-1e-3", "lr-1e-4"):
        make_run(f"study/{name}", "msplora-8-8-8")
    make_run("study/lora")
    names, (note,) = methods(tmp_path / "study")
    assert names["lr-1e-3"] == "msplora-8-8-8 (lr-1e-3)"
    assert names["lora"] == "lora-r8"
    assert (
        "2 runs with the same task and seed are not replicates (lr-1e-3, lr-1e-4); each is measured separately" in note
    )
    found = analyse(tmp_path / "study")
    assert {(one.method, one.baseline, len(one.pairs)) for one in found.comparisons} == {
        ("msplora-8-8-8 (lr-1e-3)", "lora-r8", 1), ("msplora-8-8-8 (lr-1e-4)", "lora-r8", 1)}  # fmt: skip


def test_a_variant_gives_what_it_gives_alone(make_run, tmp_path):
    alone = analyse(make_run("study/a", modules=("query",)).path).layers[0]
    make_run("study/b", modules=("query", "value"))
    together = next(one for one in analyse(tmp_path / "study").layers if one.method == "lora-r8 (a)")
    np.testing.assert_array_equal(together.kl, alone.kl)


@pytest.mark.parametrize("again", [1, 2])
def test_telling_apart_twice_changes_nothing(make_run, tmp_path, again):
    make_run("study/a", modules=("query",))
    make_run("study/b")
    table = load_spectra(tmp_path / "study")
    for _ in range(again):
        table, _ = separate_variants(table)
    assert set(table["method"]) == {"lora-r8 (a)", "lora-r8 (b)"}
