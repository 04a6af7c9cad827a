"""Whether runs bear the paper's claims out: runs made so that the answer is known."""

import numpy as np
import pandas as pd
import pytest

from msplora_analysis import analyse
from msplora_analysis.report.tables import text_tables
from msplora_analysis.statistics.claims import STATEMENTS, Claim, settle, untestable
from msplora_core.runs import RunDirectory, RunRecord
from msplora_core.runs.snapshot import Snapshot

SCALES = ("global", "mid", "layer")


def falling(rank, fall):
    return np.exp(-fall * np.arange(rank))


def pyramid(falls, ranks=(8, 8, 8), layers=3, strengths=(1.0, 1.0, 1.0)):
    """Spectra whose fall and σ₁ per scale are given."""
    return {f"{scale}/query/{unit}": strength * falling(rank, fall)
            for scale, fall, rank, strength in zip(SCALES, falls, ranks, strengths, strict=True)
            for unit in range(layers if scale == "layer" else 1)}  # fmt: skip


def claim(number, make_run, tmp_path, *spectra, tasks=("mrpc",), **options):
    """The claim of a study with one run for each of these spectra, on the tasks in turn."""
    for seed, each in enumerate(spectra):
        make_run(f"study/{seed}", "msplora-8-8-8", seed=seed, task=tasks[seed % len(tasks)], epochs=0,
                 spectra=lambda _, each=each: each)  # fmt: skip
    return next(found for found in analyse(tmp_path / "study", **options).claims if found.number == number)


def claim_1(number, make_run, tmp_path, *falls, **options):
    return claim(number, make_run, tmp_path, *map(pyramid, falls), **options)


def test_dimensions_are_borne_out_where_the_global_scale_is_broadest(make_run, tmp_path):
    found = claim_1("1b", make_run, tmp_path, *[(0.1, 0.5, 1.0)] * 6)
    assert [answer.question for answer in found.verdicts] == ["about these tasks", "about tasks like these"]
    assert [answer.verdict for answer in found.verdicts] == ["borne out", "cannot tell"]
    assert found.verdicts[1].next_step == "train at least two tasks"
    expected = [np.exp(-(p * np.log(p)).sum()) for fall in (0.1, 0.5, 1.0)
                for p in [falling(8, fall) / falling(8, fall).sum()]]  # fmt: skip
    assert "entropy rank global {:.3g}, mid {:.3g}, layer {:.3g}".format(*expected) in found.numbers
    assert found.verdict.effect == pytest.approx(min(-np.diff(expected)))
    np.testing.assert_allclose(found.differences, found.verdict.effect)
    assert found.tasks == ("mrpc",) * 6
    assert str(found).startswith(f"Claim 1b, {STATEMENTS['1b']}: borne out for msplora-8-8-8")


def test_intensity_is_an_answer_of_its_own(make_run, tmp_path):
    """The global scale is the broadest, and the weakest."""
    spectra = [pyramid((0.1, 0.5, 1.0), strengths=(1.0, 2.0, 4.0 + seed / 10)) for seed in range(6)]
    found = claim("1a", make_run, tmp_path, *spectra)
    assert found.verdict.verdict == "contradicted"
    assert found.verdict.unit == "in σ₁"
    assert "σ₁ global 1, mid 2, layer 4.25" in found.numbers
    assert analyse(tmp_path / "study").claims[1].verdict.verdict == "borne out"


@pytest.mark.parametrize(
    ("falls", "step"),
    [((1.0, 0.5, 0.1), "global minus mid"), ((0.5, 0.1, 1.0), "global minus mid"),
     ((0.1, 1.0, 0.5), "mid minus layer")],
)  # fmt: skip
def test_one_step_in_the_wrong_order_contradicts(make_run, tmp_path, falls, step):
    found = claim_1("1b", make_run, tmp_path, *[falls] * 6)
    assert found.verdict.verdict == "contradicted"
    assert found.verdict.step == step or falls == (1.0, 0.5, 0.1)  # there both steps are
    assert found.verdict.effect < 0


