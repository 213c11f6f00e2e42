"""Simulated responses whose noise ceiling, and whose scores, are known: for tests, and in full for benchmarks."""

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d

from neurorecon.stats import jackknife_interval


def ar_noise(rng, *shape, phi=0.9):
    """Return noise of unit variance, (..., volume, voxel), with autocorrelation phi over volumes."""
    noise = rng.standard_normal(shape)
    for volume in range(1, shape[-2]):
        noise[..., volume, :] = phi * noise[..., volume - 1, :] + (1 - phi**2) ** 0.5 * noise[..., volume, :]
    return noise


def trials(rng, n_stimuli, n_repeats, signal, sessions=1, crossed=False, offset=0.0, split="test", voxels=400):
    """Return responses of unit variance, in random order within sessions, and their table."""
    stimulus, repeat = np.repeat(np.arange(n_stimuli), n_repeats), np.tile(np.arange(n_repeats), n_stimuli)
    session = (repeat if crossed else stimulus) % sessions
    responses = signal**0.5 * rng.standard_normal((n_stimuli, voxels))[stimulus]
    responses += (1 - signal) ** 0.5 * rng.standard_normal(responses.shape)
    responses += offset * rng.standard_normal((sessions, voxels))[session] + 100
    order = np.lexsort((rng.random(len(stimulus)), session))
    table = pd.DataFrame({"stimulus": [f"s{number}" for number in stimulus], "session": session + 1, "split": split})
    return responses[order], table.iloc[order].reset_index(drop=True)


def series(rng, orders, signal, voxels=400, clip=1, phi=0.9, split="test"):
    """Return a time series of unit variance; `orders` holds the stimuli of each run, each `clip` volumes long."""
    shown = np.array(orders)
    of_clip = rng.standard_normal((shown.max() + 1, clip, voxels))
    responses = (1 - signal) ** 0.5 * ar_noise(rng, len(shown), shown.shape[1] * clip, voxels, phi=phi)
    responses += np.stack([signal**0.5 * of_clip[run].reshape(-1, voxels) for run in shown])
    table = pd.concat(
        pd.DataFrame(
            {"stimulus": [f"s{name}" for name in np.repeat(run, clip)], "run": number + 1, "split": split,
             "time": 2.0 * np.arange(len(run) * clip), "task": "clips"}
        )
        for number, run in enumerate(shown)
    )  # fmt: skip
    return responses.reshape(-1, voxels), table.reset_index(drop=True)


def within_runs(share, volumes, phi=0.9):
    """Return the ceiling of single volumes whose run means are removed, which takes some of slow noise with it."""
    lags = np.arange(1, volumes)
    noise = 1 - (1 + 2 * ((1 - lags / volumes) * phi**lags).sum()) / volumes
    return share * (1 - 1 / volumes) / (share * (1 - 1 / volumes) + (1 - share) * noise)


def mean_of(share, repeats):
    """Return the ceiling of means over repeats, from that of single samples."""
    return share / (share + (1 - share) / repeats)


def coverage_of_intervals(runs, samples, is_series, draws=600, share=0.3, seed=0, voxels=10, level=0.95):
    """Return how often the interval of the mean R2 of an ROI covers its expectation over draws.

    Voxels have a third of signal and noise in common. In time series, noise is AR(.9) and signals are smooth; the
    model predicts a shrunken signal with errors that are as smooth.
    """
    rng = np.random.default_rng(seed)
    shape = (draws, runs, samples, voxels)

    def common(make):
        return (2 / 3) ** 0.5 * make(*shape) + (1 / 3) ** 0.5 * make(*shape[:-1], 1)

    def white(*size):
        return rng.standard_normal(size)

    def smooth(*size):
        values = gaussian_filter1d(rng.standard_normal((*size[:2], size[2] + 40, size[3])), 2, axis=2)[:, :, 20:-20]
        return values / values.std()

    def noise(*size):
        return ar_noise(rng, *size) if is_series else white(*size)

    make = smooth if is_series else white
    signal, error = common(make), make(*shape)
    measured = share**0.5 * signal + (1 - share) ** 0.5 * common(noise)
    predicted = share**0.5 * 0.8 * (0.8 * signal + 0.6 * error)
    measured, predicted = (part.reshape(draws, runs * samples, voxels) for part in (measured, predicted))
    measured = measured - measured.mean(axis=1, keepdims=True)
    gain, energy = predicted * (2 * measured - predicted), measured**2
    total = energy.sum(axis=1, keepdims=True)
    r2 = gain.sum(axis=1, keepdims=True) / total
    influence = ((gain - r2 * energy) / total).mean(axis=2)
    scores = r2.mean(axis=(1, 2))
    found = jackknife_interval(
        influence, scores, np.repeat(np.arange(runs), samples) if is_series else None, level=level
    )
    return float(((found.low <= scores.mean()) & (scores.mean() <= found.high)).mean())
