"""The picture of a plan shows the plan's numbers, beside equal ranks."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.text import Text

from msplora_analysis import load_spectra, plan_ranks, plot_plan
from msplora_analysis.report.plan_pictures import write_plan_picture
from msplora_core.errors import ParameterError


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_ranks_and_energies_by_layer(make_run):
    plan = plan_ranks(load_spectra(make_run(method="lora-r8").path), mean_rank=4)
    axes = plot_plan(plan.modules, plan.uniform_rank, title="Planned ranks")
    assert len(axes) == 4  # query and value
    rows = plan.modules[plan.modules["module"] == "query"]
    ranks, kept = axes[:2]
    before, planned = ranks.containers
    assert [bar.get_height() for bar in before] == rows["rank_before"].tolist()
    assert [bar.get_height() for bar in planned] == rows["rank"].tolist()
    assert ranks.lines[0].get_ydata()[0] == plan.uniform_rank == 4
    assert kept.lines[0].get_ydata().tolist() == rows["kept_uniform"].tolist()
    assert kept.lines[1].get_ydata().tolist() == rows["kept"].tolist()
    assert [label.get_text() for label in axes[3].get_xticklabels()] == list("012345")
    assert [ax.get_title(loc="left") for ax in axes[::2]] == ["query", "value"]
    assert [text.get_text() for text in axes[-1].get_legend().get_texts()] == ["equal", "planned"]


def test_shared_scales_have_their_names(make_run):
    plan = plan_ranks(load_spectra(make_run(method="msplora-8-4-2").path), mean_rank=2)
    axes = plot_plan(plan.modules, plan.uniform_rank)
    assert [label.get_text() for label in axes[0].get_xticklabels()] == ["global", "mid", "layer"]


def test_many_module_types_are_cut_to_those_with_most_energy():
    rows = [("layer", f"m{kind}", 0, 8, 4, kind, 0.9, 0.8) for kind in range(12)]
    columns = ["scale", "module", "unit", "rank_before", "rank", "energy", "kept", "kept_uniform"]
    modules = pd.DataFrame(rows, columns=columns)
    axes = plot_plan(modules, 4.0)
    assert [ax.get_title(loc="left") for ax in axes[::2]] == [f"m{kind}" for kind in range(2, 12)]
    words = " ".join(text.get_text().replace("\n", " ") for text in axes[0].figure.findobj(Text))
    assert "2 module types of less energy are left out" in words
    with pytest.raises(ParameterError, match="ax: expected 20 axes, two a module type, found 1"):
        plot_plan(modules, 4.0, ax=axes[:1])


def test_it_is_written_beside_the_plan(make_run, tmp_path):
    plan = plan_ranks(load_spectra(make_run(method="lora-r8").path), mean_rank=4)
    assert [path.name for path in write_plan_picture(plan, tmp_path / "plan")] == ["plan.png", "plan.pdf"]
