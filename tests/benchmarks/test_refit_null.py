"""False positive rates and power of the refit null, and what the search among mixtures of bands costs.

``pytest -m benchmark -s tests/benchmarks/test_refit_null.py`` prints the tables of docs/validation.md. Rates are means
over data sets, with the standard error of that mean. ``NEURORECON_REFIT_DATASETS`` (100): how many of each design.
"""

import os
import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

from neurorecon.decoders.banded import BandedRidge
from neurorecon.decoders.banded_search import candidate_mixtures as all_mixtures
from neurorecon.stats import refit_permutation_test

pytestmark = pytest.mark.benchmark

DATASETS = int(os.environ.get("NEURORECON_REFIT_DATASETS", "100"))
ALPHAS = np.logspace(-1, 4, 11)
SIZES = (10, 30, 5, 20, 15)


def _rates(tests, part=lambda test: test.p):
    """Return the rates at .05 and .01 and the standard error at .05, in words."""
    each = np.array([[(part(test) <= level).mean() for level in (0.05, 0.01)] for test in tests])
    return f"{each[:, 0].mean():.3f} +- {each[:, 0].std() / np.sqrt(len(each)):.3f} | {each[:, 1].mean():.3f}"


def _trials(seed, n_test, signal=0.0, n_bands=2, n=80, voxels=100):
    random = np.random.default_rng(seed)
    edges = np.cumsum([0, *SIZES[:n_bands]])
    x = random.standard_normal((n + n_test, edges[-1]))
    weights = random.standard_normal((SIZES[0], voxels)) * signal / np.sqrt(SIZES[0])
    y = random.standard_normal((n + n_test, voxels)) + x[:, : SIZES[0]] @ weights
    bands = {f"band {number}": slice(*edges[number : number + 2]) for number in range(n_bands)}
    return (x[:n], y[:n], x[n:], y[n:]), bands


def _series(seed, runs, volumes, smooth, rho=0.9, drift=0.0, n_test=2, voxels=100):
    """Return delayed features and AR noise of runs, each centered."""
    random = np.random.default_rng(seed)
    x, y = [], []
    for _ in range(runs + n_test):
        features = random.standard_normal((volumes, 8))
        features = gaussian_filter1d(features, smooth, axis=0) if smooth else features
        features = features / features.std()
        delayed = [np.vstack([np.zeros((delay, 8)), features[:-delay]]) for delay in (1, 2, 3, 4)]
        noise = lfilter([1], [1, -rho], random.standard_normal((volumes + 100, voxels)), axis=0)[100:]
        noise *= np.sqrt(1 - rho**2)
        noise += drift * np.linspace(-1, 1, volumes)[:, None] * random.standard_normal(voxels)
        x.append(np.concatenate(delayed, axis=1))
        y.append(noise - noise.mean(axis=0))
    n = runs * volumes
    x, y = np.concatenate(x), np.concatenate(y)
    return x[:n], y[:n], x[n:], y[n:]


def test_mixtures_of_bands():
    print("\n| bands | signal | mixtures | joint .05 | .01 | first band .05 | .01 | other bands .05 | .01 |")
    for n_bands in (2, 3):
        for signal in (0, 1):
            for name in ("of the model", "searched"):
                tests = []
                for seed in range(DATASETS):
                    arrays, bands = _trials(seed, 30, signal, n_bands)
                    given = "search"
                    if name == "of the model":
                        given = BandedRidge(bands, alphas=ALPHAS, random_state=seed).fit(*arrays[:2]).mixtures_
                    tests.append(
                        refit_permutation_test(
                            *arrays, alphas=ALPHAS, bands=bands, mixtures=given, n_permutations=99, seed=seed
                        )
                    )
                parts = [_rates(tests), *(_rates(tests, part) for part in (_first, _others))]
                print(f"| {n_bands} | {signal} | {name} | {' | '.join(parts)} |", flush=True)


def _first(test):
    return test.split.p[0]


def _others(test):
    return test.split.p[1:]


