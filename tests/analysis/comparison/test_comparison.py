"""Methods against each other: the data of Fig. 4 against values computed here from the snapshots."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import rel_entr

from msplora_analysis import adjacent_kl, analyse, compare, last_epochs, layer_divergences, load_spectra, measure
from msplora_core.errors import ComparisonError, ParameterError
from msplora_core.runs import RunDirectory


def dense_kl(spectra):
    p = spectra / spectra.sum(axis=-1, keepdims=True)
    return np.array([[rel_entr(a, b).sum() for b in p] for a in p])


def mean_spectra(study, method, scale, length, *, tasks=("mrpc", "stsb"), seeds=(0, 1), layers=6):
    """(L, length): read from the snapshots themselves, averaged over tasks, seeds and modules."""
    stack = []
    for task in tasks:
        for seed in seeds:
            *_, last = RunDirectory(study / task / method / f"seed-{seed}").snapshots()
            stack += [[last.spectra[f"{scale}/{m}/{i}"][:length] for i in range(layers)] for m in ("query", "value")]
    return np.mean(stack, axis=0)


def mean_kl(study, method, scale, length):
    """(L, L): KL of each run, of its modules' averaged spectra; the mean over runs."""
    runs = [(task, seed) for task in ("mrpc", "stsb") for seed in (0, 1)]
    return np.mean([dense_kl(mean_spectra(study, method, scale, length, tasks=(task,), seeds=(seed,)))
                    for task, seed in runs], axis=0)  # fmt: skip


def both(study, method, **options):
    table = last_epochs(load_spectra(study))
    return compare(table[table["method"] == method], table[table["method"] == "lora-r8"], **options)


