"""Runs that were killed or learned nothing are marked wherever their numbers are shown."""

import pytest
from matplotlib.text import Text

from msplora_analysis import analyse, draw_figures
from msplora_analysis.remarks import doubts
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
    words = "1 of 4 runs not finished, 1 like a constant answer"
    assert doubts(doubtful.table, doubtful.runs) == {("minilm", "msplora-8-8-8"): words}


def test_their_pictures_say_so(doubtful):
    def words(figure):
        return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())

    shown = {name: "1 of 4 runs not finished" in words(figure) for name, figure in draw_figures(doubtful)}
    assert shown["fig3"]
    assert shown["fig4-msplora-8-8-8-vs-lora-r8-layer"]
    assert shown["kl-layer"]
    assert not shown["fig4-msplora-8-4-2-vs-lora-r8-layer"]