def test_scales_that_do_not_differ_are_not_contradicted(make_run, tmp_path):
    """The smaller of two steps would be negative on average; each step is tested for itself."""
    random = np.random.default_rng(0)
    falls = [tuple(random.normal(0.5, 0.05, 3)) for _ in range(9)]
    assert claim_1("1b", make_run, tmp_path, *falls).verdict.verdict == "not decided"


def test_few_runs_decide_nothing_and_say_how_many_would(make_run, tmp_path):
    found = claim_1("1b", make_run, tmp_path, (0.1, 0.5, 1.0), (0.1, 0.5, 1.1), (0.12, 0.5, 1.0))
    assert (found.verdict.verdict, found.verdict.n, found.verdict.needed) == ("not decided", 3, 6)
    assert found.verdict.least_p == 0.25
    assert found.verdict.next_step == "n = 3 cannot reach p 0.05: train 6 runs or more"


def test_both_questions_are_asked_and_corrected_over_the_steps(make_run, tmp_path):
    random = np.random.default_rng(1)
    falls = [(0.1 + random.normal(0, 0.02), 0.5, 0.6 + random.normal(0, 0.15)) for _ in range(8)]
    these, like = claim_1("1b", make_run, tmp_path, *falls, tasks=("a", "b", "c", "d")).verdicts
    assert (these.n, these.of, like.n, like.of) == (8, "runs", 4, "tasks")
    assert "all tests of claim 1b about these tasks, 2 tests" in these.reason
    assert "all tests of claim 1b about tasks like these, 2 tests" in like.reason
    assert these.p >= these.p_uncorrected
    assert like.interval is not None


@pytest.mark.parametrize("number", ["1a", "1b"])
def test_unequal_ranks_cannot_be_told(make_run, tmp_path, number):
    found = claim(number, make_run, tmp_path, pyramid((0.1, 0.5, 1.0), (8, 4, 2)))
    assert (found.verdict.verdict, found.differences) == ("cannot tell", ())
    assert "ranks 8/4/2 differ by construction; next: train --ranks 8,8,8" in str(found)


def test_a_method_of_equal_ranks_beside_is_named(make_run, tmp_path):
    make_run("study/equal", "msplora-4-4-4")
    make_run("study/unequal", "msplora-8-4-2")
    untold = [one for one in analyse(tmp_path / "study").claims if one.verdict.verdict == "cannot tell"]
    assert {(one.method, one.verdict.next_step) for one in untold if one.number in ("1a", "1b")} == {
        ("msplora-8-4-2", "see msplora-4-4-4, of equal ranks")}  # fmt: skip


def test_zero_spectra_cannot_be_told(make_run, tmp_path):
    spectra = {key: 0 * sigma for key, sigma in pyramid((1, 1, 1)).items()}
    found = claim("1b", make_run, tmp_path, spectra)
    assert (found.verdict.verdict, found.verdict.reason) == ("cannot tell", "a scale's spectra are zero")


def test_controls_and_plain_lora_have_no_claim_1(make_run, tmp_path):
    make_run("study/a", "msplora-8-8-8-random-labels")
    make_run("study/b")
    assert {one.number for one in analyse(tmp_path / "study").claims} == {"2a", "2b"}


def write_with_factors(path, seed, *, aligned="layer", ranks=(8, 8, 8), scalings=(2.0, 2.0, 2.0)):
    """Flat factors, which no rotation changes, in all scales but one, where steep ones are aligned."""
    run, spectra, factors, components = RunDirectory(path), {}, {}, []
    for scale, rank, scaling in zip(SCALES, ranks, scalings, strict=True):
        for unit in range(3 if scale == "layer" else 1):
            sigma = falling(rank, 0.5 + seed / 100) if scale == aligned else falling(rank, 0.01 + seed / 1000)
            key = f"{scale}/query/{unit}"
            spectra[key], factors[key] = scaling * sigma**2, sigma
            components.append({"key": key, "shape": [64, 64], "scaling": scaling})
    name = "msplora-" + "-".join(map(str, ranks))
    run.write_record(RunRecord(name, "minilm", "mrpc", seed, 3, ["query"], components))
    run.write_snapshot(Snapshot(1, 10, spectra, factors, factors))


