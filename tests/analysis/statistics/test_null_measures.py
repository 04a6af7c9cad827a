"""Nulls beside measures: the same averaging, draw by draw, against draws averaged by hand."""

import numpy as np
import pandas as pd
import pytest

from msplora_analysis import gaussian_null, last_epochs, load_spectra, measure, null_measures, rotation_null
from msplora_core.runs import RunDirectory, RunRecord
from msplora_core.runs.snapshot import Snapshot

BY = ["model", "method", "stack", "scale"]
KEYS = [f"layer/{module}/{layer}" for module in ("q", "v") for layer in range(3)]


def write(path, *, seed=0, factors=True, shape=(64, 32), rank=4, scaling=2.0, task="mrpc"):
    """A run whose factors are random, and its ΔW a rotation away from the aligned product."""
    random = np.random.default_rng(seed)
    of_B, of_A = (np.sort(random.gamma(2.0, size=(len(KEYS), rank)))[:, ::-1] for _ in range(2))
    Q = np.linalg.qr(random.standard_normal((len(KEYS), rank, rank))).Q
    sigma = scaling * np.linalg.svd(of_B[:, :, None] * Q * of_A[:, None], compute_uv=False)
    run = RunDirectory(path)
    components = [{"key": key, "shape": list(shape), "scaling": scaling} for key in KEYS]
    run.write_record(RunRecord("lora-r4", "minilm", task, seed, 3, ["q", "v"], components))
    spectra, factor_B, factor_A = (dict(zip(KEYS, part, strict=True)) for part in (sigma, of_B, of_A))
    run.write_snapshot(Snapshot(1, 10, spectra, factor_A, factor_B) if factors else Snapshot(1, 10, spectra))
    return of_B, of_A, sigma


def read(path):
    return last_epochs(load_spectra(path, factors=True))


def test_the_table_holds_the_factors_where_they_are_asked_for(tmp_path):
    of_B, of_A, _ = write(tmp_path / "run")
    table = read(tmp_path)
    np.testing.assert_array_equal(table["sigma_B"], of_B.ravel())
    np.testing.assert_array_equal(table["sigma_A"], of_A.ravel())
    assert set(table["scaling"]) == {2.0}
    assert "sigma_B" not in load_spectra(tmp_path)


def test_each_draw_is_averaged_before_it_is_measured(tmp_path):
    of_B, of_A, sigma = write(tmp_path / "run")
    found = null_measures(read(tmp_path), BY, draws=50, seed=3)
    row = found[found["measure"] == "m_eff_1"].iloc[0]
    largest = of_B.max(1, keepdims=True), of_A.max(1, keepdims=True)
    draws = rotation_null(of_B / largest[0], of_A / largest[1], 50, 3) * (largest[0] * largest[1])[..., None]
    mean = draws.mean(axis=0)
    null = mean[:, 0] / mean.sum(axis=1)
    assert row["null_mean"] == pytest.approx(null.mean())
    assert (row["null_low"], row["null_high"]) == pytest.approx(tuple(np.quantile(null, [0.025, 0.975])))
    value = sigma.mean(axis=0)[0] / sigma.mean(axis=0).sum()
    assert row["value"] == pytest.approx(value)
    assert row["place"] == (null < value).mean()
    assert (row["draws"], row["null"], row["null_seed"]) == (50, "rotation", 3)


def test_runs_are_grouped_by_their_seed_beside_that_of_the_draws(tmp_path):
    write(tmp_path / "run")
    found = null_measures(read(tmp_path), ["seed", "scale"], draws=20, seed=3)
    assert set(found["null_seed"]) == {3}


def test_measures_first_averages_the_measures_of_each_draw(tmp_path):
    write(tmp_path / "run")
    spectra, measures = (null_measures(read(tmp_path), BY, average=average) for average in ("spectra", "measures"))
    assert spectra["null_mean"].iloc[0] != measures["null_mean"].iloc[0]
    expected = measure(read(tmp_path), BY, average="measures")
    assert measures.set_index("measure")["value"]["entropy_rank"] == expected["entropy_rank"].iloc[0]


def test_values_from_the_null_lie_anywhere_in_it(tmp_path):
    """The place of a spectrum that is itself a rotation is uniform: its mean over 60 runs is near a half."""
    for seed in range(60):
        write(tmp_path / str(seed), seed=seed, task=f"task{seed}")
    places = null_measures(read(tmp_path), ["run"], draws=40).query("measure == 'entropy_rank'")["place"]
    assert abs(places.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 60)
    assert places.min() < 0.2
    assert places.max() > 0.8


def test_without_factors_a_gaussian_of_the_same_shape(tmp_path):
    write(tmp_path / "run", factors=False)
    found = null_measures(read(tmp_path), BY, draws=100).set_index("measure")
    assert set(found["null"]) == {"gaussian"}
    of_shape = gaussian_null(64, 32, 4, 20_000)
    expected = (of_shape[:, 0] / of_shape.sum(axis=1)).mean()
    assert found["null_mean"]["m_eff_1"] == pytest.approx(expected, abs=0.005)


def test_one_run_without_factors_makes_the_methods_null_gaussian(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", seed=1, factors=False)
    assert set(null_measures(read(tmp_path), BY)["null"]) == {"gaussian"}
    assert set(null_measures(read(tmp_path), [*BY, "run"])["null"]) == {"gaussian"}


@pytest.mark.parametrize("shape", [(4, 32), (3, 3)])
def test_a_rank_as_high_as_the_matrix_has_no_gaussian_null(tmp_path, shape):
    write(tmp_path / "run", factors=False, shape=shape)
    found = null_measures(read(tmp_path), BY)
    assert found.empty
    assert {"measure", "null_mean", "place"} <= set(found.columns)


def test_rank_1_and_zero_spectra_have_no_null(tmp_path):
    write(tmp_path / "one", rank=1)
    assert null_measures(read(tmp_path), BY).empty
    zero = read(tmp_path).assign(sigma=0.0, sigma_B=0.0, rank=1)
    assert null_measures(zero, BY).empty
    write(tmp_path / "run")
    table = read(tmp_path / "run").assign(sigma=0.0, sigma_B=0.0)
    assert null_measures(table, BY).empty


def test_factors_near_the_ends_of_float64_neither_overflow_nor_vanish(tmp_path):
    write(tmp_path / "run")
    table = read(tmp_path)
    large = null_measures(table.assign(sigma_B=table["sigma_B"] * 1e300, sigma_A=table["sigma_A"] * 1e300), BY)
    pd.testing.assert_series_equal(large["null_mean"], null_measures(table, BY)["null_mean"])


def test_large_tables_take_fewer_draws(tmp_path, monkeypatch):
    write(tmp_path / "run")
    table = read(tmp_path)
    assert set(null_measures(table, BY)["draws"]) == {200}
    for work, draws in ((3e3, 31), (100, 20)):
        monkeypatch.setattr("msplora_analysis.statistics.null_measures._WORK", work)
        assert set(null_measures(table, BY)["draws"]) == {draws}
    assert set(null_measures(table, BY, draws=7)["draws"]) == {7}