@pytest.mark.parametrize(
    ("method", "scale", "length"),
    [("msplora-8-4-2", "layer", 2), ("msplora-8-8-8", "layer", 8), ("msplora-8-4-2", "total", 8)],
)
def test_matrices_are_the_mean_over_the_pairs_of_runs(study, method, scale, length):
    (one,) = both(study, method, scale=scale)
    ours, theirs = mean_kl(study, method, scale, length), mean_kl(study, "lora-r8", scale, length)
    np.testing.assert_allclose(one.kl, ours, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(one.kl_baseline, theirs, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(one.difference, ours - theirs, rtol=1e-7, atol=1e-14)
    assert (one.model, one.method, one.baseline, one.scale) == ("minilm", method, "lora-r8", scale)
    assert one.modules == ("query", "value")
    assert list(one.layers) == list(range(6))
    assert one.lengths == (length, length)


def test_adjacent_layers_are_the_mean_of_both_directions(study):
    (one,) = both(study, "msplora-8-8-8")
    steps = [(one.difference[i, i + 1] + one.difference[i + 1, i]) / 2 for i in range(5)]
    assert one.adjacent["difference"] == pytest.approx(np.mean(steps))
    assert one.adjacent["share_positive"] == np.mean(np.array(steps) > 0)
    assert one.adjacent["adjacent_kl"] == pytest.approx(adjacent_kl(one.kl).mean())


def test_each_pair_of_runs_has_its_own_row(study):
    (one,) = both(study, "msplora-8-8-8")
    assert list(zip(one.pairs["task"], one.pairs["seed"], strict=True)) == [
        ("mrpc", 0), ("mrpc", 1), ("stsb", 0), ("stsb", 1)]  # fmt: skip
    for row in one.pairs.itertuples():
        where = {"tasks": (row.task,), "seeds": (row.seed,)}
        ours = adjacent_kl(dense_kl(mean_spectra(study, "msplora-8-8-8", "layer", 8, **where)))
        theirs = adjacent_kl(dense_kl(mean_spectra(study, "lora-r8", "layer", 8, **where)))
        assert row.adjacent_kl == pytest.approx(ours.mean())
        assert row.difference == pytest.approx((ours - theirs).mean())
        assert row.share_positive == (ours > theirs).mean()
        assert row.epoch == row.epoch_baseline == 3


@pytest.mark.parametrize(
    ("method", "options", "rule"),
    [
        ("msplora-8-8-8", {}, "all 8 singular values"),
        ("msplora-8-4-2", {}, "common leading 2 singular values"),
        ("msplora-8-4-2", {"lengths": "own"}, "own lengths: 2 against 8 singular values"),
        ("msplora-8-4-2", {"scale": "total"}, "common leading 8 singular values"),
        ("msplora-8-4-2", {"scale": "total", "lengths": "own"}, "own lengths: 14 against 8 singular values"),
    ],
)
def test_the_rule_for_lengths_is_named(study, method, options, rule):
    (one,) = both(study, method, **options)
    assert one.rule == rule


def test_own_lengths_leave_each_method_its_own(study):
    (one,) = both(study, "msplora-8-4-2", lengths="own")
    np.testing.assert_allclose(one.kl, mean_kl(study, "msplora-8-4-2", "layer", 2), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(one.kl_baseline, mean_kl(study, "lora-r8", "layer", 8), rtol=1e-9, atol=1e-15)


def test_only_runs_with_a_counterpart_count(make_run, tmp_path):
    study = tmp_path / "study"
    for task, seed in (("mrpc", 0), ("mrpc", 1), ("cola", 0)):
        make_run(f"study/{task}/msplora-8-8-8/seed-{seed}", "msplora-8-8-8", task=task, seed=seed)
    make_run("study/mrpc/lora-r8/seed-1", task="mrpc", seed=1)
    (one,) = both(study, "msplora-8-8-8")
    assert list(one.pairs["seed"]) == [1]
    expected = dense_kl(mean_spectra(study, "msplora-8-8-8", "layer", 8, tasks=("mrpc",), seeds=(1,)))
    np.testing.assert_allclose(one.kl, expected, rtol=1e-9, atol=1e-15)


def test_two_runs_alone_of_unknown_task_and_seed_are_counterparts(make_run):
    runs = make_run("a", "msplora-8-8-8", task="", seed=None), make_run("b", task="", seed=None)
    (one,) = compare(*(last_epochs(load_spectra(run.path)) for run in runs))
    assert len(one.pairs) == 1
    assert one.pairs["seed"].isna().all()


def test_runs_of_unknown_task_in_one_folder_are_each_a_task_of_their_own(make_run, tmp_path):
    make_run("study/a", "msplora-8-8-8", task="", seed=None)
    make_run("study/b", task="", seed=None)
    table = load_spectra(tmp_path / "study")
    assert table.groupby("run", observed=True)["task"].first().to_dict() == {"a": "a", "b": "b"}
    assert any(note.startswith("The task of 2 runs (a, b) is unknown") for note in table.attrs["notes"])
    with pytest.raises(ComparisonError, match="has task a, the baseline lora-r8 b"):
        both(tmp_path / "study", "msplora-8-8-8")


def test_plain_lora_needs_no_total_of_its_own(make_run, tmp_path):
    random = np.random.default_rng(0)
    plain = {f"layer/query/{i}": np.sort(random.gamma(1.0, size=8))[::-1].copy() for i in range(6)}
    make_run("study/b", modules=("query",), epochs=0, spectra=lambda _: plain)
    make_run("study/a", "msplora-8-8-8", modules=("query",), epochs=1)
    (one,) = both(tmp_path / "study", "msplora-8-8-8", scale="total")
    np.testing.assert_allclose(one.kl_baseline, dense_kl(np.array(list(plain.values()))), rtol=1e-9, atol=1e-15)


def test_stacks_of_unlike_depth_stay_apart(make_run, tmp_path):
    def spectra(epoch):
        random = np.random.default_rng(epoch)
        depth = {"encoder.q": 4, "encoder.v": 4, "decoder.q": 6}
        return {f"layer/{name}/{i}": np.sort(random.gamma(1.0, size=4))[::-1].copy()
                for name, layers in depth.items() for i in range(layers)}  # fmt: skip

    modules = ("encoder.q", "encoder.v", "decoder.q")
    make_run("study/a", "dora-r4", modules=modules, spectra=spectra)
    make_run("study/b", "lora-r4", modules=modules, spectra=spectra)
    table = last_epochs(load_spectra(tmp_path / "study"))
    found = compare(table[table["method"] == "dora-r4"], table[table["method"] == "lora-r4"])
    assert [(one.modules, one.kl.shape) for one in found] == [
        (("encoder.q", "encoder.v"), (4, 4)),
        (("decoder.q",), (6, 6)),
    ]
    assert all((one.difference == 0).all() for one in found)
    assert [one.modules for one in layer_divergences(table[table["method"] == "dora-r4"])] == [
        one.modules for one in found
    ]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"model": "roberta"}, "msplora-8-8-8 has model minilm, the baseline lora-r8 roberta"),
        ({"task": "cola"}, "msplora-8-8-8 has task mrpc, the baseline lora-r8 cola"),
        ({"seed": 5}, "msplora-8-8-8 has seed 0, the baseline lora-r8 5"),
        (
            {"layers": 4},
            r"msplora-8-8-8 on minilm has 6 layers \(0 to 5\) of query, but lora-r8 on minilm 4 \(0 to 3\)",
        ),
        ({"modules": ("key",)}, "msplora-8-8-8 on minilm adapts query, value but lora-r8 on minilm key"),
    ],
)
def test_what_cannot_be_compared_is_named_on_both_sides(make_run, tmp_path, other, message):
    make_run("study/a", "msplora-8-8-8")
    make_run("study/b", **other)
    with pytest.raises(ComparisonError, match=message):
        both(tmp_path / "study", "msplora-8-8-8")


