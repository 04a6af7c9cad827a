"""Whether runs bear the paper's claims out: runs made so that the answer is known."""

import numpy as np
import pytest

from msplora_analysis import last_epochs, load_spectra
from msplora_analysis.analysis import analyse
from msplora_analysis.statistics.claims import complexity_claims


def falling(rank, fall):
    return np.exp(-fall * np.arange(rank))


def pyramid(falls, ranks=(8, 8, 8), layers=3):
    """Spectra whose fall per scale is given."""
    scales = dict(zip(("global", "mid", "layer"), zip(falls, ranks, strict=True), strict=True))
    units = {"global": 1, "mid": 1, "layer": layers}
    return {f"{scale}/query/{unit}": falling(rank, fall)
            for scale, (fall, rank) in scales.items() for unit in range(units[scale])}  # fmt: skip


def claim_1(make_run, tmp_path, *falls, ranks=(8, 8, 8)):
    for seed, each in enumerate(falls):
        make_run(f"study/{seed}", "msplora", seed=seed, epochs=0, spectra=lambda _, each=each: pyramid(each, ranks))
    (claim,) = complexity_claims(last_epochs(load_spectra(tmp_path / "study")))
    return claim


def test_complexity_is_borne_out_where_the_global_scale_is_broadest(make_run, tmp_path):
    claim = claim_1(make_run, tmp_path, *[(0.1, 0.5, 1.0)] * 6)
    assert claim.verdict.verdict == "borne out"
    expected = [np.exp(-(p * np.log(p)).sum()) for fall in (0.1, 0.5, 1.0)
                for p in [falling(8, fall) / falling(8, fall).sum()]]  # fmt: skip
    assert "entropy rank global {:.2f}, mid {:.2f}, layer {:.2f}".format(*expected) in claim.numbers
    assert "positive in 6 of 6 runs" in claim.numbers
    np.testing.assert_allclose(claim.differences, min(expected[0] - expected[1], expected[1] - expected[2]))
    assert str(claim).startswith("Claim 1, the global scale is the most complex, the layers' own the least: borne out")


@pytest.mark.parametrize("falls", [(1.0, 0.5, 0.1), (0.5, 0.1, 1.0), (0.1, 1.0, 0.5)])
def test_complexity_is_contradicted_where_global_and_layer_are_not_at_the_ends(make_run, tmp_path, falls):
    assert claim_1(make_run, tmp_path, *[falls] * 6).verdict.verdict == "contradicted"


def test_complexity_is_not_decided_by_few_runs_or_where_they_disagree(make_run, tmp_path):
    claim = claim_1(make_run, tmp_path, (0.1, 0.5, 1.0), (0.1, 0.5, 1.0), (0.6, 0.5, 0.4))
    assert (claim.verdict.verdict, claim.verdict.n) == ("not decided", 3)
    assert "positive in 2 of 3 runs" in claim.numbers


def test_complexity_cannot_be_told_at_unequal_ranks(make_run, tmp_path):
    claim = claim_1(make_run, tmp_path, (0.1, 0.5, 1.0), ranks=(8, 4, 2))
    assert (claim.verdict.verdict, claim.differences) == ("cannot tell", ())
    assert "ranks 8/4/2 differ by construction; next: train equal ranks, as --ranks 8,8,8" in str(claim)
    leading = [1 / (1 + np.exp(-fall)) for fall in (0.1, 0.5, 1.0)]
    shown = "over the common leading 2 singular values M_eff-1 global {:.2f}, mid {:.2f}, layer {:.2f}"
    assert shown.format(*leading) in claim.numbers


def test_complexity_cannot_be_told_before_training(make_run, tmp_path):
    make_run("study/a", "msplora", epochs=0, spectra=lambda _: {key: 0 * s for key, s in pyramid((1, 1, 1)).items()})
    (claim,) = complexity_claims(load_spectra(tmp_path / "study"))
    assert claim.verdict.verdict == "cannot tell"
    assert "zero" in claim.verdict.reason


