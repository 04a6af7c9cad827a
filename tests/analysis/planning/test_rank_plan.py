"""Plans from spectra: their numbers, their controls, and what cannot be planned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from msplora_analysis import load_spectra, plan_ranks
from msplora_core.errors import ParameterError
from tests.analysis.conftest import write_run

MNLI = Path(__file__).parents[3] / "../shared/adapters/microsoft-roberta-base-mnli"


def table_of(spectra: dict[tuple[str, int], list[float]], *, run: str = "a", stack: str = "layer 8x8", **more: object):
    rows = [
        {"run": run, "epoch": 1.0, "step": 9, "scale": "layer", "stack": stack, "module": module, "unit": unit,
         "rank": len(sigma), "k": k, "sigma": value}
        for (module, unit), sigma in spectra.items()
        for k, value in enumerate(sigma, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**{"model": "m", "method": "lora-r3", "task": "t", "seed": 0, **more})


TWO = {("query", 0): [3.0, 2.0, 0.1], ("value", 0): [1.0, 0.5, 0.4]}


def test_a_probe_has_the_ranks_that_it_ends_with() -> None:
    """AdaLoRA prunes while it trains."""
    first, last = table_of(TWO), table_of({key: sigma[:2] for key, sigma in TWO.items()}, epoch=2.0, step=18)
    plan = plan_ranks(pd.concat([first, last]), mean_rank=1)
    assert plan.modules["rank_before"].tolist() == [2, 2]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return load_spectra(MNLI, alpha=16)


@pytest.mark.skipif(not MNLI.is_dir(), reason="the adapters of others are not beside the checkout")
class TestMNLI:
    def test_the_optimum_beside_the_uniform_plan(self, table) -> None:
        plan = plan_ranks(table, mean_rank=4)
        assert plan.loss == pytest.approx(0.066, abs=5e-4)
        assert plan.uniform_loss == pytest.approx(0.091, abs=5e-4)
        assert plan.worst == ("value 0", pytest.approx(0.488, abs=5e-4))
        assert plan.modules["parameters"].sum() == 4 * 24 * 1536
        assert plan.uniform_rank == pytest.approx(4)

    def test_each_module_by_its_own_energy_loses_less_in_the_worst(self, table) -> None:
        plan = plan_ranks(table, mean_rank=4, per_module=True)
        assert plan.worst[1] < 0.2
        assert plan_ranks(table, mean_rank=4).loss < plan.loss < plan.uniform_loss

    def test_by_default_it_keeps_95_percent_with_the_fewest_ranks(self, table) -> None:
        plan = plan_ranks(table)
        assert plan.loss <= 0.05
        fewer = plan_ranks(table, parameters=plan.modules["parameters"].sum() - 1)
        assert fewer.loss > 0.05

    def test_shuffled_has_the_same_ranks_on_other_modules(self, table) -> None:
        plan = plan_ranks(table, mean_rank=4)
        shuffled = plan.shuffled(1)
        assert sorted(shuffled.modules["rank"]) == sorted(plan.modules["rank"])
        assert (shuffled.modules["rank"] != plan.modules["rank"]).any()
        assert shuffled.loss > plan.loss
        assert plan.shuffled(1).modules.equals(shuffled.modules)


def test_a_budget_in_parameters_ranks_or_shares_is_one() -> None:
    plans = [plan_ranks(table_of(TWO), **one) for one in ({"mean_rank": 2}, {"parameters": 64}, {"keep": 2 / 3})]
    assert [plan.modules["rank"].tolist() for plan in plans] == [[2, 2]] * 3


def test_a_rank_costs_what_its_matrix_costs() -> None:
    wide = pd.concat(
        [table_of({("up", 0): [2.0, 2.0]}, stack="layer 90x10"), table_of({("q", 0): [1.0, 1.0]}, stack="layer 5x5")]
    )
    plan = plan_ranks(wide, parameters=120)
    assert dict(zip(plan.modules["module"], plan.modules["rank"], strict=True)) == {"up": 1, "q": 2}


def test_energy_of_each_module() -> None:
    plan = plan_ranks(table_of(TWO), energy=0.95)
    assert plan.modules["rank"].tolist() == [2, 3]
    assert (plan.modules["kept"] >= 0.95).all()


def test_a_least_rank_of_0_leaves_modules_out() -> None:
    plan = plan_ranks(table_of({("query", 0): [3.0, 2.0], ("value", 0): [0.1, 0.0]}), mean_rank=1, least=0)
    assert plan.modules["rank"].tolist() == [2, 0]
    assert plan.worst == ("value 0", 1.0)


def test_runs_count_the_same_whatever_their_size() -> None:
    other = {("query", 0): [1.0, 0.0, 0.0], ("value", 0): [3.0, 2.9, 0.1]}
    both = pd.concat(
        [table_of(TWO), table_of({key: [1e6 * one for one in sigma] for key, sigma in other.items()}, run="b", seed=1)]
    )
    small = pd.concat([table_of(TWO), table_of(other, run="b", seed=1)])
    assert plan_ranks(both, mean_rank=2).modules["rank"].equals(plan_ranks(small, mean_rank=2).modules["rank"])


def test_stability_over_seeds_tasks_and_epochs(study: Path) -> None:
    table = load_spectra(study)
    plan = plan_ranks(table[table["method"] == "lora-r8"], mean_rank=4)
    found = plan.stability.set_index("over")
    assert found.loc["seeds", "pairs"] == 2
    assert found.loc["tasks", "pairs"] == 4
    assert found.loc["epochs", "pairs"] == 8
    assert ((found["least"] <= found["mean"]) & (found["mean"].abs() <= 1)).all()
    same = pd.concat([table_of(TWO), table_of(TWO, run="b", seed=1)])
    assert plan_ranks(same, mean_rank=2.5).stability["mean"].tolist() == [pytest.approx(1)]


def test_ranks_of_a_pyramid_per_scale_and_module_type(study: Path) -> None:
    table = load_spectra(study)
    plan = plan_ranks(table[table["method"] == "msplora-8-4-2"], keep=0.5)
    assert plan.modules["scale"].tolist() == ["global", "global", "mid", "mid", "layer", "layer"]
    assert plan.modules["rank_before"].tolist() == [8, 8, 4, 4, 2, 2]
    assert plan.modules["energy"].sum() == pytest.approx(1)
    assert plan.modules["unit"].isna().all()


def test_runs_without_shapes_are_planned_by_ranks(tmp_path: Path) -> None:
    write_run(tmp_path / "run")  # its record lists no components
    table = load_spectra(tmp_path / "run")
    plan = plan_ranks(table, mean_rank=4)
    assert plan.modules["rank"].mean() == 4
    assert plan.modules["parameters"].isna().all()
    assert "shapes of some modules are unknown" in plan.notes[0]
    with pytest.raises(ParameterError, match="parameters: expected spectra with the shapes of their modules"):
        plan_ranks(table, parameters=1000)


def test_modules_that_use_up_the_probe_are_named() -> None:
    plan = plan_ranks(table_of({("query", 0): [1.0, 1.0], ("value", 3): [1.0, 0.01]}), mean_rank=1.5)
    assert plan.notes == [
        "1 of 2 modules use all ranks of the probe (query 0). A plan cannot give them more: train a probe of "
        "higher rank if they matter."
    ]


def test_an_exploded_module_is_said_since_it_takes_the_ranks() -> None:
    spectra = {("query", layer): [1.0 + layer, 0.5, 0.1] for layer in range(5)}
    spectra["query", 2] = [3e6, 1e6, 1e5]
    assert (
        plan_ranks(table_of(spectra), mean_rank=2)
        .notes[0]
        .startswith("Broken, exploded: layer/query/2 of a: norm 3.16e+06, ")
    )


def test_zero_runs_are_left_out_and_said() -> None:
    zero = table_of({key: [0.0] * 3 for key in TWO}, run="b", seed=1)
    plan = plan_ranks(pd.concat([table_of(TWO), zero]), mean_rank=2)
    assert plan.notes[-1] == "b: left out, since all updates are zero."
    with pytest.raises(ParameterError, match="expected trained updates"):
        plan_ranks(zero, mean_rank=2)


def test_repr_says_what_it_costs_and_markup_is_escaped() -> None:
    plan = plan_ranks(table_of(TWO), mean_rank=2)
    assert repr(plan).startswith("Plan(2 modules, ranks 2 to 2, mean 2; loses")
    assert "<table" in plan._repr_html_()
    assert np.isfinite(plan.gains).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mean_rank": 0.5},
            "mean_rank: expected from 1, rank 1 for each module, to 3, the ranks that are there, found 0.5",
        ),
        ({"mean_rank": 4}, "mean_rank: expected from 1, .* to 3, the ranks that are there, found 4"),
        ({"parameters": 31}, "parameters: expected from 32, rank 1 for each module, to 96,"),
        ({"mean_rank": float("nan")}, "mean_rank: expected from 1"),
        ({"keep": 1.5}, "keep: expected a share above 0 and at most 1, found 1.5"),
        ({"keep": 0.1}, "keep: expected from 0.333333, rank 1 for each module, to 1,"),
        ({"energy": 0.0}, "energy: expected a share above 0 and at most 1, found 0.0"),
        ({"least": -1}, "least: expected at least 0, found -1"),
        ({"least": 4}, "least: expected at most 3, the highest rank that is there, found 4"),
        ({"least": 4, "mean_rank": 3}, "least: expected at most 3, the highest rank that is there, found 4"),
        (
            {"mean_rank": 2, "keep": 0.5},
            "mean_rank, parameters, keep, energy: expected at most one of these, found mean_rank, keep",
        ),
        ({"energy": 0.9, "per_module": True}, "per_module: expected a budget for all modules together, found energy"),
    ],
)
def test_budgets_that_cannot_be_met_are_one_line(options: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        plan_ranks(table_of(TWO), **options)


def test_runs_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ParameterError, match="runs of one method, found lora-r3, lora-r8; give the run dir"):
        plan_ranks(pd.concat([table_of(TWO), table_of(TWO, run="b", method="lora-r8")]))
    with pytest.raises(ParameterError, match="adapt the same modules, with the same scales, found others in b"):
        plan_ranks(pd.concat([table_of(TWO), table_of({("query", 0): [1.0, 0.5, 0.1]}, run="b", seed=1)]))