def test_a_zero_singular_value_is_infinite_and_a_floor_mends_it(make_run, tmp_path):
    def spectra(epoch):
        found = {f"layer/query/{i}": np.array([3.0 + i, 1.0]) for i in range(3)}
        return found | {"layer/query/1": np.array([1.0, 0.0])}

    for name, method in (("a", "dora-r2"), ("b", "lora-r2")):
        make_run(f"study/{name}", method, modules=("query",), epochs=0, spectra=spectra)
    table = load_spectra(tmp_path / "study")
    sides = table[table["method"] == "dora-r2"], table[table["method"] == "lora-r2"]
    with pytest.warns(RuntimeWarning, match="divergences are infinite"):
        (one,) = compare(*sides)
    assert np.isnan(one.adjacent["difference"])
    (one,) = compare(*sides, floor=1e-6)
    assert one.adjacent["difference"] == 0


@pytest.mark.parametrize(("name", "value"), [("scale", "global"), ("lengths", "any")])
def test_unknown_words_are_refused(study, name, value):
    with pytest.raises(ParameterError, match=f"{name}: expected .* found {value}"):
        both(study, "msplora-8-8-8", **{name: value})


def test_the_difference_is_the_mean_of_the_pairs_for_both_orders_of_averaging(study):
    for average in ("spectra", "measures"):
        (one,) = both(study, "msplora-8-8-8", average=average)
        assert one.adjacent["difference"] == pytest.approx(one.pairs["difference"].mean())
        assert adjacent_kl(one.difference).mean() == pytest.approx(one.pairs["difference"].mean())


def test_measures_first_averages_the_kl_of_each_module(study):
    (one,) = both(study, "msplora-8-8-8", average="measures")
    each = []
    for task in ("mrpc", "stsb"):
        for seed in (0, 1):
            *_, last = RunDirectory(study / task / "msplora-8-8-8" / f"seed-{seed}").snapshots()
            each += [dense_kl(np.array([last.spectra[f"layer/{m}/{i}"] for i in range(6)])) for m in ("query", "value")]
    np.testing.assert_allclose(one.kl, np.mean(each, axis=0), rtol=1e-9, atol=1e-15)


