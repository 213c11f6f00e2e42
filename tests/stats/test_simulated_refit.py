"""False positive rates of the refit null on simulated noise; the full table is printed by tests/benchmarks.

Rates are pooled over voxels and data sets. Voxels of one data set share features and orders, so limits are those of as
many independent tests as there are voxels, widened to twice the standard error.
"""

import numpy as np
import pytest
from scipy.signal import lfilter

from neurorecon.decoders.banded import BandedRidge
from neurorecon.stats import refit_permutation_test

ALPHAS = np.logspace(-1, 4, 6)


def limit(tests, level=0.05):
    """Return the upper limit of a rate, 99.9 % of a binomial distribution with twice the standard error."""
    return level + 2 * 3.1 * np.sqrt(level * (1 - level) / tests)


def trials(seed, n_test, signal=0.0, voxels=150, features=(10, 20), n=60):
    """Return features, responses and bands; the first band carries the signal."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((n + n_test, sum(features)))
    weights = random.standard_normal((features[0], voxels)) * signal / np.sqrt(features[0])
    y = random.standard_normal((n + n_test, voxels)) + x[:, : features[0]] @ weights
    return (x[:n], y[:n], x[n:], y[n:]), {"a": slice(0, features[0]), "b": slice(features[0], None)}


def series(seed, unit, smooth, runs=6, volumes=80, n_test=160, voxels=100, rho=0.9):
    """Return features at four delays, AR noise, and units of the training samples."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((runs * volumes + n_test, 6))
    if smooth:
        x = lfilter([1], [1, -0.9], x, axis=0)
    x = np.concatenate([np.roll(x, delay, axis=0) for delay in (1, 2, 3, 4)], axis=1)
    y = lfilter([1], [1, -rho], random.standard_normal((len(x), voxels)), axis=0)
    n = runs * volumes
    return (x[:n], y[:n], x[n:], y[n:]), np.arange(n) // unit


def rate(tests, level=0.05):
    return np.mean([test.p <= level for test in tests])


@pytest.mark.parametrize("cv", ["gcv", 4])
def test_mixtures_that_are_searched_in_every_permutation_are_valid_and_those_of_the_model_are_not(cv):
    found = {"search": [], "model": []}
    datasets, voxels = 30, 50
    for seed in range(datasets):
        arrays, bands = trials(seed, 25, voxels=voxels, features=(10, 30), n=80)
        keywords = {"alphas": ALPHAS, "cv": cv, "bands": bands, "n_permutations": 39, "seed": seed}
        model = BandedRidge(bands, alphas=ALPHAS, cv=4, random_state=seed).fit(*arrays[:2])
        for name, mixtures in (("search", "search"), ("model", model.mixtures_)):
            found[name].append(refit_permutation_test(*arrays, mixtures=mixtures, **keywords))
    highest = limit(datasets * voxels)
    assert rate(found["search"]) < highest
    for band in range(2):
        assert np.mean([test.split.p[band] <= 0.05 for test in found["search"]]) < highest
    assert rate(found["model"]) > rate(found["search"]) + 0.015


def test_a_band_without_signal_is_not_significant_next_to_one_with_signal():
    shares = []
    for seed in range(20):
        arrays, bands = trials(seed, 25, signal=1, voxels=50)
        test = refit_permutation_test(
            *arrays, alphas=ALPHAS, bands=bands, mixtures="search", n_permutations=39, seed=seed
        )
        shares.append((test.split.p <= 0.05).mean(axis=1))
    with_signal, without = np.mean(shares, axis=0)
    assert with_signal > 0.8
    assert without < limit(20 * 50)


@pytest.mark.parametrize("n_test", [3, 6])
def test_covariance_is_valid_with_few_test_stimuli_and_finds_most(n_test):
    rates = {}
    for signal in (0, 1):
        for statistic in ("covariance", "r2", "correlation"):
            tests = [
                refit_permutation_test(
                    *trials(seed, n_test, signal, features=(10, 0))[0],
                    alphas=ALPHAS, n_permutations=99, seed=seed, statistic=statistic,
                )
                for seed in range(8)
            ]  # fmt: skip
            rates[signal, statistic] = rate(tests)
    assert rates[0, "covariance"] < limit(8 * 150)
    assert rates[1, "covariance"] > rates[1, "r2"] + 0.03
    assert rates[1, "covariance"] > rates[1, "correlation"] + 0.2


@pytest.mark.parametrize("smooth", [False, True], ids=["white features", "smooth features"])
def test_long_stretches_of_series_are_valid_and_single_volumes_are_not(smooth):
    rates = {}
    for unit in (1, 20, 80):
        tests = []
        for seed in range(8):
            arrays, units = series(seed, unit, smooth)
            tests.append(refit_permutation_test(*arrays, alphas=ALPHAS, units=units, n_permutations=59, seed=seed))
        rates[unit] = rate(tests)
    assert rates[20] < limit(8 * 100)
    assert rates[80] < limit(8 * 100)
    if not smooth:
        assert rates[1] > 0.075
