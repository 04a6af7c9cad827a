"""The whole of `analyse` and `write_analysis` on synthetic studies, against values computed here."""

import json

import numpy as np
import pandas as pd
import pytest

from msplora_analysis import SkippedWarning, analyse, draw_figures, load_spectra, summarise, write_analysis
from msplora_core.errors import ComparisonError, FileError, ParameterError, RunDirectoryError, UnsupportedAdapterError
from msplora_core.runs import RunDirectory, RunRecord


@pytest.fixture
def analysis(study):
    return analyse(study)


def test_fig_3s_data_are_the_averaged_singular_values(study, analysis):
    for method, scale, rank in [("msplora-8-4-2", "global", 8), ("msplora-8-8-8", "layer", 8), ("lora-r8", "layer", 8)]:
        runs = [RunDirectory(path.parent) for path in study.rglob("run.json") if path.parent.parent.name == method]
        assert len(runs) == 4
        for epoch in range(4):
            snapshots = [next(s for s in run.snapshots() if s.epoch == epoch) for run in runs]
            own = [sigma for s in snapshots for key, sigma in s.spectra.items() if key.startswith(scale)]
            mean = np.mean(own, axis=0)
            rows = analysis.spectra.query("method == @method and scale == @scale and time == @epoch")
            assert len(rows) == rank
            np.testing.assert_allclose(rows["sigma"], mean)
            if epoch:
                np.testing.assert_allclose(rows["m_eff"][:-1], (np.cumsum(mean) / mean.sum())[:-1])


def test_both_scales_are_compared_and_one_claimed(analysis):
    assert {(one.method, one.scale) for one in analysis.comparisons} == {
        (method, scale) for method in ("msplora-8-4-2", "msplora-8-8-8") for scale in ("layer", "total")
    }
    assert [(claim.number, claim.subject) for claim in analysis.claims] == [
        ("1a", "msplora-8-4-2"), ("1a", "msplora-8-8-8"), ("1b", "msplora-8-4-2"), ("1b", "msplora-8-8-8"),
        ("2", "msplora-8-4-2"), ("2", "msplora-8-8-8 layer against lora-r8"), ("2a", "lora-r8"), ("2b", "lora-r8"),
    ]  # fmt: skip


def test_a_run_that_has_only_begun_is_left_out_by_name(make_run, study, analysis):
    make_run("study/begun", "lora-r8", seed=2, epochs=0)
    make_run("study/other", "msplora-8-8-8", seed=2)
    found = analyse(study)
    assert "Left out, since nothing is trained yet: begun. Finish it." in found.notes
    assert "begun" not in set(found.table["run"])
    assert all(np.isfinite(one.difference).all() for one in found.comparisons)
    assert [len(one.pairs) for one in found.comparisons] == [len(one.pairs) for one in analysis.comparisons]
    assert list(found.findings["run"]) == ["begun"]


def test_without_lora_it_says_how_to_get_it(make_run):
    found = analyse(make_run("a", "msplora-8-8-8", task="stsb", seed=3).path)
    assert found.comparisons == []
    assert found.notes[:1] == [
        "Fig. 4 needs LoRA runs with the same model, task, seed and settings: msplora-analyze train --method lora "
        "--model minilm --task stsb --seed 3 --out RUNS, then svd again with --baseline RUNS"
    ]
    assert [claim.number for claim in found.claims] == ["1a", "1b"]


def test_lora_alone_says_that_there_is_nothing_to_compare(make_run):
    found = analyse(make_run("a").path)
    assert found.notes[:1] == ["only LoRA runs: Fig. 4 needs another method to compare with them"]
    assert [claim.number for claim in found.claims] == ["2a", "2b"]


def test_a_baseline_elsewhere_gives_what_one_beside_gives(make_run, tmp_path):
    mine = make_run("study/a", "msplora-8-8-8")
    its = make_run("other/a")
    (layer, _total) = analyse(mine.path, baseline=its.path).comparisons
    make_run("study/b")
    (expected, _) = analyse(tmp_path / "study").comparisons
    np.testing.assert_array_equal(layer.difference, expected.difference)


def test_a_baseline_elsewhere_replaces_those_beside(study, make_run):
    found = analyse(study / "mrpc", baseline=make_run("other/b", "lora-r4").path)
    assert {(one.method, one.baseline) for one in found.comparisons} == {
        ("lora-r8", "lora-r4"), ("msplora-8-4-2", "lora-r4"), ("msplora-8-8-8", "lora-r4")}  # fmt: skip
    assert {claim.method for claim in found.claims if claim.number == "2"} == {"msplora-8-4-2", "msplora-8-8-8"}


