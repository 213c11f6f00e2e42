import numpy as np
import pytest

from neurorecon.errors import InputError
from neurorecon.stats import explainable_variance, noise_ceiling_from_trials, normalize_correlation, normalize_r2


def test_scores_over_ceilings_are_not_clipped_and_low_ceilings_give_nan():
    ceiling = [0.5, 0.2, 0.05, 0.04, 0.0, np.nan]
    r2 = np.array([[0.25, 0.3, -0.1, 0.04, 0.1, 0.1], [0.5] * 6])
    np.testing.assert_allclose(normalize_r2(r2, ceiling)[0], [0.5, 1.5, -2.0, np.nan, np.nan, np.nan])
    np.testing.assert_allclose(normalize_r2(r2, ceiling, floor=0.3)[1], [1.0, *[np.nan] * 5])
    np.testing.assert_allclose(normalize_correlation([0.5, -0.4], [0.25, 0.16]), [1.0, -1.0])


def test_a_perfect_model_reaches_one():
    random = np.random.default_rng(0)
    signal = random.standard_normal((400, 30))
    trials = signal + np.linspace(0.5, 2, 30) * random.standard_normal((6, 400, 30))
    mean = trials.mean(axis=0)
    ceiling = noise_ceiling_from_trials(trials.reshape(-1, 30), np.tile(np.arange(400), 6), n_repeats=6)
    r2 = 1 - ((mean - signal) ** 2).sum(0) / ((mean - mean.mean(0)) ** 2).sum(0)
    r = [np.corrcoef(mean[:, voxel], signal[:, voxel])[0, 1] for voxel in range(30)]
    np.testing.assert_allclose(normalize_r2(r2, ceiling), 1, atol=0.06)
    np.testing.assert_allclose(normalize_correlation(r, ceiling), 1, atol=0.03)
    assert explainable_variance(trials).max() < 1


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="do not match"):
        normalize_r2(np.zeros(3), np.zeros(4))
    with pytest.raises(InputError, match="floor"):
        normalize_r2(np.zeros(3), np.zeros(3), floor=0)