def test_complexity_beyond_the_null_rests_on_the_null_of_each_run(tmp_path):
    for seed in range(6):
        write_with_factors(tmp_path / str(seed), seed)
    found = {one.number: one for one in analyse(tmp_path, draws=50).claims}
    assert found["1c"].verdict.verdict == "not decided"  # global and mid: no alignment to speak of in either
    assert found["1c"].verdict.step == "global minus mid"
    assert "(rotation, 50 draws)" in found["1c"].verdict.null
    assert found["1b"].verdict.null == found["1c"].verdict.null
    assert "1c" not in {one.number for one in analyse(tmp_path, draws=0).claims}


def test_an_aligned_global_scale_is_less_complex_than_its_null(tmp_path):
    for seed in range(6):
        write_with_factors(tmp_path / str(seed), seed, aligned="global")
    found = next(one for one in analyse(tmp_path, draws=50).claims if one.number == "1c")
    assert found.verdict.verdict == "contradicted"


def test_unequal_ranks_have_no_excess(tmp_path):
    write_with_factors(tmp_path / "run", 0, ranks=(8, 4, 2))
    answers = {one.number: one.verdict.verdict for one in analyse(tmp_path).claims}
    assert answers == {"1a": "cannot tell", "1b": "cannot tell", "1c": "cannot tell"}


def test_unequal_scalings_leave_intensity_open(tmp_path):
    for seed in range(6):
        write_with_factors(tmp_path / str(seed), seed, scalings=(2.0, 4.0, 2.0))
    found = {one.number: one.verdict for one in analyse(tmp_path, draws=20).claims}
    assert found["1a"].reason == "scalings 2/4/2 differ by construction"
    assert found["1b"].verdict != "cannot tell"


def apart(distance, scales=("layer",), rank=4):
    """Three layers whose falls differ by a distance."""
    layers = {f"layer/query/{i}": falling(rank, 0.2 + distance * i) for i in range(3)}
    return layers | ({"global/query/0": falling(4, 0.1)} if "global" in scales else {})


def claim_2(make_run, tmp_path, *distances, baseline=0.3):
    for seed, distance in enumerate(distances):
        make_run(f"study/ms-{seed}", "msplora-4-0-4", seed=seed, epochs=0,
                 spectra=lambda _, d=distance: apart(d, ("global", "layer")))  # fmt: skip
        make_run(f"study/lora-{seed}", "lora-r4", seed=seed, epochs=0, spectra=lambda _: apart(baseline))
    return next(found for found in analyse(tmp_path / "study").claims if found.number == "2")


@pytest.mark.parametrize(
    ("distances", "verdict", "spread"),
    [
        ((0.5,), "not decided", "1 of 1 pairs positive"),
        ((0.5,) * 6, "borne out", "6 of 6 pairs positive"),
        ((0.1,) * 6, "contradicted", "0 of 6 pairs positive"),
        ((0.1, 0.9), "not decided", "1 of 2 pairs positive"),
    ],
)
def test_distance_is_decided_by_pairs_of_runs(make_run, tmp_path, distances, verdict, spread):
    found = claim_2(make_run, tmp_path, *distances)
    assert found.verdict.verdict == verdict
    assert spread in found.numbers
    assert "all 4 singular values" in found.numbers
    assert found.subject == "msplora-4-0-4 layer against lora-r4"
    assert found.verdict.effect == pytest.approx(np.mean(found.differences))
    assert found.tasks == ("mrpc",) * len(distances)
    if len(distances) > 1:
        assert found.verdict.null.startswith("KL of one layer in two seeds ")