def test_a_baseline_of_another_model_is_refused(make_run):
    mine, its = make_run("a", "msplora-8-8-8"), make_run("b", model="roberta")
    with pytest.raises(ComparisonError, match="msplora-8-8-8 has model minilm, the baseline lora-r8 roberta"):
        analyse(mine.path, baseline=its.path)


def test_a_lora_run_beside_that_does_not_fit_is_a_note(make_run, tmp_path):
    make_run("study/a", "msplora-8-8-8")
    make_run("study/b", layers=4)
    found = analyse(tmp_path / "study")
    assert found.comparisons == []
    assert "has 6 layers (0 to 5) of query, but lora-r8 on minilm 4" in found.notes[0]


def test_runs_that_end_at_different_epochs_are_said_so(make_run, tmp_path):
    make_run("study/a", "msplora-8-8-8", epochs=3)
    make_run("study/b", "msplora-8-8-8", epochs=1, seed=1)
    found = analyse(tmp_path / "study")
    assert any("runs end between epoch 1 and 3; each is compared at its last" in note for note in found.notes)
    ends = found.trajectory[found.trajectory["scale"] == "layer"].set_index("time")["runs"]
    assert dict(ends) == {0: 2, 1: 2, 2: 1, 3: 1}
    assert set(found.spectra["clock"]) == {"epoch"}


def test_an_epoch_can_be_chosen(study):
    early, late = analyse(study, epoch=1), analyse(study)
    assert {int(epoch) for one in early.comparisons for epoch in one.pairs["epoch"]} == {1}
    assert not early.final.equals(late.final)


def test_runs_without_the_chosen_epoch_are_named(make_run, tmp_path):
    make_run("study/short", epochs=1)
    make_run("study/long", seed=1)
    make_run("others/brief", seed=1, epochs=1)
    make_run("others/long", epochs=2)
    found = analyse(tmp_path / "study", baseline=tmp_path / "others", pair="position", epoch=2)
    left_out = [note for note in found.notes if "left out" in note]
    assert sorted(left_out) == [
        f"runs without a snapshot of epoch 2 are left out: {name}" for name in ("brief", "short")
    ]
    (ends,) = (note for note in found.notes if "runs end between" in note)
    assert "is compared at its last" not in ends
    assert not any("left out" in note for note in analyse(tmp_path / "study").notes)


def test_an_epoch_that_is_not_there_is_refused(study):
    with pytest.raises(ParameterError, match="epoch: expected a recorded epoch, of 0 to 3, found 9"):
        analyse(study, epoch=9)


def test_epoch_0_alone_is_no_distribution(make_run, tmp_path):
    make_run("study/a", "msplora-8-8-8", epochs=0)
    make_run("study/b", epochs=0)
    found = analyse(tmp_path / "study")
    assert found.final["entropy_rank"].isna().all()
    assert {claim.verdict.verdict for claim in found.claims} == {"cannot tell"}
    assert found.nulls.empty
    write_analysis(found, figures=draw_figures(found))


def test_summary_is_strict_json_with_all_of_it(study, analysis):
    content = json.loads(json.dumps(summarise(analysis), allow_nan=False))
    assert list(content) == [
        "format",
        "version",
        "path",
        "reading",
        "averaging",
        "runs",
        "measures",
        "measures_by_run",
        "measure_means",
        "layers",
        "comparisons",
        "spread",
        "nulls",
        "interference",
        "scores",
        "findings",
        "claims",
        "notes",
        "skipped",
        "failed",
    ]
    assert len(content["runs"]) == 12
    assert content["runs"][0] == {
        "run": "mrpc/lora-r8/seed-0", "method": "lora-r8", "model": "minilm", "task": "mrpc", "seed": 0,
        "epochs": 4, "last_epoch": 3, "finished": True, "metric": "", "score": None, "constant": None}  # fmt: skip
    layer = next(m for m in content["measures"] if m["method"] == "msplora-8-4-2" and m["scale"] == "layer")
    assert layer["m_eff_2"] is None
    assert layer["m_eff_1"] == pytest.approx(
        analysis.final.query("method == 'msplora-8-4-2' and scale == 'layer'")["m_eff_1"].item()
    )
    assert {(c["method"], c["scale"]) for c in content["comparisons"]} == {
        (one.method, one.scale) for one in analysis.comparisons
    }
    assert len(content["comparisons"][0]["pairs"]) == 4
    assert len(content["comparisons"][0]["kl"]) == 6


