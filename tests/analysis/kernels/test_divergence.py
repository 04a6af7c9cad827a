"""Divergences against scipy, against exact rational sums, and by their properties."""

import itertools
from fractions import Fraction
from math import log, log1p

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import rel_entr

from msplora_analysis.kernels import (
    InfiniteDivergenceWarning,
    kl_difference,
    pairwise_spectral_kl,
    spectral_kl,
)
from msplora_core.errors import ParameterError

lengths = st.shared(st.integers(1, 10), key="length")
spectra = lengths.flatmap(
    lambda M: hnp.arrays(np.float64, M, elements=st.floats(1e-6, 1e6)).map(lambda s: np.sort(s)[::-1])
)


def dense_kl(spectra):
    """Definition, one pair at a time, with scipy."""
    p = spectra / spectra.sum(axis=-1, keepdims=True)
    return np.array([[rel_entr(a, b).sum() for b in p] for a in p])


def near_equal_kl(p, step):
    """Σ p log(p/q) for q = p·(1 + step), with Σ p·step = 0, by the terms' own series: no cancellation."""
    return sum(float(a) * (s - log1p(s)) if abs(s) > 1e-4 else float(a) * (s**2 / 2 - s**3 / 3 + s**4 / 4)
               for a, s in zip(p, step, strict=True))  # fmt: skip


@pytest.fixture
def layers():
    return np.sort(np.random.default_rng(0).gamma(1.0, size=(12, 8)))[:, ::-1]


def test_one_pair_is_scipys_entropy(layers):
    for a, b in itertools.pairwise(layers):
        assert spectral_kl(a, b) == pytest.approx(scipy.stats.entropy(a, b), rel=1e-12)


def test_pairs_are_the_definition(layers):
    expected = dense_kl(layers)
    np.testing.assert_allclose(pairwise_spectral_kl(layers), expected, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(spectral_kl(layers[:, None], layers[None]), expected, rtol=1e-11, atol=1e-15)


def test_row_is_from_column_is_to(layers):
    kl = pairwise_spectral_kl(layers)
    assert kl[2, 5] == pytest.approx(spectral_kl(layers[2], layers[5]), rel=1e-12)
    assert kl[2, 5] != pytest.approx(kl[5, 2], rel=1e-3)


@given(spectra, spectra)
def test_never_negative_and_zero_only_for_equal(a, b):
    kl = spectral_kl(a, b)
    p, q = a / a.sum(), b / b.sum()
    assert kl >= np.abs(p - q).sum() ** 2 / 2 * (1 - 1e-9) - 1e-30  # Pinsker's inequality
    assert spectral_kl(a, a) == spectral_kl(a, 2 * a) == 0
    pairs = pairwise_spectral_kl([a, b])
    np.testing.assert_array_equal(np.diag(pairs), 0)
    assert pairs[0, 1] == pytest.approx(kl, rel=1e-5, abs=1e-30)


@given(spectra, spectra, st.sampled_from([1e-300, 1e-3, 8.0, 1e300]))
def test_scale_does_not_matter(a, b, scale):
    assert spectral_kl(a / 1e6 * scale, b) == pytest.approx(spectral_kl(a, b), rel=1e-6, abs=1e-18)


@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10])
def test_near_equal_spectra_keep_their_digits(size):
    """Exact fractions p and q that differ by `size`; the sum of p log(p/q) in floats would drown in rounding."""
    p = [Fraction(4, 8), Fraction(3, 8), Fraction(1, 8)]
    delta = Fraction(2) ** round(np.log2(size))
    q = [p[0] - delta, p[1], p[2] + delta]
    step = [float((b - a) / a) for a, b in zip(p, q, strict=True)]
    expected = near_equal_kl(p, step)
    p, q = [float(x) for x in p], [float(x) for x in q]
    far = [0.9, 0.09, 0.01]
    assert spectral_kl(p, q) == pytest.approx(expected, rel=1e-6)
    assert pairwise_spectral_kl([p, q, far])[0, 1] == pytest.approx(expected, rel=1e-6)
    assert pairwise_spectral_kl([p, q, far])[0, 2] == pytest.approx(
        sum(a * log(a / b) for a, b in zip(p, far, strict=True)), rel=1e-12
    )


def test_many_orders_of_magnitude():
    wide = np.logspace(0, -300, 6)
    flat = np.ones(6)
    kl = pairwise_spectral_kl([wide, flat])
    np.testing.assert_allclose(kl, dense_kl(np.array([wide, flat])), rtol=1e-11)


def test_equal_rows_among_others_are_exactly_zero_apart(layers):
    twice = np.concatenate([layers, layers[::-1] * 3.0])
    kl = pairwise_spectral_kl(twice)
    assert (kl >= 0).all()
    assert (np.diag(kl) == 0).all()
    assert (kl[np.arange(24), np.arange(24)[::-1]] <= 1e-31).all()


