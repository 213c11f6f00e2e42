"""Pure noise in the designs of experiments, through the encoding models of the package: who is called significant."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

from neurorecon.analyses.design import EncodingSettings
from neurorecon.analyses.encoding import HeldOut, cross_validate_encoding, fit_encoding
from neurorecon.decoders.samples import SampleTable
from neurorecon.stats import Exchange, jackknife_interval


def noise(random, shape, rho=0.0):
    """Return noise of shape (run, sample, voxel) with a lag-1 autocorrelation within runs, and unit variance."""
    runs, length, voxels = shape
    white = random.standard_normal((runs, length + 60 * (rho > 0), voxels))
    return lfilter([np.sqrt(1 - rho**2)], [1, -rho], white, axis=1)[:, -length:]


def features(random, runs, length, smooth, number=20):
    """Return features of shape (run, stimulus, feature), smooth in the order of presentation or not."""
    values = random.standard_normal((runs, length, number))
    values = gaussian_filter1d(values, smooth, axis=1) if smooth else values
    return values / values.std()


def table(responses):
    """Return samples that show every stimulus once, from responses of shape (run, sample, voxel); runs are sessions."""
    runs, length, voxels = responses.shape
    number = np.repeat(np.arange(runs), length)
    shown = np.arange(runs * length)
    values, stimuli = responses.reshape(-1, voxels).astype(np.float32), [str(n) for n in shown]
    return SampleTable(values, pd.DataFrame(), number, stimuli, shown, sessions=number)


def p_values(
    random, unit, *, runs, length, smooth=0.0, rho=0.0, offset=0.0, series=False, cross_validate=None, voxels=30,
    train_runs=4, n_permutations=199, bands=1,
):  # fmt: skip
    """Return the p-values of voxels of pure noise in one experiment, (voxel,).

    Parameters
    ----------
    random : Generator
    unit : str
        Unit of exchange.
    runs, length : int
        Test runs (all runs in cross-validation), and samples in each.
    smooth, rho : float
        Width of features in samples, and autocorrelation of the noise.
    offset : float
        Standard deviation of the offsets of runs (sessions) in responses, and of features that tell sessions apart.
    """
    total = runs + (0 if cross_validate else train_runs)
    shown = features(random, total, length, smooth)
    responses = noise(random, (total, length, voxels), rho) + offset * random.standard_normal((total, 1, voxels))
    shown = shown + offset * random.standard_normal((total, 1, shown.shape[2]))
    settings = EncodingSettings(
        n_permutations=n_permutations, cross_validate=cross_validate, seed=int(random.integers(2**31))
    )
    flat = np.stack([part.reshape(total * length, -1) for part in np.split(shown, bands, axis=2)])
    flat = (flat - flat.mean(axis=1, keepdims=True)) / flat.std(axis=1, keepdims=True)
    delays, exchange = (1, 2) if series else (0,), Exchange(unit, "")
    if cross_validate:
        samples = table(responses)
        held = samples.shown if cross_validate == "stimulus" or isinstance(cross_validate, int) else samples.runs
        products = np.einsum("bsf,btf->bst", flat, flat)
        _, found = cross_validate_encoding(
            products, samples, delays, held, series=series, settings=settings, exchange=exchange
        )
        return found.p
    cut = train_runs * length
    products = (np.einsum("bsf,btf->bst", a, flat[:, :cut]) for a in (flat[:, :cut], flat[:, cut:]))
    train, test = table(responses[:train_runs]), table(responses[train_runs:])
    _, found = fit_encoding(tuple(products), train, test, delays, series=series, settings=settings, exchange=exchange)
    return found.p


def false_positives(unit, repetitions, seed=0, level=0.05, **design):
    """Return the false positive rate, and its standard error over experiments."""
    random = np.random.default_rng(seed)
    rates = [np.mean(p_values(random, unit, **design) <= level) for _ in range(repetitions)]
    return float(np.mean(rates)), float(np.std(rates, ddof=1) / np.sqrt(repetitions))


#: Designs of experiments: unit of exchange, whether the test is valid, and the design.
DESIGNS = {
    "trials in random order: stimuli": ("stimulus", True, {"runs": 1, "length": 60}),
    "3 test stimuli: stimuli": ("stimulus", True, {"runs": 1, "length": 3, "train_runs": 20}),
    "4 test stimuli: stimuli": ("stimulus", True, {"runs": 1, "length": 4, "train_runs": 20}),
    "trials in fixed order, AR(.9): stimuli": ("stimulus", False, {"runs": 2, "length": 60, "smooth": 5, "rho": 0.9}),
    "trials in fixed order, AR(.9): shifts": ("shift", True, {"runs": 2, "length": 60, "smooth": 5, "rho": 0.9}),
    "time series, AR(.9): shifts": (
        "shift", True, {"runs": 3, "length": 80, "smooth": 5, "rho": 0.9, "series": True},
    ),
    "time series, AR(.9): whole runs": (
        "run", True, {"runs": 6, "length": 40, "smooth": 5, "rho": 0.9, "series": True},
    ),
    "sessions with offsets: stimuli": ("stimulus", False, {"runs": 4, "length": 20, "offset": 1.0}),
    "sessions with offsets: stimuli within sessions": ("session", True, {"runs": 4, "length": 20, "offset": 1.0}),
    "cross-validated over stimuli: stimuli": ("stimulus", True, {"runs": 1, "length": 80, "cross_validate": 5}),
    "cross-validated over stimuli, sessions with offsets: stimuli within sessions": (
        "session", True, {"runs": 4, "length": 25, "cross_validate": 5, "offset": 1.0},
    ),
    "cross-validated over runs: stimuli": ("stimulus", True, {"runs": 5, "length": 20, "cross_validate": "run"}),
    "time series, cross-validated over runs, AR(.9): shifts": (
        "shift", True, {"runs": 5, "length": 60, "smooth": 5, "rho": 0.9, "series": True, "cross_validate": "run"},
    ),
}  # fmt: skip


def _scores(random, runs, length, series):
    """Return R2 of an ROI of 10 voxels, and the influence of each sample, for a model that is nearly right."""
    shape = (runs, length, 10)
    signal = features(random, runs, length, 5 if series else 0, 10)
    measured = (0.7 * signal + noise(random, shape, 0.9 if series else 0)).reshape(-1, 10)
    predicted = 0.6 * signal.reshape(-1, 10)
    held_out = HeldOut(
        predicted[None], measured - measured.mean(axis=0), np.zeros(10), np.ones(10), np.zeros(len(measured), dtype=int)
    )
    return held_out.shares.sum(axis=0).mean(), held_out.influence()[0].mean(axis=1)


def coverage(*, runs, length, series, experiments, seed=0):
    """Return the mean R2, and the share of 95 % jackknife intervals that hold it."""
    random = np.random.default_rng(seed)
    truth = float(np.mean([_scores(random, runs, length, series)[0] for _ in range(experiments)]))
    number, held = np.repeat(np.arange(runs), length), []
    for _ in range(experiments):
        estimate, influence = _scores(random, runs, length, series)
        interval = jackknife_interval(influence, estimate, number if series else None)
        held.append(interval.low <= truth <= interval.high)
    return truth, float(np.mean(held))


#: Held-out samples whose intervals are checked; the noise of time series has an autocorrelation of .9.
COVERED = {
    "60 trials": {"runs": 1, "length": 60, "series": False},
    "120 trials": {"runs": 1, "length": 120, "series": False},
    "500 trials": {"runs": 1, "length": 500, "series": False},
    "1 run of 120 volumes (with a warning)": {"runs": 1, "length": 120, "series": True},
    "1 run of 240 volumes": {"runs": 1, "length": 240, "series": True},
    "4 runs of 60 volumes": {"runs": 4, "length": 60, "series": True},
    "4 runs of 120 volumes": {"runs": 4, "length": 120, "series": True},
    "10 runs of 120 volumes": {"runs": 10, "length": 120, "series": True},
}
