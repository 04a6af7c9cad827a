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
    claim = claim_1(make_run, tmp_path, (0.1, 0.5, 1.0))
    assert claim.verdict == "borne out"
    expected = [np.exp(-(p * np.log(p)).sum()) for fall in (0.1, 0.5, 1.0)
                for p in [falling(8, fall) / falling(8, fall).sum()]]  # fmt: skip
    assert "entropy rank global {:.2f}, mid {:.2f}, layer {:.2f}".format(*expected) in claim.numbers
    assert str(claim).startswith("Claim 1, the global scale is the most complex, the layers' own the least: borne out")


def test_complexity_is_not_borne_out_the_other_way_round(make_run, tmp_path):
    assert claim_1(make_run, tmp_path, (1.0, 0.5, 0.1)).verdict == "not borne out"


def test_complexity_is_not_borne_out_if_the_middle_is_broadest(make_run, tmp_path):
    assert claim_1(make_run, tmp_path, (0.5, 0.1, 1.0)).verdict == "not borne out"


def test_complexity_is_mixed_where_runs_disagree(make_run, tmp_path):
    claim = claim_1(make_run, tmp_path, (0.1, 0.5, 1.0), (0.1, 0.5, 1.0), (0.6, 0.5, 0.4))
    assert claim.verdict == "mixed"
    assert "in 2 of 3 runs" in claim.numbers


def test_complexity_cannot_be_told_at_unequal_ranks(make_run, tmp_path):
    claim = claim_1(make_run, tmp_path, (0.1, 0.5, 1.0), ranks=(8, 4, 2))
    assert claim.verdict == "cannot tell"
    assert "ranks 8/4/2 differ by construction; train equal ranks, as --ranks 8,8,8" in claim.numbers
    leading = [1 / (1 + np.exp(-fall)) for fall in (0.1, 0.5, 1.0)]
    shown = "over the common leading 2 singular values M_eff-1 global {:.2f}, mid {:.2f}, layer {:.2f}"
    assert shown.format(*leading) in claim.numbers


def test_complexity_cannot_be_told_before_training(make_run, tmp_path):
    make_run("study/a", "msplora", epochs=0, spectra=lambda _: {key: 0 * s for key, s in pyramid((1, 1, 1)).items()})
    (claim,) = complexity_claims(load_spectra(tmp_path / "study"))
    assert claim.verdict == "cannot tell"
    assert "zero" in claim.numbers


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
        ((0.5,), "borne out", "one pair of runs, so no spread is known"),
        ((0.1,), "not borne out", "one pair of runs"),
        ((0.5, 0.6), "borne out", "positive in 2 of 2 pairs of runs"),
        ((0.1, 0.1), "not borne out", "positive in 0 of 2 pairs of runs"),
        ((0.1, 0.9), "mixed", "positive in 1 of 2 pairs of runs"),
    ],
)
def test_distance_needs_every_pair_of_runs(make_run, tmp_path, distances, verdict, spread):
    claim = claim_2(make_run, tmp_path, *distances)
    assert claim.verdict == verdict
    assert spread in claim.numbers
    assert "all 4 singular values" in claim.numbers


def test_distance_cannot_be_told_with_one_layer(make_run, tmp_path):
    one = {"global/query/0": falling(4, 0.1), "layer/query/0": falling(4, 0.2)}
    make_run("study/a", "msplora-4-0-4", epochs=0, spectra=lambda _: one)
    make_run("study/b", "lora-r4", epochs=0, spectra=lambda _: {"layer/query/0": falling(4, 0.2)})
    claim = next(claim for claim in analyse(tmp_path / "study").claims if claim.number == 2)
    assert (claim.verdict, claim.numbers) == ("cannot tell", "one layer has no neighbour")
