"""Averages and measures of the spectra table, against plain numpy."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from msplora_analysis import average_spectra, last_epochs, load_spectra, measure
from msplora_core.errors import ParameterError


def spectra(table, **where):
    """(n, rank): the spectra of the rows with these values."""
    for column, value in where.items():
        table = table[table[column] == value]
    return table["sigma"].to_numpy().reshape(-1, int(table["rank"].iloc[0]))


def test_singular_values_are_averaged_then_measured(study):
    table = load_spectra(study)
    measured = measure(table).set_index(["method", "epoch", "scale"])
    for method, scale in [("lora-r8", "layer"), ("msplora-8-4-2", "global"), ("msplora-8-8-8", "mid")]:
        mean = spectra(table, method=method, epoch=3, scale=scale).mean(axis=0)
        row = measured.loc[method, 3, scale]
        assert row["components"] == len(spectra(table, method=method, epoch=3, scale=scale))
        assert row["m_eff_1"] == pytest.approx(mean[0] / mean.sum())
        assert row["m_eff_2"] == pytest.approx(mean[:2].sum() / mean.sum())
        assert row["entropy_rank"] == pytest.approx(np.exp(scipy.stats.entropy(mean)))
        assert row["stable_rank"] == pytest.approx((mean**2).sum() / mean[0] ** 2)


def test_measures_can_be_averaged_instead(study):
    table = load_spectra(study)
    measured = measure(table, average="measures").set_index(["method", "epoch", "scale"])
    each = spectra(table, method="lora-r8", epoch=2, scale="layer")
    row = measured.loc["lora-r8", 2, "layer"]
    assert row["entropy_rank"] == pytest.approx(np.exp(scipy.stats.entropy(each, axis=-1)).mean())
    assert row["m_eff_4"] == pytest.approx((each[:, :4].sum(axis=-1) / each.sum(axis=-1)).mean())
    first = measure(table).set_index(["method", "epoch", "scale"]).loc["lora-r8", 2, "layer"]
    assert row["entropy_rank"] != pytest.approx(first["entropy_rank"], rel=1e-6)


def test_a_ratio_at_or_above_the_rank_says_nothing(study):
    measured = measure(last_epochs(load_spectra(study))).set_index(["method", "scale"])
    assert measured.loc[("msplora-8-4-2", "layer"), ["m_eff_2", "m_eff_4", "m_eff_8"]].isna().all()
    assert measured.loc[("msplora-8-4-2", "mid"), ["m_eff_4", "m_eff_8"]].isna().all()
    assert np.isnan(measured.loc[("lora-r8", "layer"), "m_eff_8"])
    assert measured.loc[("msplora-8-4-2", "total"), "m_eff_8"] < 1


@pytest.mark.parametrize("average", ["spectra", "measures"])
def test_names_come_in_the_order_of_their_numbers(average):
    one = pd.DataFrame({"epoch": 1, "step": 1, "scale": "layer", "stack": "", "module": "q", "unit": 0, "rank": 1,
                        "k": 1, "sigma": 1.0}, index=[0])  # fmt: skip
    table = pd.concat(one.assign(run=name, method=name) for name in ("lora-r16", "lora-r2", "lora-r8"))
    for kind in ("str", "category"):
        found = measure(table.astype({"method": kind}), by=["method"], average=average)["method"]
        assert list(found) == ["lora-r2", "lora-r8", "lora-r16"]


def test_a_column_of_objects_that_are_no_names_is_sorted_by_value():
    one = {"run": "a", "k": 1, "rank": 1, "sigma": 1.0}
    table = pd.DataFrame([one | {"fold": (10,)}, one | {"fold": (2,)}])
    assert list(average_spectra(table, by=["fold"])["fold"]) == [(2,), (10,)]


def test_scales_come_from_global_to_total(study):
    scales = measure(load_spectra(study)).query("method == 'msplora-8-8-8' and epoch == 1")["scale"]
    assert list(scales) == ["global", "mid", "layer", "total"]


@pytest.mark.parametrize("average", ["spectra", "measures"])
def test_zero_spectra_have_no_measures(study, average):
    measured = measure(load_spectra(study), average=average)
    before = measured[measured["epoch"] == 0]
    assert (
        before[["m_eff_1", "entropy_rank", "stable_rank", "participation_ratio", "energy_rank_90"]]
        .isna()
        .all(axis=None)
    )


def test_other_columns_can_be_kept_apart(study):
    table = last_epochs(load_spectra(study))
    measured = measure(table, ["method", "task", "seed", "scale", "module", "unit"])
    one = measured.query(
        "method == 'lora-r8' and task == 'mrpc' and seed == 1 and scale == 'layer' and module == 'value'"
    )
    assert list(one["unit"]) == list(range(6))
    assert (one["components"] == 1).all()


def test_averages_carry_shares_and_ratios(study):
    averaged = average_spectra(load_spectra(study), ["method", "epoch", "scale"])
    part = averaged.query("method == 'lora-r8' and epoch == 3 and scale == 'layer'")
    np.testing.assert_allclose(part["share"], part["sigma"] / part["sigma"].sum())
    np.testing.assert_allclose(part["m_eff"][:-1], np.cumsum(part["share"])[:-1])
    assert np.isnan(part["m_eff"].iloc[-1])


def test_unequal_ranks_are_never_averaged_with_each_other():
    def component(unit, rank):
        return pd.DataFrame({"run": "a", "epoch": 1, "step": 9, "scale": "layer", "stack": "", "module": "q",
                             "unit": unit, "rank": rank, "k": range(1, rank + 1), "sigma": 1.0})  # fmt: skip

    table = pd.concat([component(0, 2), component(1, 4), component(2, 4)])
    measured = measure(table, ["scale"])
    assert list(measured["rank"]) == [2, 4]
    assert list(measured["components"]) == [1, 2]
    np.testing.assert_allclose(measured["entropy_rank"], [2, 4])


def test_an_unknown_seed_is_kept(make_run):
    table = load_spectra(make_run(seed=None).path)
    assert len(measure(table, ["seed", "epoch", "scale"])) == 8


def test_order_of_rows_does_not_matter(study):
    table = last_epochs(load_spectra(study))
    shuffled = table.sample(frac=1, random_state=0)
    for average in ("spectra", "measures"):
        pd.testing.assert_frame_equal(measure(shuffled, average=average), measure(table, average=average))


def test_last_epochs_are_each_runs_own(make_run, tmp_path):
    make_run("study/a", epochs=3)
    make_run("study/b", epochs=1, seed=1)
    table = load_spectra(tmp_path / "study")
    last = last_epochs(table)
    assert dict(last.groupby("run", observed=True)["epoch"].unique().map(list)) == {"a": [3], "b": [1]}


def test_a_part_of_a_spectrum_is_refused(study):
    table = load_spectra(study)
    with pytest.raises(ParameterError, match="table: expected whole spectra: each k from 1 to"):
        measure(table[table["k"] <= 1])


def test_a_missing_column_is_named(study):
    with pytest.raises(ParameterError, match="table: expected a column colour, found run, method"):
        measure(load_spectra(study), ["colour"])


def test_an_empty_table_is_refused(study):
    with pytest.raises(ParameterError, match="table: expected at least one spectrum, found no rows"):
        measure(load_spectra(study).iloc[:0])


def test_an_unknown_average_is_refused(study):
    with pytest.raises(ParameterError, match="average: expected 'spectra' or 'measures', found both"):
        measure(load_spectra(study), average="both")
