"""Measures of concentration against scipy, dense numpy and their own properties."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from msplora_analysis import kernels
from msplora_core.errors import ParameterError

MEASURES = [
    kernels.spectral_distribution,
    kernels.stable_rank,
    kernels.entropy_rank,
    kernels.participation_ratio,
    kernels.energy_rank,
    lambda sigma: kernels.effective_rank_ratio(sigma, 2),
]
NUMBERS = MEASURES[1:]

spectra = hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(1e-3, 1e3)).map(lambda s: np.sort(s)[::-1])


@pytest.fixture
def sigma():
    return np.sort(np.random.default_rng(0).gamma(1.0, size=(5, 8)))[:, ::-1]


def test_entropy_rank_is_the_exponential_of_scipys_entropy(sigma):
    np.testing.assert_allclose(kernels.entropy_rank(sigma), np.exp(scipy.stats.entropy(sigma, axis=-1)), rtol=1e-13)


def test_stable_rank_of_a_dense_matrix():
    matrix = np.random.default_rng(1).normal(size=(20, 7))
    expected = np.linalg.norm(matrix, "fro") ** 2 / np.linalg.norm(matrix, 2) ** 2
    assert kernels.stable_rank(np.linalg.svd(matrix, compute_uv=False)) == pytest.approx(expected, rel=1e-13)


def test_participation_ratio_of_a_dense_matrix():
    matrix = np.random.default_rng(2).normal(size=(20, 7))
    gram = matrix.T @ matrix
    expected = np.trace(gram) ** 2 / np.trace(gram @ gram)
    assert kernels.participation_ratio(np.linalg.svd(matrix, compute_uv=False)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.5, 1), (0.500001, 2), (0.9, 2), (0.95, 3), (1.0, 4)])
def test_energy_rank_counts_squares(share, expected):
    assert kernels.energy_rank(np.sqrt([5.0, 4.0, 0.75, 0.25]), share) == expected


def test_effective_rank_ratio_is_the_leading_share(sigma):
    for k in (1, 2, 4, 8):
        expected = [sum(row[:k]) / sum(row) for row in sigma.tolist()]
        np.testing.assert_allclose(kernels.effective_rank_ratio(sigma, k), expected, rtol=1e-13)


@given(spectra)
def test_bounds_and_monotony(sigma):
    M = len(sigma)
    for measure in (kernels.stable_rank, kernels.entropy_rank, kernels.participation_ratio):
        assert 1 - 1e-12 <= measure(sigma) <= M + 1e-9
    ratios = [kernels.effective_rank_ratio(sigma, k) for k in range(1, M + 2)]
    assert all(k / M - 1e-12 <= ratio <= 1 + 1e-12 for k, ratio in enumerate(ratios[:M], 1))
    assert all(later >= earlier for earlier, later in itertools.pairwise(ratios))
    assert ratios[M - 1] == ratios[M] == 1
    ranks = [kernels.energy_rank(sigma, share) for share in (0.1, 0.5, 0.9, 1.0)]
    assert ranks == sorted(ranks)
    assert set(ranks) <= set(range(1, M + 1))


@given(spectra, st.sampled_from([1e-300, 1e-8, 3.0, 1e300]))
def test_scale_does_not_matter(sigma, scale):
    for measure in MEASURES:
        np.testing.assert_allclose(measure(sigma / 1e3 * scale), measure(sigma), rtol=1e-9)


@given(spectra, st.randoms())
def test_order_does_not_matter(sigma, random):
    shuffled = sigma.tolist()
    random.shuffle(shuffled)
    for measure in MEASURES:
        np.testing.assert_array_equal(measure(shuffled), measure(sigma))


@pytest.mark.parametrize("measure", MEASURES)
def test_a_zero_spectrum_or_one_with_nan_gives_nan_and_leaves_the_others(measure, recwarn):
    result = measure([[3.0, 1.0], [0.0, 0.0], [1.0, np.nan], [2.0, 2.0]])
    assert np.isnan(result[1:3]).all()
    np.testing.assert_array_equal(result[[0, 3]], measure([[3.0, 1.0], [2.0, 2.0]]))
    assert not recwarn.list


@pytest.mark.parametrize("measure", NUMBERS)
def test_leading_axes_are_kept(measure, sigma):
    stacked = np.stack([sigma, 2 * sigma])
    assert measure(stacked).shape == (2, 5)
    np.testing.assert_allclose(measure(stacked)[1], [measure(row) for row in sigma], rtol=1e-13)


@pytest.mark.parametrize("measure", NUMBERS)
def test_one_value_is_rank_one(measure):
    assert measure([0.25]) == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int32, bool, object, "bfloat16"])
def test_reads_what_numpy_reads(dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    values = np.array([1, 1, 0]).astype(dtype)
    assert kernels.entropy_rank(values) == 2
    assert kernels.entropy_rank(values).dtype == np.float64


def test_half_precision_sums_do_not_overflow():
    assert kernels.effective_rank_ratio(np.full(4, 60000, dtype=np.float16), 1) == 0.25


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        ([], r"sigma: expected shape \(..., M\), M at least 1, found \(0,\)"),
        (3.0, r"sigma: expected shape \(..., M\), M at least 1, found \(\)"),
        ([2.0, -1.0], "sigma: expected singular values: finite, at least 0, found -1.0"),
        ([np.inf, 1.0], "sigma: expected singular values: finite, at least 0, found inf"),
        ([1j], "sigma: expected real numbers in an array, all rows equally long, found complex numbers"),
        (["a"], "sigma: expected real numbers in an array"),
        ([[1.0], [2.0, 1.0]], "sigma: expected real numbers in an array, all rows equally long"),
    ],
)
def test_what_is_no_spectrum_is_refused(sigma, message):
    for measure in MEASURES:
        with pytest.raises(ParameterError, match=message):
            measure(sigma)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, None])
def test_k_is_a_whole_number(k):
    with pytest.raises(ParameterError, match=f"k: expected a whole number, at least 1, found {k}"):
        kernels.effective_rank_ratio([1.0], k)


@pytest.mark.parametrize("share", [0, 1.1, float("nan")])
def test_a_share_is_above_0_and_at_most_1(share):
    with pytest.raises(ParameterError, match="share: expected above 0 and at most 1"):
        kernels.energy_rank([1.0], share)
