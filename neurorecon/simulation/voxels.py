"""Responses of simulated voxels: the forward model, hemodynamics and noise.

The signal of a voxel is a weighted sum of components, each a function of the stimulus: contrast energy (*gabor*),
luminance and color, and motion energy, each within the voxel's population receptive field; the categories of visible
objects; and the layout of the scene. Components are standardized over the training stimuli, so that the squared
weights are the planted shares of variance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from scipy.signal import lfilter
from scipy.stats import gamma

from neurorecon.simulation.cortex import COMPONENTS, FIELD_OF_VIEW, LAYOUT, TUNING, Cortex
from neurorecon.simulation.stimuli import CELLS, GABOR_CYCLES, GABORS, MOTION, MOTION_CELLS, Stimuli
from neurorecon.simulation.vocabulary import CATEGORIES

#: Number of spatial patterns of shared noise (respiration, heartbeat, head motion, arousal).
SHARED_PATTERNS = 12

#: Correlation length of shared noise in mm.
_SHARED_REACH = 25.0


def canonical_hrf(times: np.ndarray) -> np.ndarray:
    """Return SPM's canonical hemodynamic response to an impulse: a peak at 5 s and an undershoot at 15 s.

    It is the difference of two gamma densities of shape 6 and 16 and scale 1 s, the second weighted by 1/6 (Friston et
    al., 1998, NeuroImage).

    Parameters
    ----------
    times : array, shape (time,)
        Time from the impulse in seconds.

    Returns
    -------
    array, shape (time,)
        Its integral is 5 / 6.
    """
    times = np.asarray(times, dtype=float)
    return gamma.pdf(times, 6.0) - gamma.pdf(times, 16.0) / 6.0


def clip_response(repetition_time: float, duration: float = 32.0, step: float = 0.02) -> np.ndarray:
    """Return the response in each volume to a clip that is shown during the first volume.

    Activity is constant during the clip (one repetition time), and a volume is the mean over its acquisition.

    Parameters
    ----------
    repetition_time : float
        In seconds.
    duration, step : float
        Length of the response and time step of the convolution, in seconds.

    Returns
    -------
    array, shape (volume,)
        Scaled to a sum of squares of 1, so that clips with independent activity of variance 1 result in a time series
        of variance 1.
    """
    per_volume = round(repetition_time / step)
    times = (np.arange(round(duration / step)) + 0.5) * step
    fine = np.convolve(canonical_hrf(times), np.ones(per_volume))
    volumes = len(times) // per_volume
    response = fine[: volumes * per_volume].reshape(volumes, per_volume).mean(axis=1)
    return response / np.sqrt((response**2).sum())


def convolve(activity: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolve activity with the hemodynamic response; activity before the run is 0.

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
    """Return stationary first-order autoregressive noise with variance 1.

    Parameters
    ----------
    random : Generator
    samples, columns : int
        Shape of the noise.
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
    """Return slow drift with variance 1: a linear trend and the first three cosines, with random weights.

    Parameters
    ----------
    random : Generator
    samples, columns : int
        Shape of the drift.

    Returns
    -------
    array, shape (sample, column)
        The mean of each run is 0, and the expected mean square is 1.
    """
    times = (np.arange(samples) + 0.5) / samples
    basis = np.stack([times - 0.5, *(np.cos(np.pi * cycle * times) for cycle in (1, 2, 3))], axis=1)
    basis -= basis.mean(axis=0)
    size = np.sqrt((basis**2).mean(axis=0)) * np.sqrt(basis.shape[1])
    basis /= np.where(size > 1e-9, size, 1.0)  # some functions vanish in runs of one or two samples
    return basis @ random.standard_normal((basis.shape[1], columns))


