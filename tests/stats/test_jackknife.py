import numpy as np
import pytest
from noise_designs import COVERED, coverage
from scipy import stats

from neurorecon.errors import InputError
from neurorecon.stats import jackknife_interval


@pytest.mark.parametrize("name", COVERED)
def test_intervals_of_r2_hold_the_truth(name):
    _, rate = coverage(**COVERED[name], experiments=300)
    assert rate >= 0.91 - 2.6 * np.sqrt(0.91 * 0.09 / 300)


def test_the_interval_of_a_mean_is_that_of_student():
    values = np.random.default_rng(0).standard_normal(25)
    found = jackknife_interval((values - values.mean()) / 25, values.mean())
    low, high = stats.t.interval(0.95, 24, values.mean(), stats.sem(values))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_blocks_never_cross_runs_and_there_are_at_least_4():
    influence = np.zeros((2, 80))
    influence[:, 40:] = np.random.default_rng(0).standard_normal(40) / 80
    found = jackknife_interval(influence, np.zeros(2), np.repeat([1, 2], 40))
    assert found.low.shape == (2,)
    one = jackknife_interval(np.repeat([1.0, -1.0], 10), 0.0, np.zeros(20))
    assert one.standard_error == pytest.approx(np.sqrt(4 / 3 * 4 * 25))


def test_what_has_no_interval():
    with pytest.raises(InputError, match="between 0 and 1"):
        jackknife_interval(np.zeros(5), 0.0, level=1)
    with pytest.raises(InputError, match="1 samples"):
        jackknife_interval(np.zeros(1), 0.0)
