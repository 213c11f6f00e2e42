"""What lies between the activity of a simulated voxel and its recording: hemodynamics and noise."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter
from scipy.stats import gamma

#: Number of spatial patterns of noise that voxels share (respiration, heartbeat, motion, arousal).
SHARED_PATTERNS = 12

#: Distance in mm over which shared noise stays alike.
_SHARED_REACH = 25.0


def canonical_hrf(times: np.ndarray) -> np.ndarray:
    """Return SPM's canonical hemodynamic response to an impulse: a peak at 5 s and an undershoot at 15 s.

    Two gamma densities of shape 6 and 16 and scale 1 s, the second one sixth as large (Friston et al., 1998,
    NeuroImage).

    Parameters
    ----------
    times : array, shape (time,)
        Seconds from the impulse.

    Returns
    -------
    array, shape (time,)
        Its integral is 5 / 6.
    """
    times = np.asarray(times, dtype=float)
    return gamma.pdf(times, 6.0) - gamma.pdf(times, 16.0) / 6.0


def clip_response(repetition_time: float, duration: float = 32.0, step: float = 0.02) -> np.ndarray:
    """Return the response, volume by volume, to a clip that is shown during the first volume.

    Activity is constant while the clip lasts (one repetition time), and a volume is the mean over its acquisition.

    Parameters
    ----------
    repetition_time : float
        Seconds.
    duration, step : float
        Length of the response and resolution of the integral, seconds.

    Returns
    -------
    array, shape (volume,)
        Scaled to a sum of squares of 1, so that clips with independent activity of variance 1 give a time series
        of variance 1.
    """
    per_volume = round(repetition_time / step)
    times = (np.arange(round(duration / step)) + 0.5) * step
    fine = np.convolve(canonical_hrf(times), np.ones(per_volume))
    volumes = len(times) // per_volume
    response = fine[: volumes * per_volume].reshape(volumes, per_volume).mean(axis=1)
    return response / np.sqrt((response**2).sum())


def convolve(activity: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Return the time series that activity at each volume causes; nothing was shown before the run.

    Parameters
    ----------
    activity : array, shape (volume, voxel)
    response : array, shape (lag,)

    Returns
    -------
    array, shape (volume, voxel)
    """
    return lfilter(response, [1.0], activity, axis=0)


def autoregressive(random: np.random.Generator, samples: int, columns: int, coefficient: float) -> np.ndarray:
    """Return stationary first-order autoregressive noise of variance 1.

    Parameters
    ----------
    random : Generator
    samples, columns : int
    coefficient : float
        Correlation of neighboring samples, below 1.

    Returns
    -------
    array, shape (sample, column)
    """
    steps = random.standard_normal((samples, columns), dtype=np.float32)
    steps[1:] *= np.sqrt(1.0 - coefficient**2)
    return lfilter([1.0], [1.0, -coefficient], steps, axis=0)


def slow_drift(random: np.random.Generator, samples: int, columns: int) -> np.ndarray:
    """Return slow drift of variance 1: the first three cosines over the run, with random weights, and a slope.

    Parameters
    ----------
    random : Generator
    samples, columns : int

    Returns
    -------
    array, shape (sample, column)
        Its mean over the run is 0, and its mean square over runs is 1.
    """
    times = (np.arange(samples) + 0.5) / samples
    basis = np.stack([times - 0.5, *(np.cos(np.pi * cycle * times) for cycle in (1, 2, 3))], axis=1)
    basis -= basis.mean(axis=0)
    size = np.sqrt((basis**2).mean(axis=0)) * np.sqrt(basis.shape[1])
    basis /= np.where(size > 1e-9, size, 1.0)  # in a run of one or two samples some of them vanish
    return basis @ random.standard_normal((basis.shape[1], columns))


def shared_patterns(random: np.random.Generator, positions: np.ndarray) -> np.ndarray:
    """Return spatial patterns of shared noise: a smooth random field on the cortex.

    Parameters
    ----------
    random : Generator
    positions : array, shape (voxel, 3)
        Millimeters.

    Returns
    -------
    array, shape (pattern, voxel)
        The sum of squares over patterns is 1 at every voxel.
    """
    waves = random.standard_normal((SHARED_PATTERNS, 3)) / _SHARED_REACH
    phases = random.uniform(0.0, 2 * np.pi, size=(SHARED_PATTERNS, 1))
    patterns = np.cos(waves @ np.asarray(positions, dtype=float).T + phases)
    patterns[0] = 1.0  # one that the whole brain shares
    return patterns / np.sqrt((patterns**2).sum(axis=0))


def run_noise(
    random: np.random.Generator,
    samples: int,
    patterns: np.ndarray,
    *,
    shared: float,
    drift: float,
    coefficient: float,
) -> np.ndarray:
    """Return the noise of one run.

    Parameters
    ----------
    random : Generator
        Of this run.
    samples : int
        Volumes or trials.
    patterns : array, shape (pattern, voxel)
        From :func:`shared_patterns`.
    shared, drift : float
        Shares of the variance, the rest being private to each voxel.
    coefficient : float
        Temporal autocorrelation of all but the drift.

    Returns
    -------
    array, shape (sample, voxel)
        Of variance 1.
    """
    count, voxels = patterns.shape
    private = autoregressive(random, samples, voxels, coefficient)
    common = autoregressive(random, samples, count, coefficient) @ patterns
    slow = slow_drift(random, samples, voxels)
    return np.sqrt(1.0 - shared - drift) * private + np.sqrt(shared) * common + np.sqrt(drift) * slow