def test_the_mean_over_pairs_keeps_their_sign_where_pooled_spectra_do_not(make_run, tmp_path):
    """Two runs whose layers lean opposite ways: their average is flat, so pooling hides what every pair shows."""
    tilts = {("msplora-4-4-4", 0): (0.3, 0.3), ("lora-r4", 0): (0.6, 0.2), ("msplora-4-4-4", 1): (0.5, 0.2),
             ("lora-r4", 1): (0.2, 0.6)}  # fmt: skip
    for (method, seed), falls in tilts.items():
        make_run(f"study/{method}-{seed}", method, seed=seed, epochs=0, modules=("query",),
                 spectra=lambda _, falls=falls: {f"layer/query/{i}": np.exp(-fall * np.arange(4))
                                                 for i, fall in enumerate(falls)})  # fmt: skip
    table = load_spectra(tmp_path / "study")
    (one,) = compare(table[table["method"] == "msplora-4-4-4"], table[table["method"] == "lora-r4"])
    assert (one.pairs["difference"] < 0).all()
    assert one.pooled_difference > 0 > one.adjacent["difference"]
    (note,) = [
        note for note in analyse(tmp_path / "study").notes if "averaged over all runs" in note and "layer," in note
    ]
    assert f"{one.pooled_difference:+.3g}" in note


def test_runs_are_paired_by_position_when_asked(make_run, tmp_path):
    for side, seeds in (("a", (0, 1)), ("b", (2, 3))):
        for seed in seeds:
            make_run(f"{side}/{seed}", seed=seed)
    ours, theirs = (last_epochs(load_spectra(tmp_path / side)) for side in "ab")
    with pytest.raises(ComparisonError, match=r"has seed 0, 1, the baseline lora-r8 2, 3; .*--pair position"):
        compare(ours, theirs)
    (one,) = compare(ours, theirs, pair="position")
    assert list(zip(one.pairs["run"], one.pairs["run_baseline"], strict=True)) == [("0", "2"), ("1", "3")]
    with pytest.raises(ComparisonError, match=r"lora-r8 has 1 \(0\), the baseline lora-r8 2 \(2, 3\)"):
        compare(ours[ours["run"] == "0"], theirs, pair="position")


def test_an_ambiguous_counterpart_is_no_pair(make_run, tmp_path):
    for name in ("a", "b"):
        make_run(f"study/{name}", "msplora-8-8-8", seed=None)
    make_run("study/c", seed=None)
    with pytest.raises(ComparisonError, match="no run of msplora-8-8-8 has exactly one counterpart of lora-r8"):
        both(tmp_path / "study", "msplora-8-8-8")


def halves(table):
    """The same rows from two tables with categories of their own, put together."""
    parts = [table[table["method"] == method] for method in table["method"].unique()]
    for part in parts:
        columns = [name for name in part.columns if str(part[name].dtype) == "category"]
        yield part.astype(dict.fromkeys(columns, object))


def test_put_together_merged_and_filtered_tables_give_the_same(study):
    table = last_epochs(load_spectra(study))
    runs = table[["run", "method"]].astype(object).drop_duplicates()
    changed = {
        "concat": pd.concat(list(halves(table))),
        "merge": table.drop(columns="method").astype({"run": object}).merge(runs, on="run"),
        "filter": table[table["sigma"] >= 0].copy(),
        "other": pd.concat([table, table.assign(model="other", run=table["run"].astype(str) + "x")]).query(
            "model != 'other'"
        ),
    }
    for name, other in changed.items():
        other.attrs.clear()
        for average in ("spectra", "measures"):
            pd.testing.assert_frame_equal(measure(other, average=average), measure(table, average=average), obj=name)
        found, expected = (
            compare(side[side["method"] == "msplora-8-8-8"], side[side["method"] == "lora-r8"], scale="total")
            for side in (other, table)
        )
        np.testing.assert_allclose(found[0].difference, expected[0].difference, rtol=1e-9, atol=1e-16)
        for one, its in zip(layer_divergences(other), layer_divergences(table), strict=True):
            np.testing.assert_allclose(one.kl, its.kl, rtol=1e-9, atol=1e-16)
