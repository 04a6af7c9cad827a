"""Does MSPLoRA remove redundancy that LoRA has? On tables of what runs share."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import sem, t

from msplora_analysis.directions.redundancy import excess_by_method, redundancy

PAIRS = [(task, seed) for task in ("cola", "mrpc") for seed in (0, 1, 2)]


def sharing(lora: float, own: float, pairs: list[tuple[str, int]] = PAIRS, model: str = "minilm") -> pd.DataFrame:
    """A row a run, scale and module; LoRA of rank 2 shares `lora`, the layers' own components of 8/4/2 share `own`."""
    rows = []
    for place, (task, seed) in enumerate(pairs):
        for method, scale, rank, excess in (("lora-r2", "layer", 2, lora), ("msplora-8-4-2", "layer", 2, own),
                                            ("msplora-8-4-2", "total", 14, 0.6)):  # fmt: skip
            for module in ("query", "value"):
                run = f"{model}/{task}-{method}-{seed}"
                rows.append((run, method, model, task, seed, scale, module, rank, excess + place / 1000, 0.001))
    columns = ["run", "method", "model", "task", "seed", "scale", "module", "rank", "excess", "deviation_own"]
    return pd.DataFrame(rows, columns=columns)


def test_less_in_every_pair_is_borne_out() -> None:
    (answer,) = redundancy(sharing(0.3, 0.1), {})
    assert (answer.verdict.verdict, answer.baseline, answer.verdict.n) == ("borne out", "lora-r2", 6)
    assert [round(one, 12) for one in answer.differences] == [0.2] * 6
    assert "share 0.3025 more of their energy (+0.3000 to +0.3050), the layers' own" in str(answer)


def test_the_excess_of_a_method_has_intervals_over_runs_and_over_tasks() -> None:
    row = excess_by_method(sharing(0.3, 0.1)).set_index(["method", "scale"]).loc["lora-r2", "layer"]
    runs = 0.3 + np.arange(6) / 1000
    for name, values in (("", runs), ("tasks_", runs.reshape(2, 3).mean(axis=1))):
        low, high = t.interval(0.95, len(values) - 1, values.mean(), sem(values))
        np.testing.assert_allclose(row[["excess", f"{name}low", f"{name}high"]].astype(float), [runs.mean(), low, high])


def test_more_in_every_pair_is_contradicted() -> None:
    (answer,) = redundancy(sharing(0.1, 0.3), {})
    assert answer.verdict.verdict == "contradicted"


def test_where_lora_shares_nothing_there_is_nothing_to_remove() -> None:
    (answer,) = redundancy(sharing(0.001, 0.0), {})
    assert answer.verdict.verdict == "contradicted"
    assert answer.verdict.reason.endswith("in every run: nothing to remove")


def test_without_lora_of_that_rank_it_says_what_to_train() -> None:
    table = sharing(0.3, 0.1)
    (answer,) = redundancy(table.assign(rank=table["rank"].where(table["method"] != "lora-r2", 8)), {})
    assert answer.verdict.verdict == "cannot tell"
    assert "train --method lora --rank 2 --model minilm --task cola --task mrpc" in answer.verdict.next_step


def test_each_model_is_named_and_one_pair_has_no_range() -> None:
    both = pd.concat([sharing(0.3, 0.1, [("cola", 0)], model) for model in ("minilm", "roberta")], ignore_index=True)
    said = [str(answer) for answer in redundancy(both, {})]
    assert [text.partition(" (")[0].partition(" for ")[2] for text in said] == [
        "msplora-8-4-2 on minilm", "msplora-8-4-2 on roberta"]  # fmt: skip
    assert all("share 0.3000 more of their energy, the layers' own" in text for text in said)
