import numpy as np
import pytest
from scipy import stats

from neurorecon.errors import InputError
from neurorecon.stats import bootstrap_interval, bootstrap_means, bootstrap_p, bootstrap_weights
from neurorecon.stats.bootstrap import interval_of


def test_interval_of_the_mean_is_scipys():
    values = np.random.default_rng(0).gamma(2.0, size=(60, 3))
    ours = bootstrap_interval(values, n_bootstraps=6000, level=0.9, seed=1)
    reference = stats.bootstrap(
        (values,), np.mean, axis=0, n_resamples=6000, confidence_level=0.9, method="percentile",
        rng=np.random.default_rng(2),
    )  # fmt: skip
    # Two sets of 6,000 draws: the ends agree to a few percent of the interval's width.
    width = reference.confidence_interval.high - reference.confidence_interval.low
    assert (np.abs(ours.low - reference.confidence_interval.low) < 0.05 * width).all()
    assert (np.abs(ours.high - reference.confidence_interval.high) < 0.05 * width).all()
    np.testing.assert_allclose(ours.standard_error, reference.standard_error, rtol=0.05)
    np.testing.assert_allclose(ours.estimate, values.mean(axis=0))


def test_callable_and_values_give_the_same():
    values = np.random.default_rng(0).standard_normal((20, 2))
    direct = bootstrap_interval(values, seed=3, n_bootstraps=50)
    called = bootstrap_interval(lambda indices: values[indices].mean(axis=0), 20, seed=3, n_bootstraps=50)
    for one, other in zip(direct, called, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-14)


def test_any_statistic_over_pairs():
    x, y = np.random.default_rng(0).standard_normal((2, 40))
    y = y + x
    interval = bootstrap_interval(lambda i: np.corrcoef(x[i], y[i])[0, 1], 40, n_bootstraps=500)
    assert interval.low < np.corrcoef(x, y)[0, 1] < interval.high
    assert interval.high < 1


def test_coverage_is_nominal():
    generator = np.random.default_rng(5)
    samples = generator.standard_normal((50, 400))
    interval = bootstrap_interval(samples, n_bootstraps=800, level=0.9)
    covered = ((interval.low <= 0) & (interval.high >= 0)).mean()
    assert 0.83 < covered < 0.94


def test_same_seed_same_interval():
    values = np.arange(10.0)
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)
    assert bootstrap_interval(values, seed=4) != bootstrap_interval(values, seed=5)


def test_what_cannot_be_resampled_is_refused():
    with pytest.raises(InputError, match="how many stimuli"):
        bootstrap_interval(lambda indices: indices.mean())
    with pytest.raises(InputError, match="no interval"):
        bootstrap_interval([1.0])
    with pytest.raises(InputError, match="level must be between"):
        bootstrap_interval([1.0, 2.0], level=95)
    with pytest.raises(InputError, match="not defined"):
        bootstrap_interval([1.0, np.nan])


def test_series_need_stretches_of_neighbors():
    """Means of autocorrelated series: intervals over single samples are too narrow, those over stretches are not."""
    white = np.random.default_rng(3).standard_normal((500, 200))
    kernel = np.exp(-np.arange(20) / 4)
    series = np.stack([kernel @ white[t : t + 20] for t in range(480)])
    single, stretches = (bootstrap_interval(series, n_bootstraps=300, level=0.9, block=block) for block in (1, 30))
    covered = [((interval.low <= 0) & (interval.high >= 0)).mean() for interval in (single, stretches)]
    assert covered[0] < 0.6
    assert covered[1] > 0.75


def test_weights_are_counts_of_stretches():
    weights = bootstrap_weights(20, 2000, seed=0, block=5)
    assert (weights[0] == 1).all()
    np.testing.assert_array_equal(weights.sum(axis=1), 20)
    # A sample drawn without its neighbors would be an island.
    drawn = weights[1:] > 0
    assert not (drawn & ~np.roll(drawn, 1, axis=1) & ~np.roll(drawn, -1, axis=1)).any()
    single = bootstrap_weights(20, 2000, seed=0)
    assert single[1:].var() == pytest.approx(1 - 1 / 20, abs=0.03)  # a multinomial draw
    assert bootstrap_weights(3, 5, seed=0, block=100).shape == (6, 3)


def test_counts_and_indices_are_the_same_draws():
    values = np.random.default_rng(0).standard_normal(30)
    means = bootstrap_weights(30, 400, seed=7, block=4)[1:] @ values / 30
    interval = bootstrap_interval(lambda drawn: values[drawn].mean(), 30, n_bootstraps=400, seed=7, block=4)
    np.testing.assert_allclose(interval.standard_error, means.std(ddof=1), rtol=1e-5)


def test_paired_differences_are_scipys():
    rng = np.random.default_rng(0)
    one, other = rng.gamma(2.0, size=(2, 80))
    one += 0.3
    means = bootstrap_means(np.stack([one, other, one - other], axis=1), n_bootstraps=10_000)
    np.testing.assert_allclose(means[:, 0] - means[:, 1], means[:, 2], atol=1e-12)  # the same draws
    ours = interval_of(means[1:, 2], means[0, 2])
    reference = stats.bootstrap(
        (one, other), lambda x, y, axis: np.mean(x - y, axis=axis), paired=True, n_resamples=10_000,
        method="percentile", rng=np.random.default_rng(2),
    )  # fmt: skip
    low, high = reference.confidence_interval
    np.testing.assert_allclose([ours.low, ours.high], [low, high], atol=0.03 * (high - low))
    z = (one - other).mean() / (one - other).std() * np.sqrt(80)
    assert 1 < z < 3
    assert bootstrap_p(means[:, 2]) == pytest.approx(stats.norm.sf(z), abs=0.01)
    assert bootstrap_p(-means[:, 2]) == pytest.approx(1 - bootstrap_p(means[:, 2]), abs=2e-4)


def test_undefined_values_are_left_out_of_their_own_column():
    values = np.random.default_rng(0).standard_normal((12, 3))
    values[:4, 1] = np.nan
    values[:, 2] = np.nan
    means = bootstrap_means(values, n_bootstraps=500)
    np.testing.assert_allclose(means[0, :2], [values[:, 0].mean(), values[4:, 1].mean()])
    assert np.isfinite(means[:, :2]).all()
    weights = bootstrap_weights(12, 500, 0)
    np.testing.assert_allclose(means[:, 1], weights[:, 4:] @ values[4:, 1] / weights[:, 4:].sum(axis=1), atol=1e-6)
    assert np.isnan(bootstrap_p(means)).tolist() == [False, False, True]


def test_p_is_never_zero_and_holds_its_level():
    assert bootstrap_p(bootstrap_means(np.ones((5, 1)), n_bootstraps=99)) == 0.01
    assert bootstrap_p(bootstrap_means(np.zeros((5, 1)), n_bootstraps=99)) == 1.0
    draws = np.random.default_rng(1).standard_normal((60, 2000))
    p = bootstrap_p(bootstrap_means(draws, n_bootstraps=999))
    # Percentile intervals are a little too short: of 60 normal values, by 1 / sqrt(1 - 1 / 60) and Student's t.
    assert np.mean(p <= 0.05) == pytest.approx(stats.t.sf(stats.norm.isf(0.05) * np.sqrt(59 / 60), 59), abs=0.015)
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.035)