def test_few_test_stimuli():
    print("\n| test stimuli | statistic | noise .05 | .01 | power .05 | .01 |")
    for n_test in (3, 4, 6, 8, 20):
        for statistic in ("covariance", "r2", "correlation"):
            rates = []
            for signal in (0, 1):
                tests = [
                    refit_permutation_test(
                        *_trials(seed, n_test, signal, n_bands=1)[0],
                        alphas=ALPHAS, n_permutations=199, seed=seed, statistic=statistic,
                    )
                    for seed in range(DATASETS)
                ]  # fmt: skip
                rates.append(_rates(tests))
            print(f"| {n_test} | {statistic} | {' | '.join(rates)} |", flush=True)


def test_series():
    designs = {
        "8 runs of 100, AR(.9)": {"runs": 8, "volumes": 100},
        "2 runs of 300, AR(.9)": {"runs": 2, "volumes": 300},
        "2 runs of 300, AR(.97)": {"runs": 2, "volumes": 300, "rho": 0.97},
        "1 run of 300, AR(.9) and drift": {"runs": 1, "volumes": 300, "drift": 1.0},
    }
    print("\n| design | features | volumes that trade places together | .05 | .01 |")
    for name, design in designs.items():
        for smooth in (0, 5):
            for unit in (1, 2, 5, 10, 20, 30, design["volumes"]):
                if unit == design["volumes"] and design["runs"] < 5:
                    continue
                units = np.arange(design["runs"] * design["volumes"]) // unit
                tests = [
                    refit_permutation_test(
                        *_series(seed, smooth=smooth, **design),
                        alphas=ALPHAS,
                        units=units,
                        n_permutations=99,
                        seed=seed,
                    )
                    for seed in range(DATASETS)
                ]
                kind = "smooth" if smooth else "white"
                print(f"| {name} | {kind} | {unit} | {_rates(tests)} |", flush=True)


def test_cost_of_the_search():
    """Processor time beside the test of one fixed mixture per voxel, as of a fitted model, and beside all mixtures."""
    print("\n| bands | alpha by | mixtures | candidates | s | ratio | mean R2 | power .05 |")
    random = np.random.default_rng(0)
    for n_bands in (2, 5):
        edges = np.cumsum([0, *SIZES[:n_bands]])
        bands = {f"band {number}": slice(*edges[number : number + 2]) for number in range(n_bands)}
        x = random.standard_normal((500, edges[-1]))
        y = 1.5 * random.standard_normal((500, 1000))
        share = random.dirichlet(np.full(n_bands, 0.6), 1000).T
        for band, part in zip(bands.values(), share, strict=True):
            width = band.stop - band.start
            y += np.sqrt(part / width) * (x[:, band] @ random.standard_normal((width, 1000)))
        arrays = (x[:400], y[:400], x[400:], y[400:])
        model = BandedRidge(bands, alphas=ALPHAS).fit(*arrays[:2])
        for cv in ("gcv", 5):
            base = None
            for name, given in (
                ("of the model", {"mixtures": model.mixtures_}),
                ("searched", {"mixtures": "search"}),
                ("searched, all of BandedRidge", {"candidates": all_mixtures(n_bands)}),
            ):
                if cv == 5 and n_bands == 5 and "all" in name:
                    continue
                start = time.process_time()
                test = refit_permutation_test(
                    *arrays, alphas=ALPHAS, bands=bands, cv=cv, n_permutations=99 if cv == "gcv" else 19, **given
                )
                seconds = time.process_time() - start
                base = base or seconds
                number = len(np.unique(np.round(test.mixtures, 6), axis=1).T) if base == seconds else len(
                    given.get("candidates", range(n_bands + 1)))  # fmt: skip
                print(f"| {n_bands} | {cv} | {name} | {number} | {seconds:.1f} | {seconds / base:.1f} "
                      f"| {test.observed.mean():.4f} | {(test.p <= 0.05).mean():.3f} |", flush=True)  # fmt: skip
