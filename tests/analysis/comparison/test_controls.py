"""Random labels stand beside the numbers that they are the control of."""

import numpy as np
import pandas as pd
import pytest

from msplora_analysis import analyse, write_analysis
from msplora_analysis.comparison.controls import CONTROLS, beside_controls, control_means
from msplora_analysis.report.tables import text_tables
from tests.analysis.conftest import write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("controls")
    for task in ("mrpc", "stsb"):
        for seed in (0, 1):
            for method in ("lora-r8", "msplora-8-8-8"):
                write_run(path / task / method / f"seed-{seed}", method, task=task, seed=seed)
    for method in ("lora-r8-random-labels", "msplora-8-8-8-random-labels"):
        write_run(path / "mrpc" / method, method, task="mrpc", seed=1)
    return path


@pytest.fixture(scope="module")
def analysis(folder):
    return analyse(folder, draws=0)


def of(analysis, method, scale="layer"):
    return next(one for one in analysis.comparisons if (one.method, one.scale) == (method, scale))


def test_the_pair_of_the_same_task_and_seed_has_them(analysis):
    pairs = of(analysis, "msplora-8-8-8").pairs.set_index(["task", "seed"])
    of_method = of(analysis, "msplora-8-8-8-random-labels").pairs.iloc[0]
    of_baseline = of(analysis, "lora-r8-random-labels").pairs.iloc[0]
    assert pairs.loc[("mrpc", 1), CONTROLS[0]] == of_method["adjacent_kl"]
    assert pairs.loc[("mrpc", 1), CONTROLS[1]] == of_baseline["adjacent_kl"]
    assert pairs[list(CONTROLS)].notna().sum().tolist() == [1, 1]
    ours, theirs, difference = control_means(of(analysis, "msplora-8-8-8"))
    assert difference == ours - theirs == of_method["adjacent_kl"] - of_baseline["adjacent_kl"]


def test_without_controls_nothing_is_added(study):
    comparisons = analyse(study, draws=0).comparisons
    assert not any(set(CONTROLS) & set(one.pairs) for one in comparisons)
    assert all(np.isnan(control_means(one)).all() for one in comparisons)
    assert beside_controls([]) == []


def test_the_table_has_them_below_and_no_row_of_a_control(analysis):
    table = next(one for one in text_tables(analysis) if one.name == "comparisons")
    names = [row[0] for row in table.rows]
    assert names == ["msplora-8-8-8", "  random labels"] * 2
    ours, theirs, difference = control_means(of(analysis, "msplora-8-8-8"))
    assert table.rows[1][3:6] == (f"{ours:.2g}", f"{theirs:.2g}", f"{difference:+.2g}")
    assert "random labels: both methods trained on permuted labels, on mrpc." in table.key


def test_files_and_verdicts_have_them(analysis, tmp_path):
    write_analysis(analysis, tmp_path, report=False)
    kl = pd.read_csv(tmp_path / "kl.csv").set_index(["method", "scale", "layer_from", "layer_to"])
    beside = kl.loc[("msplora-8-8-8", "layer", 0, 1), "kl_random_labels"]
    assert beside == kl.loc[("msplora-8-8-8-random-labels", "layer", 0, 1), "kl"] > 0
    assert np.isnan(kl.loc[("msplora-8-8-8-random-labels", "layer", 0, 1), "kl_random_labels"])
    ours, theirs, _ = control_means(of(analysis, "msplora-8-8-8"))
    claims = [one for one in analysis.claims if one.number == "2" and one.scale == "layer"]
    words = f"KL of adjacent layers with random labels {ours:.3g} of msplora-8-8-8, {theirs:.3g} of lora-r8"
    assert [words in answer.null for answer in claims[0].verdicts] == [True, True]
