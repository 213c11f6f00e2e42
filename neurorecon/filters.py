"""Gabor and motion-energy filter banks on plain arrays.

A Gabor filter is a Gaussian window around one spatial frequency. It is applied in the Fourier domain, where
the positive half alone is kept: the real and the imaginary part of the result are the responses of a
quadrature pair, and their squared modulus is the local energy of the complex-cell model (Adelson & Bergen,
1985, J. Opt. Soc. Am. A). The modulus does not depend on the carrier, so the filtered spectrum is moved to
the origin and cropped before it is transformed back: the energy comes out at half the resolution for a
quarter of the work, and nothing is lost, because the band fits into the crop.

Conventions: ``x`` runs to the right and ``y`` downward, in picture widths; spatial frequencies are in cycles
per picture. The orientation of a filter is the direction of its frequency vector, measured from ``x``
towards ``y`` (0 is a vertical grating, pi / 2 a horizontal one). The direction of a motion filter is where
the pattern goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft

from neurorecon.errors import InputError

#: Half width of a 1-octave band in units of the standard deviation of its Gaussian: the band's limits, at
#: f * 2 / 3 and f * 4 / 3, are where the amplitude is half of the maximum.
_OCTAVE_SIGMA = 1.0 / 3.0 / np.sqrt(2.0 * np.log(2.0))

#: Rec. 709 weights of red, green and blue in luminance.
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Return luma, the luminance weights on display values.

    Parameters
    ----------
    pixels : array, shape (..., rgb)
        uint8 in 0..255 or float in 0..1.

    Returns
    -------
    array, float32, shape (...)
        From 0 (black) to 1 (white).
    """
    return _unit(pixels) @ _LUMINANCE


def opponent_colors(pixels: np.ndarray) -> np.ndarray:
    """Return the two color-opponent signals, red-green and blue-yellow.

    Parameters
    ----------
    pixels : array, shape (..., rgb)
        uint8 in 0..255 or float in 0..1.

    Returns
    -------
    array, float32, shape (..., 2)
        Red minus green, and blue minus the mean of red and green; 0 for gray.
    """
    values = _unit(pixels)
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    return np.stack([red - green, blue - 0.5 * (red + green)], axis=-1)


def _unit(pixels: np.ndarray) -> np.ndarray:
    pixels = np.asarray(pixels)
    if pixels.shape[-1:] != (3,):
        raise InputError(
            "colors are read from the last axis",
            given=f"an array of shape {pixels.shape}",
            expected="shape (..., 3): red, green, blue",
            todo="move the color axis to the end, or drop an alpha channel",
        )
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(255.0)
    return pixels.astype(np.float32)


def resize(pictures: np.ndarray, size: int) -> np.ndarray:
    """Resample square or oblong pictures to ``size x size`` by averaging over the area of each new pixel.

    Parameters
    ----------
    pictures : array, shape (..., y, x)
        Gray-value pictures.
    size : int
        Pixels on each side.

    Returns
    -------
    array, float32, shape (..., size, size)
    """
    pictures = np.asarray(pictures, dtype=np.float32)
    rows, columns = pictures.shape[-2:]
    if (rows, columns) == (size, size):
        return pictures
    vertical, horizontal = _area_weights(rows, size), _area_weights(columns, size)
    return np.einsum("ay,...yx,bx->...ab", vertical, pictures, horizontal, optimize=True)