def shared_patterns(random: np.random.Generator, positions: np.ndarray) -> np.ndarray:
    """Return spatial patterns of shared noise: smooth random fields on the cortex.

    Parameters
    ----------
    random : Generator
    positions : array, shape (voxel, 3)
        In millimeters.

    Returns
    -------
    array, shape (pattern, voxel)
        The sum of squares over patterns is 1 at every voxel.
    """
    waves = random.standard_normal((SHARED_PATTERNS, 3)) / _SHARED_REACH
    phases = random.uniform(0.0, 2 * np.pi, size=(SHARED_PATTERNS, 1))
    patterns = np.cos(waves @ np.asarray(positions, dtype=float).T + phases)
    patterns[0] = 1.0  # a global signal
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
        Random generator of the run.
    samples : int
        Number of volumes or trials.
    patterns : array, shape (pattern, voxel)
        Output of :func:`shared_patterns`.
    shared, drift : float
        Shares of the variance. The rest is independent between voxels.
    coefficient : float
        Temporal autocorrelation of the noise other than drift.

    Returns
    -------
    array, shape (sample, voxel)
        With variance 1.
    """
    count, voxels = patterns.shape
    private = autoregressive(random, samples, voxels, coefficient)
    common = autoregressive(random, samples, count, coefficient) @ patterns
    slow = slow_drift(random, samples, voxels)
    return np.sqrt(1.0 - shared - drift) * private + np.sqrt(shared) * common + np.sqrt(drift) * slow


#: Energies at which log(1 + energy / knee) changes from linear to logarithmic; typical values of these images.
GABOR_KNEE = 3e-4

MOTION_KNEE = 5e-6

#: Share of the image at which the response to a category is half of its maximum. Responses of high-level visual areas
#: grow much less than proportionally with size (compressive spatial summation; Kay et al., 2013, J. Neurophysiol.).
CATEGORY_HALF = 0.06

#: Maximum number of stimuli over which components are standardized.
_CALIBRATION = 400

#: Size of the cache of components in bytes.
_MEMORY = 256 * 2**20

#: Maximum number of threads; NumPy releases the GIL while it filters and multiplies.
_MOST_THREADS = 8


class ForwardModel:
    """Noise-free responses of the voxels of one subject.

    Parameters
    ----------
    seed : int
        Seed of the data set.
    subject : int
        Number of the subject.
    cortex : Cortex
        The voxels.
    stimuli : Stimuli
        The stimuli and their features.
    train_images, train_videos : sequence of int
        Numbers of the stimuli over which components are standardized (at most the first 400 are used).
    without : sequence of str
        Components that the signal lacks. Everything else is drawn as if it had them, so that data sets with and without
        a component differ in nothing else. The variance that it would have had is missing, not replaced.

    Attributes
    ----------
    shares : dict of str to array, shape (voxel,)
        Planted share of the signal's variance for videos, by component; 0 outside visual areas.
    left : dict of str to array, shape (voxel,)
        By task, the share of the variance of a complete signal for videos that the signal has: images have no motion,
        and nothing has the components that were left out.
    """

    def __init__(
        self,
        seed: int,
        subject: int,
        cortex: Cortex,
        stimuli: Stimuli,
        train_images: Sequence[int],
        train_videos: Sequence[int],
        without: Sequence[str] = (),
    ) -> None:
        self.stimuli = stimuli
        self._train = {"images": train_images[:_CALIBRATION], "videos": train_videos[:_CALIBRATION]}
        random = np.random.default_rng(np.random.SeedSequence([seed, subject, 0xF0]))
        table = cortex.voxels
        self.roi = table["roi"].to_numpy(dtype=str)
        planted = _draw_shares(random, self.roi)
        kept = planted * np.array([[component not in without] for component in COMPONENTS])
        total = kept.sum(axis=0)
        shares = kept / np.where(total > 0, total, 1.0)
        self.shares = dict(zip(COMPONENTS, shares, strict=True))
        self.left = {"images": total - kept[COMPONENTS.index("motion")], "videos": total}
        self._without = frozenset(without)
        self._weights = np.sqrt(shares)
        prf = table[["prf_x", "prf_y", "prf_size"]].to_numpy(dtype=float).T
        #: Voxels for which each component is drawn.
        self._rows = [np.flatnonzero(share > 0) for share in planted]
        gabor, color, category, layout, motion = self._rows
        self._static_field = receptive_fields(prf, CELLS)
        self.coverage = self._static_field.sum(axis=0)
        self._color_field = np.ascontiguousarray(self._static_field[:, color])
        self._static_field = np.ascontiguousarray(self._static_field[:, gabor])
        self._motion_field = receptive_fields(prf[:, motion], MOTION_CELLS)
        eccentricity = np.hypot(prf[0], prf[1])
        self._gabor_tuning = _draw_gabor_tuning(random, self.roi[gabor], eccentricity[gabor])
        self._color_tuning = random.standard_normal((3, len(color))) * np.array([[1.5], [1.0], [1.0]])
        self._category_tuning = _draw_weights(random, self.roi[category], "prefers", CATEGORIES)
        self._layout_tuning = _draw_weights(random, self.roi[layout], "layout", LAYOUT)
        self._motion_tuning = _draw_motion_tuning(random, eccentricity[motion])
        size = max(64, _MEMORY // (4 * len(COMPONENTS) * len(self.roi)))
        self.components = lru_cache(maxsize=size)(self._components)
        self._calibration: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def signal(self, number: int, task: str) -> np.ndarray:
        """Return the noise-free response to one stimulus.

        Parameters
        ----------
        number : int
            Number of the stimulus.
        task : {"images", "videos"}
            Selects the training stimuli over which components are standardized.

        Returns
        -------
        array, float64, shape (voxel,)
            With mean 0 and variance 1 over the training stimuli; 0 outside visual areas.
        """
        mean, scale, total = self._calibrate(task)
        return ((self.components(number) - mean) * scale).sum(axis=0) * total

    def prepare(self, numbers: Iterable[int], task: str) -> None:
        """Compute the components of several stimuli in parallel and cache them for :meth:`signal`.

        Parameters
        ----------
        numbers : iterable of int
            Numbers of the stimuli.
        task : {"images", "videos"}
            The task that will be passed to :meth:`signal`; its training stimuli are computed first.
        """
        from joblib import cpu_count

        wanted = list(dict.fromkeys([*(() if task in self._calibration else self._train[task]), *numbers]))
        threads, room = min(cpu_count(), _MOST_THREADS), self.components.cache_info().maxsize
        if threads == 1 or room is None or len(wanted) > room:
            return
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(self.components, wanted):  # re-raises exceptions of threads
                pass

    def _calibrate(self, task: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the mean and weight of each component (component, voxel), and the scale of their sum (voxel,)."""
        if task not in self._calibration:
            numbers = self._train[task]
            count = max(1, len(numbers))
            shape = (len(COMPONENTS), len(self.roi))
            total, squares = np.zeros(shape), np.zeros(shape)
            for number in numbers:
                values = self.components(number).astype(float)
                total += values
                squares += values**2
            mean = total / count
            deviation = np.sqrt(np.clip(squares / count - mean**2, 0.0, None))
            varies = deviation > 1e-6 * (1e-6 + np.abs(mean))
            scale = np.where(varies, self._weights / np.where(varies, deviation, 1.0), 0.0)
            sums = np.zeros(len(self.roi))
            for number in numbers:
                sums += ((self.components(number) - mean) * scale).sum(axis=0) ** 2
            signal = np.sqrt(sums / count)
            ok = signal > 1e-9
            self._calibration[task] = (mean, scale, np.where(ok, 1.0 / np.where(ok, signal, 1.0), 0.0))
        return self._calibration[task]

    def _components(self, number: int) -> np.ndarray:
        """Return the components of one stimulus before standardization, float32, (component, voxel)."""
        features = self.stimuli.features(number)
        result = np.zeros((len(COMPONENTS), len(self.roi)), dtype=np.float32)
        gabor, color, category, layout, motion = self._rows
        if "gabor" not in self._without:
            result[0, gabor] = _energy_response(features.gabor, self._static_field, self._gabor_tuning, GABOR_KNEE)
        result[1, color] = ((features.color @ self._color_field) * self._color_tuning).sum(axis=0)
        result[2, category] = saturate(features.category) @ self._category_tuning
        result[3, layout] = features.layout @ self._layout_tuning
        if self.stimuli.is_video(number) and "motion" not in self._without:
            result[4, motion] = _energy_response(features.motion, self._motion_field, self._motion_tuning, MOTION_KNEE)
        return result


