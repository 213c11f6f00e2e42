"""Noise ceilings of simulated designs whose true ceiling is known, through a store.

The full version, with more designs and replicates, is ``tests/benchmarks/test_ceilings.py``; its table is in
docs/validation.md.
"""

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.stats import mean_ceiling
from tests.stats.simulations import mean_of, series, trials, within_runs


@pytest.fixture
def store_of(tmp_path):
    """Return a function that builds a store of responses, a time series where the table has times."""

    def build(responses, table, name="sim"):
        options = {"repetition_time": 2.0} if "time" in table else {}
        # A store needs training samples; these are shown once.
        train = (
            table.iloc[:12].assign(split="train", run=99) if "time" in table else table.iloc[:12].assign(split="train")
        )
        table = pd.concat([table, train.assign(stimulus=[f"train{number}" for number in range(12)])])
        responses = np.concatenate([responses, responses[:12]])
        return nr.build_from_arrays(tmp_path / f"{name}.icechunk", responses, table, progress=False, **options)

    return build


def ceiling(store, of="test"):
    return mean_ceiling(store.noise_ceiling("subj01", of=of))


@pytest.mark.parametrize(
    "design",
    [
        {"n_stimuli": 200, "n_repeats": 2},
        {"n_stimuli": 20, "n_repeats": 2},
        {"n_stimuli": 60, "n_repeats": 4, "sessions": 4, "offset": 1.5},
        {"n_stimuli": 60, "n_repeats": 4, "sessions": 4, "offset": 1.5, "crossed": True},
        {"n_stimuli": 60, "n_repeats": 3, "sessions": 2, "offset": 1.5, "crossed": True},
    ],
    ids=["200 stimuli", "20 stimuli", "nested sessions", "crossed sessions", "partly crossed sessions"],
)
@pytest.mark.parametrize("signal", [0.0, 0.4])
def test_trials(store_of, design, signal):
    store = store_of(*trials(np.random.default_rng(1), signal=signal, **design))
    assert ceiling(store) == pytest.approx(mean_of(signal, design["n_repeats"]), abs=0.03 if signal else 0.05)
    assert ceiling(store, "single") == pytest.approx(signal, abs=0.03)
    assert list(store.mean_ceilings("subj01").values()) == [pytest.approx(ceiling(store), abs=1e-3)]


def test_ten_repeats_each_in_its_own_order(store_of):
    rng = np.random.default_rng(2)
    store = store_of(*trials(rng, 60, 10, 0.5))
    assert ceiling(store, "single") == pytest.approx(0.5, abs=0.03)
    assert ceiling(store) == pytest.approx(mean_of(0.5, 10), abs=0.03)
    orders = [rng.permutation(60) for _ in range(10)]
    store = store_of(*series(rng, orders, 0.5), name="series")
    assert store.noise_ceiling("subj01") is None
    assert "no run repeats the sequence" in store.about_ceilings("subj01")["clips"]


def test_a_series_in_which_nothing_is_shown_twice_has_none(store_of):
    orders = np.arange(60).reshape(2, 30)
    store = store_of(*series(np.random.default_rng(3), orders, 0.0, clip=2))
    assert store.noise_ceiling("subj01") is None
    assert store.about_ceilings("subj01")["clips"] == "none: no stimulus is shown in more than one run"


@pytest.mark.parametrize("repeats", [2, 10])
@pytest.mark.parametrize("signal", [0.0, 0.3])
@pytest.mark.parametrize("clip", [1, 2])
def test_runs_that_repeat_a_sequence(store_of, repeats, signal, clip):
    rng = np.random.default_rng(4)
    orders = np.tile(np.arange(240 // clip).reshape(4, -1), (repeats, 1))
    store = store_of(*series(rng, orders, signal, clip=clip))
    share = within_runs(signal, 60)
    assert ceiling(store, "single") == pytest.approx(share, abs=0.03)
    assert ceiling(store) == pytest.approx(mean_of(share, repeats), abs=0.03)


def test_the_ceiling_of_an_roi_is_the_mean_r2_of_a_perfect_model(store_of):
    """Also where its voxels differ: half of them have no signal, and their variances differ."""
    rng = np.random.default_rng(5)
    responses, table = trials(rng, 100, 10, 0.0)
    voxels = responses.shape[1]
    stimulus = table["stimulus"].str[1:].astype(int).to_numpy()
    signal = rng.standard_normal((100, voxels)) * (np.arange(voxels) % 2) * 1.5**0.5
    scale = np.exp(rng.standard_normal(voxels))
    store = store_of((responses + signal[stimulus]) * scale, table)
    measured = store.responses("subj01", split="test", average="stimulus")
    truth = (signal * scale)[[int(name[1:]) for name in measured["stimulus"].values]]
    error = measured.values - truth
    error, centered = (part - part.mean(axis=0) for part in (error, measured.values))
    r2 = 1 - (error**2).sum(axis=0) / (centered**2).sum(axis=0)
    assert ceiling(store) == pytest.approx(r2.mean(), abs=0.02)