def test_files_are_those_that_the_docstring_lists(study, analysis):
    written = write_analysis(analysis, figures=draw_figures(analysis))
    pictures = ["fig3", "measures", "m-eff", "kl-layer"]
    pictures += [f"fig4-{method}-vs-lora-r8-layer" for method in ("msplora-8-4-2", "msplora-8-8-8")]
    tables = [
        "spectra.csv",
        "trajectory.csv",
        "courses.csv",
        "course-means.csv",
        *(f"{name}-means.csv" for name in ("spectra", "trajectory", "layer-spectra", "kl", "kl-difference")),
        "measures.csv",
        "measures-by-run.csv",
        "measure-means.csv",
        "kl.csv",
        "kl-difference.csv",
        "pairs.csv",
        "cells.csv",
        "claims.csv",
        "spread.csv",
    ]
    expected = {f"{name}.{kind}" for name in pictures for kind in ("png", "pdf")}
    expected |= {*tables, "report.html", "summary.json"}
    assert {path.name for path in written} == expected
    assert {path.name for path in (study / "analysis").iterdir()} == expected
    assert written[-1].name == "summary.json"
    for path in (study / "analysis").glob("*.pdf"):
        assert b"/FontFile2" in path.read_bytes()
        assert b"/Type3" not in path.read_bytes()


def test_tables_hold_the_figures_data(study, analysis, tmp_path):
    write_analysis(analysis, tmp_path / "out")
    difference = pd.read_csv(tmp_path / "out" / "kl-difference.csv")
    one = analysis.comparisons[0]
    rows = difference.query("method == @one.method and baseline == @one.baseline and scale == @one.scale")
    matrix = rows.pivot(index="layer_from", columns="layer_to", values="difference").to_numpy()
    np.testing.assert_allclose(matrix, one.difference, rtol=1e-12)
    assert set(rows["rule"]) == {one.rule}
    assert set(rows["modules"]) == {"query+value"}
    spectra = pd.read_csv(tmp_path / "out" / "spectra.csv")
    np.testing.assert_allclose(spectra["sigma"], analysis.spectra["sigma"], rtol=1e-12)
    assert len(pd.read_csv(tmp_path / "out" / "pairs.csv")) == 4 * len(analysis.comparisons)


def test_writing_again_gives_the_same_bytes_and_is_not_read_as_a_run(make_run, tmp_path):
    make_run("study/a")
    study = tmp_path / "study"

    def written():
        found = analyse(study)
        return {path.name: path.read_bytes() for path in write_analysis(found, figures=draw_figures(found))}

    assert written() == written()
    assert load_spectra(study)["run"].nunique() == 1


def test_a_folder_that_cannot_be_written_to(analysis, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"file/out: expected a folder that can be written to, .*; choose another with"):
        write_analysis(analysis, tmp_path / "file" / "out")


def test_damage_is_told_and_the_rest_analysed(study):
    path = RunDirectory(study / "mrpc" / "lora-r8" / "seed-0").snapshot_path(2)
    path.write_bytes(b"cut off")
    with pytest.warns(SkippedWarning):
        found = analyse(study)
    assert len(found.skipped) == 1
    assert "epoch-0002" in found.skipped[0]
    assert found.failed == []
    lora = found.spectra.query("method == 'lora-r8'")
    assert dict(lora[(lora["k"] == 1) & (lora["scale"] == "layer")].set_index("time")["runs"]) == {
        0: 4,
        1: 4,
        2: 3,
        3: 4,
    }
    write_analysis(found, figures=draw_figures(found))


def test_two_models_are_kept_apart(make_run, tmp_path):
    for model, layers in (("minilm", 6), ("org/roberta", 12)):
        for method in ("lora-r8", "msplora-8-8-8"):
            make_run(f"study/{model}/{method}", method, model=model, layers=layers)
    found = analyse(tmp_path / "study")
    assert {(one.model, len(one.layers)) for one in found.comparisons} == {("minilm", 6), ("org/roberta", 12)}
    names = {path.name for path in write_analysis(found, figures=draw_figures(found))}
    assert {"fig3-org_roberta.png", "fig3-minilm.png", "m-eff-minilm.pdf"} <= names


