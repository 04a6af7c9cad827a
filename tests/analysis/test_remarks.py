"""Runs that were killed or learned nothing are marked wherever their numbers are shown."""

from dataclasses import replace

import pytest
from matplotlib.text import Text

from msplora_analysis import analyse, draw_figures
from msplora_analysis.remarks import doubts, pooling_notes
from msplora_core.runs import RunDirectory


@pytest.fixture
def doubtful(study):
    """A study in which one run of MSPLoRA was killed and another one scores like a constant answer."""
    for seed, changes in ((0, {"finished": None}), (1, {"metric": "accuracy", "constant_score": 0.7})):
        run = RunDirectory(study / "mrpc" / "msplora-8-8-8" / f"seed-{seed}")
        record = run.read_record()
        for name, value in changes.items():
            setattr(record, name, value)
        run.write_record(record)
    run.append_metrics({"epoch": 3.0, "eval_accuracy": 0.7})
    return analyse(study)


def test_methods_with_doubtful_runs_are_named(doubtful):
    words = "1 of 4 runs not finished, 1 no better than a constant answer"
    assert doubts(doubtful.table, doubtful.runs) == {("minilm", "msplora-8-8-8"): words}


def test_their_pictures_say_so(doubtful):
    def words(figure):
        return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())

    shown = {name: "1 of 4 runs not finished" in words(figure) for name, figure in draw_figures(doubtful)}
    assert shown["fig3"]
    assert shown["fig4-msplora-8-8-8-vs-lora-r8-layer"]
    assert shown["kl-layer"]
    assert not shown["fig4-msplora-8-4-2-vs-lora-r8-layer"]


def test_a_note_on_pooling_names_all_modules_that_are_averaged(study):
    one = analyse(study, draws=0).comparisons[0]
    (note,) = pooling_notes([replace(one, pooled_difference=-one.adjacent["difference"])])
    assert note.startswith(f"{one.method} minus {one.baseline}, {one.scale}, query+value: the mean over 4 pairs")


def test_one_exploded_module_and_a_loss_that_blew_up_are_named(tmp_path):
    import numpy as np

    from msplora_analysis import analyse
    from msplora_core.runs import RunDirectory, RunRecord

    for seed in range(3):
        run = RunDirectory(tmp_path / f"mrpc-seed{seed}")
        run.write_record(RunRecord("lora-r2", "minilm", "mrpc", seed, finished="2026-01-01T00:00:00+00:00"))
        spectra = {f"layer/q/{layer}": np.array([2.0, 1.0]) * (1 + layer / 10) for layer in range(5)}
        if seed == 1:
            spectra["layer/q/3"] = spectra["layer/q/3"] * 1e6
        run.write_epoch(1, step=10, spectra=spectra)
        for epoch in (1, 2):
            loss = 1e8 if (seed, epoch) == (2, 2) else 0.5
            run.append_metrics({"epoch": epoch, "step": 10 * epoch, "eval_loss": loss, "eval_accuracy": 0.9})
    notes = analyse(tmp_path, draws=0).notes
    assert [note for note in notes if note.startswith("Broken")] == [
        "Broken, exploded: layer/q/3 of mrpc-seed1: norm 2.91e+06, 1.08e+06 times the median of its kind; do not use "
        "it; train again at a lower learning rate. It dominates every average that includes it.",
        "Broken, the loss blew up: metrics.jsonl of mrpc-seed2: the last eval_loss is 1e+08, the lowest 0.5; do not "
        "use it; train again at a lower learning rate.",
    ]
