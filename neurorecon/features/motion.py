"""Motion energy of videos: a bank of spatiotemporal Gabor filters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np

from neurorecon.errors import InputError
from neurorecon.features.base import Extractor, StimulusBatch
from neurorecon.features.gabor import GaborBank, gabor_bank, squared_modulus
from neurorecon.features.images import luminance, pool, resize
from neurorecon.parallel import map_threads


@dataclass(frozen=True)
class MotionBank:
    """Spatiotemporal quadrature filters: every Gabor orientation in both directions, at several temporal frequencies.

    Parameters
    ----------
    spatial : GaborBank
        The spatial filters. There are twice as many directions as orientations.
    temporal_frequencies : tuple of float
        In Hz, above 0 and below half the frame rate.
    frames : int
        Number of frames of a video.
    frames_per_second : float
        Frame rate.

    Raises
    ------
    InputError
        If there are fewer than three frames, or a temporal frequency is out of range.

    Notes
    -----
    Channels are ordered by spatial frequency, then temporal frequency, then direction (0 to 360 degrees). The
    temporal filters are complex exponentials in a Hann window, made orthogonal to a constant, so a static video has no
    energy in any channel. Nishimoto et al. (2011, Current Biology) also have filters at 0 Hz; here the Gabor bank
    covers static structure.
    """

    spatial: GaborBank
    temporal_frequencies: tuple[float, ...]
    frames: int
    frames_per_second: float

    def __post_init__(self) -> None:
        limit = self.frames_per_second / 2
        if self.frames < 3 or not all(0 < rate < limit for rate in self.temporal_frequencies):
            raise InputError(
                "invalid parameters of a motion filter bank",
                given=f"{self.temporal_frequencies} Hz, {self.frames} frames at {self.frames_per_second} Hz",
                expected=f"three frames or more, temporal frequencies above 0 and below {limit:g} Hz",
                todo="omit the highest temporal frequency, or use videos with a higher frame rate",
            )

    @property
    def directions(self) -> int:
        """Number of directions of motion."""
        return 2 * self.spatial.orientations

    @property
    def channels(self) -> int:
        """Number of filters."""
        return self.spatial.channels * len(self.temporal_frequencies) * 2

    @property
    def channel_direction(self) -> np.ndarray:
        """Direction of each channel in radians, from rightward (0) toward downward, shape (channel,)."""
        angles = np.arange(self.directions) * 2 * np.pi / self.directions
        return np.tile(angles, len(self.spatial.frequencies) * len(self.temporal_frequencies))

    @property
    def channel_frequency(self) -> np.ndarray:
        """Cycles per image of each channel, shape (channel,)."""
        repeat = len(self.temporal_frequencies) * self.directions
        return np.repeat(np.asarray(self.spatial.frequencies), repeat)

    @property
    def channel_rate(self) -> np.ndarray:
        """Temporal frequency of each channel in Hz, shape (channel,)."""
        rates = np.repeat(np.asarray(self.temporal_frequencies), self.directions)
        return np.tile(rates, len(self.spatial.frequencies))

    @property
    def channel_speed(self) -> np.ndarray:
        """Preferred speed of each channel in image widths per second, shape (channel,)."""
        return self.channel_rate / self.channel_frequency

    def temporal_filters(self) -> np.ndarray:
        """Return the temporal filters, complex64, shape (2 * rate, frame): forward, then backward."""
        times = (np.arange(self.frames) - (self.frames - 1) / 2) / self.frames_per_second
        window = np.hanning(self.frames + 2)[1:-1]
        rates = np.asarray(self.temporal_frequencies)
        forward = window * np.exp(2j * np.pi * rates[:, None] * times)
        forward -= window * forward.sum(axis=1, keepdims=True) / window.sum()
        both = np.concatenate([forward, forward.conj()])
        return (both / window.sum()).astype(np.complex64)

    def energy(self, videos: np.ndarray) -> np.ndarray:
        """Return the local motion energy of each filter.

        Parameters
        ----------
        videos : array, shape (video, frame, y, x)
            Gray-value videos of `frames` frames, with the size of the spatial filters.

        Returns
        -------
        array, float32, shape (video, channel, size / 2, size / 2)
            A grating of amplitude 1 that drifts at the preferred rate has an energy of about 1.

        Raises
        ------
        InputError
            If the videos do not have this shape.
        """
        videos = np.asarray(videos, dtype=np.float32)
        size = self.spatial.size
        if videos.ndim != 4 or videos.shape[1:] != (self.frames, size, size):
            raise InputError(
                "the videos do not match the motion filters",
                given=f"an array of shape {videos.shape}",
                expected=f"shape (video, {self.frames}, {size}, {size})",
                todo="resize the frames first with neurorecon.features.images.resize(videos, size)",
            )
        return np.stack([self._energy_of_one(video) for video in videos])

    def _energy_of_one(self, video: np.ndarray) -> np.ndarray:
        moving = video - video.mean(axis=0)  # exactly zero where nothing moves
        bank, rates = self.spatial, len(self.temporal_frequencies)
        responses = bank.responses(moving)
        frames, channels, rows, columns = responses.shape
        filtered = self.temporal_filters() @ responses.reshape(frames, -1)
        shape = (2, rates, len(bank.frequencies), bank.orientations, rows, columns)
        energy = squared_modulus(filtered).reshape(shape)
        # exp(i 2 pi (f x - rate t)) moves along f: its phase decreases with time, and the filter whose phase increases
        # cancels that. So the first half of the filters detects motion along the frequency vector.
        return energy.transpose(2, 1, 0, 3, 4, 5).reshape(channels * rates * 2, rows, columns)


#: Size to which frames are resampled, in pixels per side.
_SIZE = 64

#: Cycles per image, and cells per side of the grid in which energy is averaged.
_SCALES = ((2.0, 4), (4.0, 4), (8.0, 6))

#: Number of orientations; each has two directions of motion.
_ORIENTATIONS = 4

#: Temporal frequencies in cycles per frame: 0.5 and 1.2 Hz at 4 frames per second.
_RATES = (0.125, 0.3)

#: Energy at which log(1 + energy / knee) changes from linear to logarithmic.
_KNEE = 3e-6


class MotionExtractor(Extractor):
    """Motion energy (Adelson & Bergen, 1985; as a pyramid, Nishimoto et al., 2011, Current Biology).

    Three scales, two temporal frequencies, eight directions and a spatial grid: 1,088 features, for videos only. There
    are no filters at 0 Hz, and the mean over frames is subtracted, so all features of a static video are zero.
    """

    name: ClassVar[str] = "motion"
    needs: ClassVar[Literal["images", "frames", "table"]] = "frames"

    def __call__(self, batch: StimulusBatch) -> np.ndarray:
        """Return the target of a batch, float32, shape (stimulus, feature)."""
        assert batch.frames is not None
        if batch.frames.shape[1] < 3:
            raise InputError(
                "these videos are too short for motion energy",
                given=f"{batch.frames.shape[1]} frames",
                expected="3 frames or more",
                todo="omit the target 'motion', or read more frames of each video",
            )
        return map_threads(_features, batch.frames).astype(np.float32)

    def made_by(self) -> dict[str, Any]:
        """Return how the target is computed."""
        return {
            "model": "motion-energy pyramid",
            "preprocessing": f"luminance, resampled to {_SIZE} x {_SIZE} pixels, mean over frames removed",
            "cycles_per_picture": [frequency for frequency, _ in _SCALES],
            "cycles_per_frame": list(_RATES),
            "directions": 2 * _ORIENTATIONS,
            "grid": [cells for _, cells in _SCALES],
            "nonlinearity": f"log(1 + energy / {_KNEE})",
            "source": "Adelson & Bergen (1985), J. Opt. Soc. Am. A; Nishimoto et al. (2011), Current Biology",
        }

    def feature_names(self, batch: StimulusBatch) -> list[str]:
        """Return names such as ``4 c/p 0.125 c/f 45 deg y1 x0``."""
        return [
            f"{frequency:g} c/p {rate:g} c/f {180 * direction / _ORIENTATIONS:g} deg y{row} x{column}"
            for frequency, cells in _SCALES
            for rate in _RATES
            for direction in range(2 * _ORIENTATIONS)
            for row in range(cells)
            for column in range(cells)
        ]


def _features(video: np.ndarray) -> np.ndarray:
    """Return the features of one video, shape (feature,); single videos fit into the CPU cache."""
    energy = _bank(len(video)).energy(resize(luminance(video), _SIZE)[None])[0]
    scales = energy.reshape(len(_SCALES), -1, *energy.shape[1:])
    pooled = [pool(maps, cells).ravel() for maps, (_, cells) in zip(scales, _SCALES, strict=True)]
    return np.asarray(np.log1p(np.concatenate(pooled) / np.float32(_KNEE)))


@lru_cache(maxsize=8)
def _bank(frames: int) -> MotionBank:
    spatial = gabor_bank(_SIZE, tuple(frequency for frequency, _ in _SCALES), _ORIENTATIONS)
    return MotionBank(spatial, _RATES, frames, frames_per_second=1.0)