def saturate(share: np.ndarray) -> np.ndarray:
    """Return the saturating response, from 0 to 1, to a category that covers a share of the image."""
    return share / (share + CATEGORY_HALF)


def receptive_fields(prf: np.ndarray, cells: int) -> np.ndarray:
    """Return Gaussian population receptive fields on the grid of the image (Dumoulin & Wandell, 2008).

    Parameters
    ----------
    prf : array, shape (3, voxel)
        Center (rightward and downward from the center of the image) and standard deviation, in degrees. NaN for voxels
        without a receptive field.
    cells : int
        Cells per side.

    Returns
    -------
    array, float32, shape (cell, voxel)
        Cells are in row-major order. A field sums to 1 over the plane, and to less than 1 if it extends beyond the
        image.
    """
    x, y, size = prf
    width = FIELD_OF_VIEW / cells
    centers = (np.arange(cells) + 0.5) * width - FIELD_OF_VIEW / 2
    sigma = np.maximum(size, 0.4 * width)  # narrower fields would fall between the cells
    along_x = np.exp(-0.5 * ((centers[:, None] - x) / sigma) ** 2) * width / (np.sqrt(2 * np.pi) * sigma)
    along_y = np.exp(-0.5 * ((centers[:, None] - y) / sigma) ** 2) * width / (np.sqrt(2 * np.pi) * sigma)
    fields = along_y[:, None, :] * along_x[None, :, :]
    fields = np.where(fields > 1e-9, fields, 0.0)  # remove NaN, and tiny numbers that slow down products
    return fields.reshape(cells * cells, -1).astype(np.float32)


