import numpy as np
import pytest
from himalaya import scoring
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import r2_score as sklearn_r2_score

from neurorecon.decoders import correlation_score, correlation_score_split, r2_score, r2_score_split
from neurorecon.errors import InputError

arrays = st.tuples(st.integers(3, 20), st.integers(1, 5), st.integers(1, 4), st.integers(0, 999))


def draw(shape):
    n_samples, n_targets, n_bands, seed = shape
    generator = np.random.default_rng(seed)
    y = generator.standard_normal((n_samples, n_targets)) + 3
    return y, generator.standard_normal((n_bands, n_samples, n_targets)) + 0.3 * y


@settings(max_examples=50, deadline=None)
@given(shape=arrays)
def test_scores_are_those_of_sklearn_scipy_and_himalaya(shape):
    y, bands = draw(shape)
    predicted = bands[0]
    expected = sklearn_r2_score(y, predicted, multioutput="raw_values")
    np.testing.assert_allclose(r2_score(y, predicted), expected)
    np.testing.assert_allclose(r2_score(y, predicted), scoring.r2_score(y, predicted))
    correlations = [pearsonr(*pair).statistic for pair in zip(y.T, predicted.T, strict=True)]
    np.testing.assert_allclose(correlation_score(y, predicted), correlations, atol=1e-12)
    np.testing.assert_allclose(correlation_score(y, predicted), scoring.correlation_score(y, predicted))
    centered = y - y.mean(axis=0)
    shares = r2_score_split(y, bands)
    np.testing.assert_allclose(shares, scoring.r2_score_split(centered, bands), atol=1e-12)
    np.testing.assert_allclose(shares.sum(axis=0), r2_score(centered, bands.sum(axis=0)), atol=1e-10)
    shares = correlation_score_split(y, bands + 2)
    np.testing.assert_allclose(shares, scoring.correlation_score_split(y, bands), atol=1e-12)
    np.testing.assert_allclose(shares.sum(axis=0), correlation_score(y, bands.sum(axis=0)), atol=1e-12)


def test_targets_that_do_not_vary_have_no_score():
    y = np.stack([np.full(6, 0.1), np.arange(6.0)], axis=1)
    predicted = np.stack([np.arange(6.0), np.full(6, 0.1)], axis=1)
    np.testing.assert_array_equal(np.isnan(r2_score(y, predicted)), [True, False])
    np.testing.assert_array_equal(correlation_score(y, predicted), [np.nan, 0.0])
    np.testing.assert_array_equal(np.isnan(r2_score_split(y, predicted[None])), [[True, False]])
    np.testing.assert_array_equal(correlation_score_split(y, predicted[None]), [[np.nan, 0.0]])


@pytest.mark.parametrize("score", [r2_score, correlation_score, r2_score_split, correlation_score_split])
def test_shapes_that_do_not_fit_are_refused(score):
    with pytest.raises(InputError, match="do not match"):
        score(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(InputError, match="do not match"):
        score(np.zeros(4), np.zeros(4))
