"""A simulated subject: from the design to recordings, run by run."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from neurorecon.datasets.preprocess import detrend, zscore
from neurorecon.datasets.scenes.cortex import Cortex
from neurorecon.datasets.scenes.design import REPETITION_TIME, run_bounds
from neurorecon.datasets.scenes.forward import ForwardModel
from neurorecon.datasets.scenes.noise import clip_response, convolve, run_noise, shared_patterns
from neurorecon.datasets.scenes.tuning import TUNING

#: Noise of single-trial estimates and of time series: shares of variance, and correlation of neighbors.
IMAGE_NOISE = {"shared": 0.12, "drift": 0.08, "coefficient": 0.15}
FILM_NOISE = {"shared": 0.12, "drift": 0.0, "coefficient": 0.35}

#: Standard deviation of the drift in the raw time series, relative to other noise; most of it is detrended.
FILM_DRIFT = 1.5

#: Order of the polynomial that is removed from each run of films (Wen et al., 2018, Cereb. Cortex).
DETREND_ORDER = 4

#: One volume of a film has less signal, relative to noise, than the estimate of a trial of 4 s.
FILM_SNR = 0.75

#: Runs remembered, for readers that ask for less than a run at a time.
_RUNS = 4


class SimulatedSubject:
    """The recordings of one subject.

    Parameters
    ----------
    seed, number : int
        Of the data set and of the subject.
    cortex : Cortex
    forward : ForwardModel
    design : DataFrame
        One row a sample, from :mod:`~neurorecon.datasets.scenes.design`.
    signal : float
        Multiplies all signal-to-noise ratios.

    Attributes
    ----------
    ncsnr, film_snr : array, shape (voxel,)
        Standard deviation of the signal over that of the noise, in one trial and in one volume.
    """

    def __init__(
        self,
        seed: int,
        number: int,
        cortex: Cortex,
        forward: ForwardModel,
        design: pd.DataFrame,
        signal: float,
    ) -> None:
        self.cortex = cortex
        self.forward = forward
        self._entropy = (seed, number, 0xB0)
        self._design = design
        self._bounds = run_bounds(design)
        self._numbers = [int(number) for number in design["number"]]  # caches tell NumPy's integers apart
        random = np.random.default_rng(np.random.SeedSequence([*self._entropy, 0]))
        table = cortex.voxels
        # Fields of which less than half lies in the picture are driven less.
        driven = np.sqrt(np.minimum(1.0, 2.0 * forward.coverage))
        ratio = signal * _draw_ratios(random, forward.area) * driven
        self.ncsnr = ratio * np.sqrt(forward.static_share())
        self.film_snr = ratio * FILM_SNR
        self._patterns = shared_patterns(random, table[["x", "y", "z"]].to_numpy())
        self._level = 1.0 + 0.5 * random.standard_normal(len(table))
        self._noise_level = 1.6 * np.exp(0.3 * random.standard_normal(len(table)))
        self._response = clip_response(REPETITION_TIME)
        self._run = lru_cache(maxsize=_RUNS)(self._make_run)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return samples ``start:stop``, float32, shape (sample, voxel)."""
        start, stop, _ = slice(start, stop).indices(len(self._numbers))
        first = int(np.searchsorted(self._bounds, start, side="right")) - 1
        parts = [np.zeros((0, len(self.ncsnr)), dtype=np.float32)]
        while start < stop:
            begin, end = self._bounds[first], self._bounds[first + 1]
            parts.append(self._run(first)[start - begin : stop - begin])
            start, first = end, first + 1
        return np.concatenate(parts)

    def truth(self) -> dict[str, np.ndarray]:
        """Return what was planted, one value a voxel."""
        table = self.cortex.voxels
        return {
            **{f"share_{name}": share for name, share in self.forward.shares.items()},
            "ncsnr": self.ncsnr,
            "film_snr": self.film_snr,
            "noise_only": ~self.forward.visual,
            **{name: table[name].to_numpy() for name in ("prf_x", "prf_y", "prf_size")},
        }

    def _make_run(self, index: int) -> np.ndarray:
        begin, end = self._bounds[index], self._bounds[index + 1]
        task = str(self._design["task"].iloc[begin])
        random = np.random.default_rng(np.random.SeedSequence([*self._entropy, 1, index]))
        make = self._image_run if task == "images" else self._film_run
        # One thread: products of these sizes are no faster with more, and their bits do not depend on how many.
        with threadpool_limits(1, "blas"):
            numbers = self._numbers[begin:end]
            self.forward.prepare(numbers, task)
            signal = np.stack([self.forward.signal(number, task) for number in numbers])
            run = make(random, signal).astype(np.float32)
        run.flags.writeable = False
        return run

    def _image_run(self, random: np.random.Generator, signal: np.ndarray) -> np.ndarray:
        noise = run_noise(random, len(signal), self._patterns, **IMAGE_NOISE)
        return self._level + self._noise_level * (self.ncsnr * signal + noise)

    def _film_run(self, random: np.random.Generator, signal: np.ndarray) -> np.ndarray:
        noise = run_noise(random, len(signal), self._patterns, **FILM_NOISE)
        drift = run_noise(random, len(signal), self._patterns, shared=0.0, drift=1.0, coefficient=0.0)
        raw = self.film_snr * convolve(signal, self._response) + noise + FILM_DRIFT * drift
        return zscore(detrend(raw, min(DETREND_ORDER, len(raw) - 2)))  # lower for a run of a few clips


def _draw_ratios(random: np.random.Generator, area: np.ndarray) -> np.ndarray:
    """Return signal-to-noise ratios, log-normal around the median of the area; 0 outside."""
    spread = np.clip(np.exp(0.35 * random.standard_normal(len(area))), 0.4, 2.2)
    median = np.array([TUNING[name].snr if name else 0.0 for name in area])
    return median * spread
