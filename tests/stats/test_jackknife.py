"""Jackknife intervals; how often they cover the true value is simulated in full in ``tests/benchmarks``."""

import numpy as np
import pytest
from scipy.stats import t as student

from neurorecon.errors import InputError
from neurorecon.stats import enough_for_intervals, jackknife_interval, jackknife_r2
from tests.stats.simulations import coverage_of_intervals


def test_trials_are_left_out_one_at_a_time():
    rng = np.random.default_rng(0)
    y, f = rng.standard_normal((2, 40, 3))
    gain, energy = f * (2 * y - f), y**2
    found = jackknife_r2(gain, energy, level=0.9)
    left_out = (gain.sum(axis=0) - gain) / (energy.sum(axis=0) - energy)
    error = np.sqrt(39 / 40 * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose(found.estimate, gain.sum(axis=0) / energy.sum(axis=0))
    np.testing.assert_allclose(found.standard_error, error, rtol=0.15)  # to first order
    np.testing.assert_allclose(found.high - found.estimate, student.ppf(0.95, 39) * found.standard_error)
    np.testing.assert_allclose(found.estimate - found.low, found.high - found.estimate)


def test_blocks_are_longer_than_the_correlation_and_stay_within_runs():
    rng = np.random.default_rng(1)
    steps = np.repeat(rng.standard_normal(8), 20)  # what one run of 20 volumes adds, 8 runs
    steps -= steps.mean()
    runs = np.repeat(np.arange(8), 20)
    found = jackknife_interval(steps / 160, 0.0, runs)
    sums = steps.reshape(8, 20).sum(axis=1) / 160
    assert found.standard_error == pytest.approx(np.sqrt(8 / 7 * (sums**2).sum()))
    assert found.high == pytest.approx(student.ppf(0.975, 7) * found.standard_error)
    shuffled = rng.permutation(160)
    order = shuffled[np.argsort(runs[shuffled], kind="stable")]  # runs in any order, volumes in theirs
    again = jackknife_interval(steps[np.sort(order)[::-1]] / 160, 0.0, runs[np.sort(order)[::-1]])
    assert again.standard_error == pytest.approx(found.standard_error)


def test_bands_and_rois_at_once_are_the_same_as_one_at_a_time():
    rng = np.random.default_rng(2)
    moved = np.cumsum(rng.standard_normal((2, 3, 150)), axis=-1) * np.array([0, 1, 1])[:, None]
    moved[0] = rng.standard_normal((3, 150))
    moved -= moved.mean(axis=-1, keepdims=True)
    runs = np.repeat([3, 1, 2], [40, 60, 50])
    together = jackknife_interval(moved, np.ones((2, 3)), runs)
    for place in np.ndindex(2, 3):
        alone = jackknife_interval(moved[place], 1.0, runs)
        np.testing.assert_allclose([part[place] for part in together], list(alone))


def test_a_joint_r2_and_the_shares_of_its_bands():
    rng = np.random.default_rng(3)
    y, f, g = rng.standard_normal((3, 60))
    gain = np.stack([f * (2 * y - f - g), g * (2 * y - f - g)], axis=1)
    bands = jackknife_r2(gain, (y**2)[:, None])
    joint = jackknife_r2(gain.sum(axis=1), y**2)
    assert bands.estimate.sum() == pytest.approx(float(joint.estimate))
    assert bands.low.shape == (2,)
    assert joint.low.shape == ()


def test_what_has_no_interval():
    assert np.isnan(jackknife_r2(np.ones((5, 2)), np.array([[1, 0]] * 5)).low).tolist() == [False, True]
    for arguments, message in [
        ((np.ones(1), np.ones(1)), "no interval"),
        ((np.ones(3), np.ones(4)), "do not match"),
        ((np.ones(3), np.ones(3), [1, 1]), "runs and samples"),
    ]:
        with pytest.raises(InputError, match=message):
            jackknife_r2(*arguments)
    with pytest.raises(InputError, match="between 0 and 1"):
        jackknife_r2(np.ones(3), np.ones(3), level=95)
    assert enough_for_intervals(np.zeros(240))
    assert enough_for_intervals(np.repeat(np.arange(4), 30))
    assert not enough_for_intervals(np.repeat(np.arange(3), 60))


@pytest.mark.parametrize(
    ("runs", "samples", "series"),
    [(1, 60, False), (1, 240, True), (4, 60, True)],
    ids=["60 trials", "1 run of 240", "4 runs of 60"],
)
def test_intervals_cover_the_true_value(runs, samples, series):
    """The goal is .93; here .91 less two standard errors of 600 draws."""
    assert coverage_of_intervals(runs, samples, series, draws=600) >= 0.91 - 2 * (0.91 * 0.09 / 600) ** 0.5