@lru_cache(maxsize=64)
def _area_weights(old: int, new: int) -> np.ndarray:
    """Weights, shape (new, old), of a row of pixels in each pixel of the resampled row; rows sum to 1."""
    if old < new:  # linear interpolation between the centers of the old pixels
        centers = (np.arange(new) + 0.5) * old / new - 0.5
        distance = np.abs(np.clip(centers, 0, old - 1)[:, None] - np.arange(old)[None])
        return np.clip(1.0 - distance, 0.0, None).astype(np.float32)
    edges = np.arange(new + 1) * old / new
    low = np.maximum(edges[:-1, None], np.arange(old)[None])
    high = np.minimum(edges[1:, None], np.arange(1, old + 1)[None])
    weights = np.clip(high - low, 0.0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class GaborBank:
    """A bank of Gabor filters for square pictures, one octave wide.

    Parameters
    ----------
    size : int
        Pixels on each side of the pictures.
    frequencies : tuple of float
        Cycles per picture.
    orientations : int
        Number of orientations, evenly spaced over half a turn from 0.

    Notes
    -----
    Channels are ordered by frequency, then by orientation. The picture is continued beyond its border by its
    mirror image, faded to its mean, so that the border itself is not an edge.
    """

    size: int
    frequencies: tuple[float, ...]
    orientations: int

    def __post_init__(self) -> None:
        highest = max(self.frequencies, default=0.0)
        if self.size % 8 or self.orientations < 1 or min(self.frequencies, default=0.0) <= 0:
            raise InputError(
                "this bank of Gabor filters cannot be built",
                given=f"size={self.size}, frequencies={self.frequencies}, orientations={self.orientations}",
                expected="a size that 8 divides, frequencies above 0, one orientation or more",
            )
        if highest > 0.3 * self.size:
            raise InputError(
                "a spatial frequency is too high for the pictures",
                given=f"{highest} cycles per picture at {self.size} pixels",
                expected=f"at most {0.3 * self.size:g}, so that an octave around it can be drawn",
                todo="leave out the highest frequency, or use larger pictures",
            )

    @property
    def channels(self) -> int:
        """Number of filters."""
        return len(self.frequencies) * self.orientations

    @property
    def channel_frequency(self) -> np.ndarray:
        """Cycles per picture of each channel, shape (channel,)."""
        return np.repeat(np.asarray(self.frequencies), self.orientations)

    @property
    def channel_orientation(self) -> np.ndarray:
        """Orientation of each channel in radians, shape (channel,)."""
        return np.tile(np.arange(self.orientations) * np.pi / self.orientations, len(self.frequencies))

    @property
    def _padding(self) -> int:
        return self.size // 8

    @property
    def _padded(self) -> int:
        return self.size + 2 * self._padding

    def transfer(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the filters in the Fourier domain, moved to the origin and cropped.

        Returns
        -------
        rows, columns : int array, shape (channel, window)
            Indices of the crop in the spectrum of the padded picture.
        gain : float32 array, shape (channel, window, window)
            Amplitude at each frequency, y before x; a sinusoid of amplitude 1 at the preferred frequency has
            energy 1 (the one-sided spectrum of a cosine is one half, hence the factor 2).
        """
        return _transfer(self)

    def responses(self, pictures: np.ndarray) -> np.ndarray:
        """Return complex responses of the quadrature pairs, without the carrier.

        Parameters
        ----------
        pictures : array, shape (picture, y, x)
            Gray-value pictures of `size` pixels a side.

        Returns
        -------
        array, complex64, shape (picture, channel, size / 2, size / 2)
            Sampled at every other pixel. The phase lacks a carrier that is the same for every picture.
        """
        pictures = np.asarray(pictures, dtype=np.float32)
        if pictures.ndim != 3 or pictures.shape[1:] != (self.size, self.size):
            raise InputError(
                "these pictures do not fit the filters",
                given=f"an array of shape {pictures.shape}",
                expected=f"shape (picture, {self.size}, {self.size})",
                todo="resample them first: neurorecon.filters.resize(pictures, size)",
            )
        rows, columns, gain = self.transfer()
        spectrum = scipy.fft.fft2(self._extend(pictures))
        window = spectrum[:, rows[:, :, None], columns[:, None, :]] * gain
        result = scipy.fft.ifft2(window, overwrite_x=True)
        # Half the resolution: a quarter of the samples carry the sum, so the inverse transform is rescaled.
        border = self._padding // 2
        inside = slice(border, border + self.size // 2)
        return result[:, :, inside, inside] * np.float32((window.shape[-1] / self._padded) ** 2)

    def energy(self, pictures: np.ndarray) -> np.ndarray:
        """Return the local energy of each filter.

        Parameters
        ----------
        pictures : array, shape (picture, y, x)
            Gray-value pictures of `size` pixels a side.

        Returns
        -------
        array, float32, shape (picture, channel, size / 2, size / 2)
            Squared modulus of :meth:`responses`.
        """
        return squared_modulus(self.responses(pictures))

    def _extend(self, pictures: np.ndarray) -> np.ndarray:
        width = self._padding
        centered = pictures - pictures.mean(axis=(1, 2), keepdims=True)
        mirrored = np.pad(centered, ((0, 0), (width, width), (width, width)), mode="symmetric")
        ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(width) + 0.5) / width)
        fade = np.concatenate([ramp, np.ones(self.size), ramp[::-1]]).astype(np.float32)
        return mirrored * fade[:, None] * fade[None, :]


def squared_modulus(values: np.ndarray) -> np.ndarray:
    """Return ``abs(values) ** 2`` of complex `values`, without the square root."""
    return values.real**2 + values.imag**2


@lru_cache(maxsize=16)
def _transfer(bank: GaborBank) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    padded, window = bank._padded, bank._padded // 2
    scale = padded / bank.size  # cycles per picture -> cycles per padded picture
    offsets = scipy.fft.fftfreq(window, 1.0 / window).astype(int)
    rows, columns, gain = [], [], []
    for frequency, orientation in zip(bank.channel_frequency, bank.channel_orientation, strict=True):
        center = frequency * scale * np.array([np.sin(orientation), np.cos(orientation)])
        origin = np.round(center).astype(int)
        along_y, along_x = offsets + origin[0], offsets + origin[1]
        sigma = frequency * scale * _OCTAVE_SIGMA
        squared = (along_y[:, None] - center[0]) ** 2 + (along_x[None, :] - center[1]) ** 2
        amplitude = 2.0 * np.exp(-0.5 * squared / sigma**2)
        # Frequencies beyond the Nyquist limit would alias, and the mean is no contrast.
        limit = (np.abs(along_y)[:, None] < padded / 2) & (np.abs(along_x)[None, :] < padded / 2)
        amplitude *= limit & ~((along_y[:, None] == 0) & (along_x[None, :] == 0))
        rows.append(along_y % padded)
        columns.append(along_x % padded)
        gain.append(amplitude)
    return np.array(rows), np.array(columns), np.array(gain, dtype=np.float32)


@dataclass(frozen=True)
class MotionBank:
    """Spatio-temporal quadrature filters: each Gabor orientation, moving either way, at several rates.

    Parameters
    ----------
    spatial : GaborBank
        The spatial filters; `orientations` of them give twice as many directions.
    temporal_frequencies : tuple of float
        Hz, above 0 and below half the frame rate.
    frames : int
        Frames of a film.
    frames_per_second : float
        Frame rate.

    Notes
    -----
    Channels are ordered by spatial frequency, then temporal frequency, then direction (0 to a full turn). The
    temporal filters are complex exponentials under a Hann window, made orthogonal to a constant, so a film
    that stands still has no energy in any channel (Nishimoto et al., 2011, Current Biology, keep filters at
    0 Hz as well; here static structure is left to the Gabor bank).
    """

    spatial: GaborBank
    temporal_frequencies: tuple[float, ...]
    frames: int
    frames_per_second: float

    def __post_init__(self) -> None:
        limit = self.frames_per_second / 2
        if self.frames < 3 or not all(0 < rate < limit for rate in self.temporal_frequencies):
            raise InputError(
                "this bank of motion filters cannot be built",
                given=f"{self.temporal_frequencies} Hz, {self.frames} frames at {self.frames_per_second} Hz",
                expected=f"three frames or more, temporal frequencies above 0 and below {limit:g} Hz",
                todo="leave out the highest temporal frequency, or use films with a higher frame rate",
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
        """Direction of each channel in radians from rightward towards downward, shape (channel,)."""
        angles = np.arange(self.directions) * 2 * np.pi / self.directions
        return np.tile(angles, len(self.spatial.frequencies) * len(self.temporal_frequencies))

    @property
    def channel_frequency(self) -> np.ndarray:
        """Cycles per picture of each channel, shape (channel,)."""
        repeat = len(self.temporal_frequencies) * self.directions
        return np.repeat(np.asarray(self.spatial.frequencies), repeat)

    @property
    def channel_rate(self) -> np.ndarray:
        """Temporal frequency of each channel in Hz, shape (channel,)."""
        rates = np.repeat(np.asarray(self.temporal_frequencies), self.directions)
        return np.tile(rates, len(self.spatial.frequencies))

    @property
    def channel_speed(self) -> np.ndarray:
        """Preferred speed of each channel in pictures per second, shape (channel,)."""
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

    def energy(self, films: np.ndarray) -> np.ndarray:
        """Return the local motion energy of each filter.

        Parameters
        ----------
        films : array, shape (film, frame, y, x)
            Gray values.

        Returns
        -------
        array, float32, shape (film, channel, size / 2, size / 2)
            A grating of amplitude 1 that drifts at the preferred rate has energy of about 1.
        """
        films = np.asarray(films, dtype=np.float32)
        size = self.spatial.size
        if films.ndim != 4 or films.shape[1:] != (self.frames, size, size):
            raise InputError(
                "these films do not fit the motion filters",
                given=f"an array of shape {films.shape}",
                expected=f"shape (film, {self.frames}, {size}, {size})",
                todo="resample the frames first: neurorecon.filters.resize(films, size)",
            )
        return np.stack([self._energy_of_one(film) for film in films])

    def _energy_of_one(self, film: np.ndarray) -> np.ndarray:
        moving = film - film.mean(axis=0)  # exact zeros where nothing moves
        bank, rates = self.spatial, len(self.temporal_frequencies)
        responses = bank.responses(moving)
        frames, channels, rows, columns = responses.shape
        filtered = self.temporal_filters() @ responses.reshape(frames, -1)
        shape = (2, rates, len(bank.frequencies), bank.orientations, rows, columns)
        energy = squared_modulus(filtered).reshape(shape)
        # exp(i 2 pi (f x - rate t)) goes along f: its phase falls with time, and the filter that rises with
        # time cancels it. So the first half of the filters finds motion along the frequency vector.
        return energy.transpose(2, 1, 0, 3, 4, 5).reshape(channels * rates * 2, rows, columns)


def pool(maps: np.ndarray, cells: int) -> np.ndarray:
    """Average square maps over a grid of ``cells x cells``.

    Parameters
    ----------
    maps : array, shape (..., y, x)
        E.g. energies.
    cells : int
        Cells on each side.

    Returns
    -------
    array, float32, shape (..., cells, cells)
    """
    return resize(maps, cells)


@lru_cache(maxsize=16)
def gabor_bank(size: int, frequencies: tuple[float, ...], orientations: int) -> GaborBank:
    """Return a (cached) :class:`GaborBank`."""
    return GaborBank(size, frequencies, orientations)
