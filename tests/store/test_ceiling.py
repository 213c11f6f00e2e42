"""Noise ceilings of means of trials, against the noiseless signal that a simulation knows."""

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.store.build import noise_ceilings
from neurorecon.store.check import as_text, describe

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


def _series(lengths, order=None):
    return pd.concat(
        pd.DataFrame({"stimulus": [f"s{number}" for number in (order or {}).get(run, range(length))], "task": "clips",
                      "session": 1, "run": run, "split": "test", "time": 2.0 * np.arange(length)})
        for run, length in enumerate(lengths)
    ).reset_index(drop=True)  # fmt: skip


def test_a_run_that_ends_early_is_compared_as_far_as_it_goes():
    rng = np.random.default_rng(0)
    table = _series([40, 39, 40])
    movie = rng.standard_normal((40, 500))[table["stimulus"].str[1:].astype(int)]
    found = noise_ceilings(movie + rng.standard_normal(movie.shape), table, None, {"clips": 2.0})
    assert found.noise_ceiling.mean() == pytest.approx(0.75, abs=0.02)
    assert found.test_repeats == pytest.approx([3.0], rel=0.02)
    half = noise_ceilings(movie[:60], table.iloc[:60], None, {"clips": 2.0})
    assert half.tasks == []


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (_series([12, 12], {1: list(range(12, 24))}), "no stimulus is shown in more than one run"),
        (_series([12, 12], {1: [*range(1, 12), 0]}), "no run repeats the sequence of another"),
        (_series([12]).assign(task="images"), "no stimulus is shown more than once"),
        (_series([4, 4]).assign(task="images"), "only 4 stimuli are shown more than once"),
    ],
)
def test_what_has_no_ceiling_says_why(table, reason):
    responses = np.random.default_rng(0).standard_normal((len(table), 3))
    found = noise_ceilings(responses, table, None, {"clips": 2.0})
    assert found.tasks == []
    (said,) = found.missing.values()
    assert reason in said


def test_ceilings_of_the_test_split_are_not_those_of_training_stimuli():
    """Training images of one kind, test images that differ more: each of them shown twice."""
    rng = np.random.default_rng(0)
    ids = np.tile(np.arange(200), 2)
    table = pd.DataFrame({"stimulus": ids.astype(str), "task": "images", "session": 1,
                          "split": np.where(ids < 100, "train", "test")})  # fmt: skip
    signal = rng.standard_normal((200, 500)) * np.where(np.arange(200) < 100, 0.1, 1)[:, None]
    found = noise_ceilings(signal[ids] + rng.standard_normal((400, 500)), table)
    assert found.noise_ceiling.mean() == pytest.approx(2 / 3, abs=0.02)


def test_info_says_why_there_is_no_ceiling(tmp_path):
    table = _series([20, 20], {1: list(range(20, 40))})
    table = table.assign(run=table["run"] + 1, split=np.repeat(["train", "test"], 20))
    responses = np.random.default_rng(0).standard_normal((40, 6))
    store = nr.build_from_arrays(tmp_path / "a.icechunk", responses, table, progress=False, repetition_time=2.0)
    facts = describe(store)
    assert facts["subjects"]["subj01"]["noise_ceiling"] == {"clips": None}
    assert "noise ceiling of clips: none: no stimulus is shown in more than one run" in as_text(facts)
    assert store.noise_ceiling("subj01") is None
    assert store.ncsnr("subj01") is None
