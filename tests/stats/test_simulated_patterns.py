"""Simulated noise: how often voxels without signal get p <= .05 in maps of decoders, by design and unit of exchange.

The full table is printed by ``pytest -m benchmark -s tests/benchmarks/test_simulated_patterns.py``.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import xarray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

from neurorecon.analyses.decoding import fit_decoding
from neurorecon.analyses.design import DecodingSettings
from neurorecon.stats.exchange import choose_exchange, lag_one_autocorrelation

VOXELS = 20


@dataclass(frozen=True)
class Design:
    """Runs of so many samples, AR(1) noise (and white noise on top), features smoothed by a Gaussian, and sessions."""

    runs: int
    length: int
    rho: float = 0.0
    white: float = 0.0
    sigma: float = 0.0
    sessions: int = 1
    features: int = 2


class Targets:
    """What a store does for a decoder: targets by stimulus."""

    def __init__(self, table):
        self.table = table

    def targets(self, name, stimuli):
        return xarray.DataArray(self.table.loc[list(stimuli)].to_numpy(), dims=("stimulus", "feature"))


def simulate(design, random, unit=None, pattern="haufe", n_permutations=99):
    """Return the fit to noise, and the unit of exchange (the default one if None)."""
    tables, responses, features = [], [], []
    for prefix, runs in (("train", design.runs), ("test", max(1, design.runs // 4))):
        number = runs * design.length
        table = pd.DataFrame({"stimulus": [f"{prefix}{row}" for row in range(number)]})
        table["run"] = np.repeat(np.arange(runs), design.length)
        table["session"] = table["run"] % design.sessions
        offsets = random.standard_normal((design.sessions, VOXELS))[table["session"]] * (design.sessions > 1)
        # Sessions differ in what they show, too.
        shown = random.standard_normal((design.sessions, design.features))[table["session"]] * (design.sessions > 1)
        responses.append(np.concatenate([_noise(design, random) for _ in range(runs)]) + offsets)
        features.append(np.concatenate([_features(design, random) for _ in range(runs)]) + shown)
        tables.append(table)
    units = tuple(
        choose_exchange(
            unit, series=False, stimuli=table["stimulus"], runs=table["run"], sessions=table["session"],
            fixed_order=True, confounded=True,
            autocorrelation=lag_one_autocorrelation(features[0], np.arange(len(tables[0])), tables[0]["run"]),
        )
        for table in tables
    )  # fmt: skip
    store = Targets(pd.DataFrame(np.concatenate(features), index=np.concatenate([part["stimulus"] for part in tables])))
    settings = DecodingSettings(pattern=pattern, n_permutations=n_permutations, seed=int(random.integers(10**6)))
    parts = list(zip(responses, tables, strict=True))
    ((_, fit),) = fit_decoding(store, ["x"], *parts, series=False, settings=settings, exchange=units)
    return fit, units[0].unit


def _noise(design, random):
    drawn = random.standard_normal((design.length + 100, VOXELS))
    noise = lfilter([np.sqrt(1 - design.rho**2)], [1, -design.rho], drawn, axis=0)[100:]
    return noise + design.white * random.standard_normal(noise.shape)


def _features(design, random):
    drawn = random.standard_normal((design.length + 100, design.features))
    smooth = gaussian_filter1d(drawn, design.sigma, axis=0) if design.sigma else drawn
    return smooth[50:-50] / smooth.std()


def rates(design, repeats, **options):
    """Return the share of voxels with p <= .05, that of correlations, its standard error, and the units."""
    random = np.random.default_rng(0)
    fits = [simulate(design, random, **options) for _ in range(repeats)]
    shares = np.array([(fit.p <= 0.05).mean() for fit, _ in fits])
    correlations = np.mean([fit.correlation_p <= 0.05 for fit, _ in fits])
    return shares.mean(), correlations, shares.std() / np.sqrt(repeats), [unit for _, unit in fits]


@pytest.mark.parametrize("pattern", ["haufe", "weights"])
@pytest.mark.parametrize(
    ("design", "unit"),
    [
        (Design(4, 60), "stimulus"),
        (Design(4, 60, rho=0.9, sigma=5), "shift"),
        (Design(8, 20, sessions=4), "session"),
    ],
)
def test_noise_is_significant_as_often_as_it_says(design, unit, pattern):
    rate, correlated, error, units = rates(design, 40, pattern=pattern)
    assert units.count(unit) >= 36  # a random order looks like a fixed one in 1 of 100 draws
    assert 0.02 < rate < 0.05 + 3 * max(error, np.sqrt(0.05 * 0.95 / (40 * VOXELS)))
    assert correlated <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)


@pytest.mark.parametrize("design", [Design(4, 60, rho=0.9, sigma=5), Design(8, 20, sessions=4)])
def test_any_order_of_stimuli_would_find_patterns_in_noise(design):
    """What the default was before: here it finds weights in noise several times as often as it says."""
    assert rates(design, 15, unit="stimulus", pattern="weights")[0] > 0.2