def test_leading_axes_are_kept(layers):
    kl = pairwise_spectral_kl(np.stack([layers, layers[::-1]]))
    assert kl.shape == (2, 12, 12)
    np.testing.assert_allclose(kl[1], kl[0][::-1, ::-1], rtol=1e-9, atol=1e-16)


def test_a_zero_inside_makes_it_infinite_one_way_and_is_named():
    spectra = [[3.0, 1.0, 0.0], [2.0, 1.0, 1.0], [4.0, 1.0, 0.0]]
    with pytest.warns(InfiniteDivergenceWarning, match=r"2 of 9 divergences are infinite: .* floor="):
        kl = pairwise_spectral_kl(spectra)
    p = np.array(spectra) / np.sum(spectra, axis=1, keepdims=True)
    np.testing.assert_allclose(kl, [[rel_entr(a, b).sum() for b in p] for a in p], rtol=1e-11, atol=1e-15)
    with pytest.warns(InfiniteDivergenceWarning, match="1 of 1 divergences"):
        assert spectral_kl(spectra[1], spectra[0]) == np.inf
    assert spectral_kl(spectra[0], spectra[1]) == pytest.approx(kl[0, 1], rel=1e-12)


def test_a_floor_is_relative_to_the_largest(recwarn):
    spectra = np.array([[300.0, 100.0, 0.0], [2.0, 1.0, 1.0]])
    raised = np.array([[300.0, 100.0, 3.0], [2.0, 1.0, 1.0]])
    np.testing.assert_allclose(pairwise_spectral_kl(spectra, floor=0.01), dense_kl(raised), rtol=1e-11, atol=1e-15)
    assert spectral_kl(*spectra, floor=0.01) == pytest.approx(scipy.stats.entropy(*raised), rel=1e-12)
    assert not recwarn.list


def test_zero_spectra_and_nan_are_undefined_and_leave_the_others(layers, recwarn):
    kl = pairwise_spectral_kl([*layers[:3], np.zeros(8), np.full(8, np.nan)])
    np.testing.assert_allclose(kl[:3, :3], dense_kl(layers[:3]), rtol=1e-11, atol=1e-15)
    assert np.isnan(kl[3:]).all()
    assert np.isnan(kl[:, 3:]).all()
    assert np.isnan(spectral_kl(layers[0], np.zeros(8)))
    assert np.isnan(pairwise_spectral_kl(np.zeros((3, 4)))).all()
    assert not recwarn.list


def test_a_zero_spectrum_stays_undefined_beside_infinite_ones():
    with pytest.warns(InfiniteDivergenceWarning):
        kl = pairwise_spectral_kl([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    assert kl[1, 0] == np.inf
    assert np.isnan(kl[2]).all()
    assert np.isnan(kl[:, 2]).all()


def test_a_zero_spectrum_has_no_floor():
    assert np.isnan(spectral_kl([0.0, 0.0], [1.0, 1.0], floor=0.1))


def test_one_layer_is_no_distance():
    np.testing.assert_array_equal(pairwise_spectral_kl([[2.0, 1.0]]), [[0.0]])


def test_difference_is_of_the_two_matrices(layers):
    other = np.sort(np.random.default_rng(5).gamma(2.0, size=(12, 4)))[:, ::-1]
    np.testing.assert_allclose(kl_difference(layers, other), dense_kl(layers) - dense_kl(other), rtol=1e-9, atol=1e-14)


def test_difference_of_zero_spectra_is_undefined(layers):
    assert np.isnan(kl_difference(layers, np.zeros((12, 8)))).all()


def test_unequal_lengths_are_refused_with_the_way_out():
    message = "sigma_j: expected 2 singular values, as sigma_i has, found 3; truncate both to the same number"
    with pytest.raises(ParameterError, match=message):
        spectral_kl([2.0, 1.0], [3.0, 2.0, 1.0])


def test_unequal_layer_counts_are_refused(layers):
    with pytest.raises(ParameterError, match="baseline: expected 12 layers, as the spectra have, found 6"):
        kl_difference(layers, layers[:6])


def test_pairs_need_two_axes():
    with pytest.raises(ParameterError, match=r"spectra: expected shape \(..., L, M\), found \(2,\)"):
        pairwise_spectral_kl([2.0, 1.0])


@pytest.mark.parametrize("floor", [0.0, -1.0, 2.0, float("nan")])
def test_a_floor_is_a_share(layers, floor):
    with pytest.raises(ParameterError, match="floor: expected above 0 and at most 1, or None"):
        pairwise_spectral_kl(layers, floor=floor)