def test_an_empty_run_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(RunDirectoryError):
        analyse(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_stacks_and_shapes_of_a_run_are_pictures_apart(tmp_path):
    modules = {"encoder.q": [8, 8], "decoder.q": [8, 8], "decoder.v": [4, 8]}
    run = RunDirectory(tmp_path / "run")
    run.write_record(
        RunRecord(
            "lora-r2", "t5", modules=list(modules),
            components=[{"key": f"layer/{name}/{unit}", "rank": 2, "shape": shape, "layers": [unit]}
                        for name, shape in modules.items() for unit in range(3)],
        )
    )  # fmt: skip
    spectra = {f"layer/{name}/{unit}": np.array([2.0 + unit, 1.0]) for name in modules for unit in range(3)}
    run.write_epoch(1, step=1, spectra=spectra)
    found = {one.modules for one in analyse(run.path).layers if one.scale == "layer"}
    assert found == {("encoder.q",), ("decoder.q",), ("decoder.v",)}


def test_one_method_is_compared_with_its_own_seeds_by_position(make_run, tmp_path):
    for side, seed in (("a", 0), ("b", 1)):
        make_run(f"{side}/run", seed=seed)
    (one,) = analyse(tmp_path / "a", baseline=tmp_path / "b", pair="position").comparisons
    assert (one.method, one.baseline) == ("lora-r8 in a", "lora-r8 in b")
    assert list(one.pairs[["run", "run_baseline"]].iloc[0]) == ["run", "run"]
    with pytest.raises(ComparisonError, match=r"has seed 0, the baseline .* 1; .*--pair position"):
        analyse(tmp_path / "a", baseline=tmp_path / "b")
    with pytest.raises(ParameterError, match="pair: expected 'task-seed' unless a baseline is given"):
        analyse(tmp_path / "a", pair="position")


def test_the_table_the_figure_and_the_claim_show_one_number(study):
    for average in ("spectra", "measures"):
        found = analyse(study, average=average)
        one = next(one for one in found.comparisons if (one.method, one.scale) == ("msplora-8-8-8", "layer"))
        claim = next(claim for claim in found.claims if (claim.number, claim.method) == ("2", "msplora-8-8-8"))
        (written,) = [c for c in summarise(found)["comparisons"] if (c["method"], c["scale"]) == (one.method, "layer")]
        assert claim.verdict.effect == pytest.approx(one.adjacent["difference"])
        assert claim.verdict.effect == pytest.approx(one.pairs["difference"].mean())
        assert written["difference"] == pytest.approx(claim.verdict.effect)
        assert claim.verdict.n == len(one.pairs) == 4
        figure = dict(draw_figures(found))["fig4-msplora-8-8-8-vs-lora-r8-layer"]
        texts = [text.get_text().replace("\n", " ") for text in figure.texts]
        shown = f"mean {claim.verdict.effect:+.3g} nats".replace("-", "−")
        assert any(shown in text for text in texts)
        assert any("4 pairs of runs" in text for text in texts)


def test_measures_by_run_average_only_over_modules_and_units(study, analysis):
    layer = analysis.by_run[(analysis.by_run["scale"] == "layer") & (analysis.by_run["method"] == "lora-r8")]
    assert len(layer) == 4
    assert set(layer["components"]) == {12}
    assert set(layer["runs"]) == {1}


def test_it_shows_itself_in_a_notebook(study, analysis):
    assert repr(analysis) == f"Analysis(3 methods, 12 runs, 4 comparisons, 8 claims, 2 notes; {study})"
    html = analysis._repr_html_()
    assert "msplora-8-8-8" in html
    assert "Claim 2" in html


def test_names_from_files_are_escaped_in_a_notebook(make_run):
    html = analyse(make_run("a", "msplora-8-8-8", model="<script>alert(1)</script>").path)._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_runs_without_spectra_are_a_note_unless_there_are_no_others(make_run, tmp_path):
    study = make_run("lora-r8", seed=0).path.parent
    run = RunDirectory(study / "mrpc-bitfit-seed0")
    run.write_record(RunRecord(method="bitfit", model="tiny", task="mrpc", seed=0, no_spectra="no weight changes"))
    run.write_epoch(0, step=0, spectra={})
    table = load_spectra(study)
    assert "bitfit" not in set(table["method"])
    assert table.attrs["failed"] == []
    assert "BitFit has no spectra: no weight changes." in analyse(study, draws=0).notes
    with pytest.raises(UnsupportedAdapterError, match="BitFit has no spectra: no weight changes"):
        load_spectra(run.path)