def test_complexity_is_not_asked_of_plain_lora(make_run):
    assert complexity_claims(load_spectra(make_run().path)) == []


def apart(distance, scales=("layer",)):
    """Three layers whose falls differ by a distance."""
    layers = {f"layer/query/{i}": falling(4, 0.2 + distance * i) for i in range(3)}
    return layers | ({"global/query/0": falling(4, 0.1)} if "global" in scales else {})


def claim_2(make_run, tmp_path, *distances, baseline=0.3):
    for seed, distance in enumerate(distances):
        make_run(f"study/ms-{seed}", "msplora-4-0-4", seed=seed, epochs=0,
                 spectra=lambda _, d=distance: apart(d, ("global", "layer")))  # fmt: skip
        make_run(f"study/lora-{seed}", "lora-r4", seed=seed, epochs=0, spectra=lambda _: apart(baseline))
    return next(claim for claim in analyse(tmp_path / "study").claims if claim.number == 2)


@pytest.mark.parametrize(
    ("distances", "verdict", "spread"),
    [
        ((0.5,), "not decided", "positive in 1 of 1 pairs of runs"),
        ((0.5,) * 6, "borne out", "positive in 6 of 6 pairs of runs"),
        ((0.1,) * 6, "contradicted", "positive in 0 of 6 pairs of runs"),
        ((0.1, 0.9), "not decided", "positive in 1 of 2 pairs of runs"),
    ],
)
def test_distance_is_decided_by_pairs_of_runs(make_run, tmp_path, distances, verdict, spread):
    claim = claim_2(make_run, tmp_path, *distances)
    assert claim.verdict.verdict == verdict
    assert spread in claim.numbers
    assert "all 4 singular values" in claim.numbers
    assert claim.verdict.effect == pytest.approx(np.mean(claim.differences))
    assert claim.tasks == ("mrpc",) * len(distances)


@pytest.mark.parametrize(
    ("ranks", "reason", "next_step"),
    [
        ((2, 8), "ranks 2 and 8 of lora-r8 differ",
         "train a baseline of equal rank: msplora-analyze train --method lora --rank 2 --model minilm "
         "--task mrpc --seed 0 --out RUNS"),
        ((1, 1), "their KL is 0 by construction", "train a rank of at least 2 on both sides"),
        ((1, 8), "ranks 1 and 8 of lora-r8 differ", "train a rank of at least 2 on both sides"),
    ],
)  # fmt: skip
def test_distance_cannot_be_told_at_unequal_ranks_or_ranks_of_1(make_run, tmp_path, ranks, reason, next_step):
    ours, theirs = ({f"layer/query/{i}": falling(rank, 0.2 + 0.3 * i) for i in range(3)} for rank in ranks)
    shared = {"global/query/0": falling(4, 0.1)}
    make_run("study/a", f"msplora-4-0-{ranks[0]}", epochs=0, spectra=lambda _: ours | shared)
    make_run("study/b", f"lora-r{ranks[1]}", epochs=0, spectra=lambda _: theirs)
    claim = next(claim for claim in analyse(tmp_path / "study").claims if claim.number == 2)
    assert (claim.verdict.verdict, claim.differences) == ("cannot tell", ())
    assert reason in claim.verdict.reason
    assert claim.verdict.next_step.startswith(next_step)


def test_distance_cannot_be_told_with_one_layer(make_run, tmp_path):
    one = {"global/query/0": falling(4, 0.1), "layer/query/0": falling(4, 0.2)}
    make_run("study/a", "msplora-4-0-4", epochs=0, spectra=lambda _: one)
    make_run("study/b", "lora-r4", epochs=0, spectra=lambda _: {"layer/query/0": falling(4, 0.2)})
    claim = next(claim for claim in analyse(tmp_path / "study").claims if claim.number == 2)
    assert (claim.verdict.verdict, claim.verdict.reason) == ("cannot tell", "one layer has no neighbour")
