"""Noise ceilings of means of trials, against the noiseless signal that a simulation knows."""

import numpy as np
import pandas as pd
import pytest

from neurorecon.store.build import noise_ceilings

STIMULI = 20_000


def _averages(trials, ncsnr, seed=0):
    """Return a noiseless signal of unit variance, and means over so many trials of it."""
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((len(trials), len(ncsnr)))
    noise = rng.standard_normal(signal.shape) / np.sqrt(trials)[:, None]  # the mean of k trials of unit variance
    return signal * ncsnr, signal * ncsnr + noise


def _table(trials, split="test"):
    return pd.DataFrame(
        {
            "stimulus": np.arange(len(trials)).astype(str),
            "task": "images",
            "session": 1,
            "split": split,
            "trials": trials,
        }
    )


@pytest.mark.parametrize("counts", [(3,), (1, 2, 3)])
def test_ceiling_of_averages_is_what_the_noiseless_signal_explains(counts):
    ncsnr = np.array([0.0, 0.3, 0.8, 2.0])
    trials = np.random.default_rng(1).choice(counts, STIMULI)
    signal, averages = _averages(trials, ncsnr)
    found = noise_ceilings(averages, _table(trials), ncsnr)
    explained = 1 - (averages - signal).var(axis=0) / averages.var(axis=0)
    np.testing.assert_allclose(found.noise_ceiling, [explained], atol=0.015)
    correlation = [np.corrcoef(one, other)[0, 1] for one, other in zip(signal.T[1:], averages.T[1:], strict=True)]
    np.testing.assert_allclose(found.noise_ceiling[0, 1:], np.square(correlation), atol=0.015)
    assert found.tasks == ["images"]
    assert found.test_repeats == pytest.approx([1 / np.mean(1 / trials)])
    np.testing.assert_allclose(found.ncsnr, [ncsnr], rtol=1e-6)


def test_ceiling_of_averages_counts_the_trials_of_test_stimuli():
    trials = np.array([1, 1, 3, 3])
    table = _table(trials, ["train", "train", "test", "test"])
    found = noise_ceilings(np.zeros((4, 1)), table, np.array([1.0]))
    assert found.noise_ceiling == pytest.approx(np.array([[0.75]]))
    alone = noise_ceilings(np.zeros((4, 1)), table.assign(split="train"), np.array([1.0]))
    assert alone.noise_ceiling == pytest.approx(np.array([[1 / (1 + 2 / 3)]]))


def test_averages_have_no_ceiling_where_nothing_states_the_ncsnr():
    found = noise_ceilings(np.zeros((4, 1)), _table(np.array([3, 3, 2, 1])))
    assert found.tasks == []
    assert found.noise_ceiling.shape == (0, 1)


def test_single_trials_with_a_stated_ncsnr_have_the_ceiling_of_their_averages():
    trials = np.array([3, 2, 1, 2])
    rows = np.repeat(np.arange(4), trials)
    singles = _table(trials).iloc[rows].drop(columns="trials").reset_index(drop=True)
    ncsnr = np.array([0.5, 1.5])
    one = noise_ceilings(np.zeros((len(rows), 2)), singles, ncsnr)
    other = noise_ceilings(np.zeros((4, 2)), _table(trials), ncsnr)
    np.testing.assert_allclose(one.noise_ceiling, other.noise_ceiling, rtol=1e-6)
    assert one.test_repeats == pytest.approx(other.test_repeats)