def test_baselines_of_equal_rank_are_found_for_both_readings(make_run, tmp_path):
    """As in the paper's setting: the layer's own rank-2 component against LoRA r=2, the total against r=14."""
    for method in ("lora-r2", "lora-r8", "lora-r14", "msplora-8-4-2", "msplora-8-8-8"):
        make_run(f"study/{method}", method)
    found = analyse(tmp_path / "study")
    assert {one.subject for one in found.claims if one.number == "2"} == {
        "msplora-8-4-2 layer against lora-r2", "msplora-8-4-2 total against lora-r14",
        "msplora-8-8-8 layer against lora-r8"}  # fmt: skip
    assert {(one.method, one.scale, one.baseline) for one in found.comparisons if one.ranks[0] != one.ranks[1]} == {
        ("msplora-8-8-8", "total", "lora-r14")}  # fmt: skip


@pytest.mark.parametrize(
    ("ranks", "reason", "next_step"),
    [
        ((2, 8), "no LoRA of rank 2 on the same task and seed, only of 8",
         "train a baseline of equal rank with the same settings: msplora-analyze train --method lora --rank 2 "
         "--model minilm --task mrpc --seed 0 --out RUNS"),
        ((1, 1), "their KL is 0 by construction", "train a rank of at least 2 on both sides"),
        ((1, 8), "no LoRA of rank 1 on the same task and seed, only of 8", "train a rank of at least 2 on both sides"),
    ],
)  # fmt: skip
def test_distance_cannot_be_told_at_unequal_ranks_or_ranks_of_1(make_run, tmp_path, ranks, reason, next_step):
    ours, theirs = ({f"layer/query/{i}": falling(rank, 0.2 + 0.3 * i) for i in range(3)} for rank in ranks)
    shared = {"global/query/0": falling(4, 0.1)}
    make_run("study/a", f"msplora-4-0-{ranks[0]}", epochs=0, spectra=lambda _: ours | shared)
    make_run("study/b", f"lora-r{ranks[1]}", epochs=0, spectra=lambda _: theirs)
    found = next(one for one in analyse(tmp_path / "study").claims if one.number == "2")
    assert (found.verdict.verdict, found.differences) == ("cannot tell", ())
    assert reason in found.verdict.reason
    assert found.verdict.next_step.startswith(next_step)


def test_a_baseline_of_equal_rank_on_another_task_is_no_counterpart(make_run, tmp_path):
    make_run("study/a", "msplora-8-4-2")
    make_run("study/b", "lora-r8")
    make_run("study/c", "lora-r2", task="cola")
    found = next(one for one in analyse(tmp_path / "study").claims if one.number == "2")
    assert found.verdict.reason == "no LoRA of rank 2 on the same task and seed, only of 8"


def test_distance_cannot_be_told_with_one_layer(make_run, tmp_path):
    one = {"global/query/0": falling(4, 0.1), "layer/query/0": falling(4, 0.2)}
    make_run("study/a", "msplora-4-0-4", epochs=0, spectra=lambda _: one)
    make_run("study/b", "lora-r4", epochs=0, spectra=lambda _: {"layer/query/0": falling(4, 0.2)})
    found = next(one for one in analyse(tmp_path / "study").claims if one.number == "2")
    assert (found.verdict.verdict, found.verdict.reason) == ("cannot tell", "a single layer has no adjacent one")


def of_depth(depths):
    return {f"layer/query/{i}": falling(4, 0.2 + 0.2 * depth) for i, depth in enumerate(depths)}


@pytest.mark.parametrize(
    ("depths", "answers"),
    [(range(9), ("borne out", "borne out")), ((0, 8, 1, 7, 2, 6, 3, 5, 4), ("contradicted", "not decided"))],
)
def test_layers_of_lora_in_order_of_depth_or_shuffled(make_run, tmp_path, depths, answers):
    make_run("study/a", "lora-r4", epochs=0, spectra=lambda _: of_depth(depths))
    claims = analyse(tmp_path / "study").claims
    assert [(one.number, one.verdict.question) for one in claims] == [
        ("2a", "about these layers"), ("2b", "about these layers")]  # fmt: skip
    assert tuple(one.verdict.verdict for one in claims) == answers


