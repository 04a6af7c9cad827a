"""The tables for the terminal and for a paper: each number says whose it is and which question it answers."""

from dataclasses import replace

import pandas as pd
import pytest

from msplora_analysis import analyse
from msplora_analysis.report.claim_texts import claims_table, named
from msplora_analysis.report.latex import latex_tables
from msplora_analysis.report.tables import text_tables
from msplora_analysis.statistics.claims import Claim

ODD = r"x~y^z{a}\b"


@pytest.fixture
def analysis(make_run, tmp_path):
    for model in ("minilm", ODD):
        for seed in (0, 1):
            make_run(f"study/{len(model)}-{seed}-a", "lora-r8", model=model, seed=seed, epochs=1)
            make_run(f"study/{len(model)}-{seed}-b", "msplora-8-4-2", model=model, seed=seed, epochs=1)
    courses = pd.DataFrame(
        [
            (model, "msplora-8-4-2", "mrpc", seed, f"{model}-{seed}", "scales", "global-mid", epoch, 0.1 * seed)
            for model in ("minilm", ODD) for seed in (0, 1) for epoch in (0, 1)
        ],
        columns=["model", "method", "task", "seed", "run", "between", "pair", "epoch", "cosine"],
    )  # fmt: skip
    return replace(analyse(tmp_path / "study", draws=0), interference=courses)


def test_models_have_tables_of_their_own(analysis):
    titles = [table.title for table in text_tables(analysis)]
    for start in ("How concentrated", "How far apart", "Do scales and layers move"):
        of = [title for title in titles if title.startswith(start)]
        assert ["minilm" in title for title in of] == [True, False]
        assert [ODD in title for title in of] == [False, True]
    rows = [row[:4] for row in claims_table(analysis.claims).rows]
    assert len(rows) == len(set(rows))


def test_a_stack_is_named_where_its_model_has_several():
    several = [Claim("2a", "lora-r8", *place) for place in (("a", "h 8x8"), ("a", "h 4x8"), ("b", "layers 8x8"))]
    assert [named(claim, several) for claim in several] == ["lora-r8 (a, 8x8)", "lora-r8 (a, 4x8)", "lora-r8 (b)"]


def test_the_rule_of_unlike_ranks_is_said_of_each_row(analysis):
    table = next(one for one in text_tables(analysis) if one.name == "comparisons")
    assert [row[2] for row in table.rows] == ["layer†1", "total†2"]
    assert "†1 Ranks differ, and no verdict rests on it: common leading 2 singular values.\n" in table.key
    assert table.key.endswith("†2 Ranks differ, and no verdict rests on it: common leading 8 singular values.")


def test_claims_for_a_paper_say_what_they_are_about(analysis):
    table = claims_table(analysis.claims)
    assert "cannot tell" not in {row[3] for row in table.rows}
    assert "2: MSPLoRA's layers are further apart than LoRA's." in table.key
    assert "Cannot tell 2 for msplora-8-4-2" in table.key
    assert "lora-r8 (minilm)" in {row[1] for row in table.rows}
    assert {row[5].split()[-1] for row in table.rows} == {"nats"}  # the unit of the effect


def test_latex_takes_any_text_and_every_label_once(analysis):
    texts = dict(latex_tables(analysis))
    assert r": x\textasciitilde{}y\textasciicircum{}z\{a\}\textbackslash{}b. KL" in texts["comparisons-2"]
    assert r"& $>$ 0 & cells \\" in texts["comparisons"]
    assert all(f"\\label{{tab:{name}}}" in text for name, text in texts.items())
    assert not any(sign in text for text in texts.values() for sign in "σ†–·↑")