def _energy_response(energy: np.ndarray, fields: np.ndarray, tuning: np.ndarray, knee: float) -> np.ndarray:
    """Return the weighted sum over channels of log-compressed energy within receptive fields, (voxel,)."""
    return (np.log1p((energy @ fields) / np.float32(knee)) * tuning).sum(axis=0)


def _draw_shares(random: np.random.Generator, roi: np.ndarray) -> np.ndarray:
    """Return planted shares of variance, (component, voxel): those of the ROI with a random variation of 25 %."""
    shares = np.zeros((len(COMPONENTS), len(roi)))
    jitter = np.exp(0.25 * random.standard_normal(shares.shape))
    for name, tuning in TUNING.items():
        inside = roi == name
        for row, component in enumerate(COMPONENTS):
            shares[row, inside] = tuning.shares.get(component, 0.0)
    shares *= jitter
    # In V1-V3, color remains a minor component of every voxel.
    early = np.isin(roi, ("V1", "V2", "V3"))
    others = shares[:, early].sum(axis=0) - shares[1, early]
    shares[1, early] = np.minimum(shares[1, early], others / 3)  # at most a quarter of the total
    total = shares.sum(axis=0)
    return shares / np.where(total > 0, total, 1.0)


def _draw_gabor_tuning(random: np.random.Generator, roi: np.ndarray, eccentricity: np.ndarray) -> np.ndarray:
    """Return weights of Gabor channels, (channel, voxel).

    Preferred spatial frequency decreases with eccentricity (Henriksson et al., 2008, J. Vision; Broderick, Simoncelli
    & Winawer, 2022, J. Vision), at half of the published values, because the images contain no higher frequencies.
    Orientation preferences of voxels are weak.
    """
    coarseness = np.array([TUNING[name].coarseness for name in roi])
    octaves = 0.3 * random.standard_normal(len(roi))
    preferred = 2.0**octaves / (coarseness * (0.8 + 0.2 * eccentricity))
    preferred = np.clip(preferred, GABOR_CYCLES.min(), GABOR_CYCLES.max())
    frequency = np.exp(-0.5 * np.log2(GABOR_CYCLES[:, None] / preferred) ** 2)
    favorite = random.uniform(0.0, np.pi, size=len(roi))
    bias = 0.2 + 0.4 * random.random(len(roi))
    orientation = 1.0 + bias * np.cos(2 * (GABORS.channel_orientation[:, None] - favorite))
    return (frequency * orientation).astype(np.float32)


def _draw_motion_tuning(random: np.random.Generator, eccentricity: np.ndarray) -> np.ndarray:
    """Return weights of motion channels, (channel, voxel): a preferred direction and a preferred speed.

    Preferred speed increases with eccentricity (Maunsell & Van Essen, 1983, J. Neurophysiol.).
    """
    voxels = len(eccentricity)
    favorite = random.uniform(0.0, 2 * np.pi, size=voxels)
    sharpness = 0.5 + random.random(voxels)
    angle = MOTION.channel_direction[:, None] - favorite
    direction = 0.4 + 0.6 * np.exp(sharpness * (np.cos(angle) - 1.0))
    speed = MOTION.channel_speed * FIELD_OF_VIEW  # degrees per second
    preferred = (2.0 + 0.3 * eccentricity) * np.exp(0.4 * random.standard_normal(voxels))
    octaves = np.log2(speed[:, None] / preferred)
    return (direction * np.exp(-0.5 * (octaves / 1.5) ** 2)).astype(np.float32)


def _draw_weights(random: np.random.Generator, roi: np.ndarray, what: str, names: Sequence[str]) -> np.ndarray:
    """Return weights of categories or layout, (name, voxel): those of the ROI plus random ones."""
    weights = 0.15 * random.standard_normal((len(names), len(roi)))
    for key, tuning in TUNING.items():
        means = getattr(tuning, what)
        weights[:, roi == key] += np.array([[means.get(name, 0.0)] for name in names])
    return weights