def test_claims_of_few_or_undefined_layers_are_not_made(make_run, tmp_path):
    make_run("study/few", "lora-r4", epochs=0, spectra=lambda _: of_depth(range(3)))
    make_run("study/one-value", "lora-r1", layers=6)
    zero = {key: sigma * [1, 1, 1, index > 0] for index, (key, sigma) in enumerate(of_depth(range(6)).items())}
    make_run("study/zero", "lora-r4", model="other", epochs=0, spectra=lambda _: zero)
    with pytest.warns(RuntimeWarning, match="infinite"):
        claims = analyse(tmp_path / "study").claims
    assert {(one.model, one.verdict.verdict) for one in claims} == {("other", "cannot tell")}


def test_claims_as_a_table_have_a_row_for_each_verdict(study):
    from msplora_analysis.report.summary import claims_frame

    claims = analyse(study).claims
    rows = claims_frame(claims)
    assert isinstance(rows, pd.DataFrame)
    assert len(rows) == sum(len(one.verdicts) for one in claims)
    assert {"number", "question", "verdict", "n", "effect", "low", "high", "p", "least_p", "null"} <= set(rows.columns)


def test_an_untrained_adapter_is_told_to_train(make_run, tmp_path):
    make_run("run", epochs=0)
    first, *_ = analyse(tmp_path / "run").claims
    assert (first.verdict.reason, first.verdict.next_step) == ("every update is zero", "train at least one epoch")


@pytest.mark.filterwarnings("ignore:.*divergences are infinite")
def test_a_layer_that_is_zero_is_told_to_train_and_zero_values_to_set_a_floor(make_run, tmp_path):
    for name, value in {"zero": np.zeros(2), "thin": np.array([1.0, 0.0])}.items():
        spectra = {f"layer/q/{layer}": falling(2, 0.1 * (layer + 1)) for layer in range(4)} | {"layer/q/2": value}
        make_run(name, "lora-r2", epochs=0, spectra=lambda _, spectra=spectra: spectra)
    zero, thin = (analyse(tmp_path / name).claims[0].verdict for name in ("zero", "thin"))
    assert (zero.reason, zero.next_step) == ("the update of a layer is zero", "train it, or leave its run out")
    assert (thin.reason, thin.next_step) == ("a divergence is infinite: zero singular values", "set --floor")


def test_no_verdict_rests_on_spectra_that_are_cut_to_a_common_length(make_run, tmp_path):
    """As after training with planned ranks: cut to the lowest, layers of one rank look alike."""
    ranks = (2, 2, 2, 8, 8, 8)
    own = {f"layer/query/{layer}": falling(rank, 0.1) for layer, rank in enumerate(ranks)}
    make_run("study/a", "lora-r2", epochs=0, spectra=lambda _: own)
    make_run("study/b", "msplora-8-0-2", epochs=0, spectra=lambda _: own | {"global/query/0": falling(8, 0.1)})
    found = analyse(tmp_path / "study")
    cut = {claim.number: claim.verdict for claim in found.claims if claim.number.startswith("2")}
    assert {number: one.verdict for number, one in cut.items()} == dict.fromkeys(("2", "2a", "2b"), "cannot tell")
    reason = "spectra of ranks 2 to 8 are compared by their common leading 2 singular values"
    assert {one.reason for one in cut.values()} == {reason}
    [table] = [one for one in text_tables(found) if one.name == "comparisons"]
    assert all("†" in " ".join(row) for row in table.rows)
    assert "no verdict rests on it: common leading 2 singular values" in table.key


def test_models_and_stacks_are_in_the_same_order_for_every_claim():
    drafts = [
        untestable(Claim(number, "msplora", model, stack), "") for number, model, stack in
        [("1a", "x", "8x8"), ("1a", "x", "4x8"), ("1a", "w", ""), ("2", "w", ""), ("2", "x", "4x8"), ("2", "x", "8x8")]
    ]  # fmt: skip
    order = ["8x8", "4x8", ""]
    assert [(claim.number, claim.stack) for claim in settle(drafts)] == [
        *(("1a", stack) for stack in order), *(("2", stack) for stack in order)
    ]  # fmt: skip
