"""Gabor energy of images: quadrature pairs at several scales, orientations and positions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.fft

from neurorecon.errors import InputError
from neurorecon.features.base import Extractor, Needs, StimulusBatch
from neurorecon.features.images import luminance, pool, resize, resize_tensors
from neurorecon.parallel import map_threads

if TYPE_CHECKING:
    from torch import Tensor

#: Standard deviation of the Gaussian of a 1-octave band, relative to its frequency f: the amplitude is half of the
#: maximum at the limits of the band, f * 2 / 3 and f * 4 / 3.
_OCTAVE_SIGMA = 1.0 / 3.0 / np.sqrt(2.0 * np.log(2.0))


@dataclass(frozen=True)
class GaborBank:
    """A bank of Gabor filters for square images, with a bandwidth of one octave.

    Parameters
    ----------
    size : int
        Pixels per side of the images; a multiple of 8.
    frequencies : tuple of float
        Spatial frequencies in cycles per image.
    orientations : int
        Number of orientations, evenly spaced over 180 degrees starting at 0.

    Raises
    ------
    InputError
        If the size, a frequency or the number of orientations is invalid.

    Notes
    -----
    Channels are ordered by frequency, then by orientation. Images are padded with their mirror image, faded to the
    mean, so that the border does not act as an edge.
    """

    size: int
    frequencies: tuple[float, ...]
    orientations: int

    def __post_init__(self) -> None:
        highest = max(self.frequencies, default=0.0)
        if self.size % 8 or self.orientations < 1 or min(self.frequencies, default=0.0) <= 0:
            raise InputError(
                "invalid parameters of a Gabor filter bank",
                given=f"size={self.size}, frequencies={self.frequencies}, orientations={self.orientations}",
                expected="a size that is a multiple of 8, frequencies above 0, at least one orientation",
            )
        if highest > 0.3 * self.size:
            raise InputError(
                "a spatial frequency is too high for the images",
                given=f"{highest} cycles per image at {self.size} pixels",
                expected=f"at most {0.3 * self.size:g}, so that the octave around it can be represented",
                todo="omit the highest frequency, or use larger images",
            )

    @property
    def channels(self) -> int:
        """Number of filters."""
        return len(self.frequencies) * self.orientations

    @property
    def channel_frequency(self) -> np.ndarray:
        """Cycles per image of each channel, shape (channel,)."""
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
        """Return the filters in the Fourier domain, shifted to the origin and cropped.

        Returns
        -------
        rows, columns : int array, shape (channel, window)
            Indices of the crop in the spectrum of the padded image.
        gain : float32 array, shape (channel, window, window)
            Amplitude at each frequency, y before x; a sinusoid of amplitude 1 at the preferred frequency has
            energy 1 (the one-sided spectrum of a cosine is one half, hence the factor 2).
        """
        return _transfer(self)

    def responses(self, images: np.ndarray) -> np.ndarray:
        """Return the complex responses of the quadrature pairs, without the carrier.

        Parameters
        ----------
        images : array, shape (image, y, x)
            Gray-value images of `size` pixels per side.

        Returns
        -------
        array, complex64, shape (image, channel, size / 2, size / 2)
            Sampled at every other pixel. The omitted carrier is the same for every image.

        Raises
        ------
        InputError
            If the images do not have this size.
        """
        images = np.asarray(images, dtype=np.float32)
        if images.ndim != 3 or images.shape[1:] != (self.size, self.size):
            raise InputError(
                "the images do not match the size of the filters",
                given=f"an array of shape {images.shape}",
                expected=f"shape (image, {self.size}, {self.size})",
                todo="resize them first with neurorecon.features.images.resize(images, size)",
            )
        rows, columns, gain = self.transfer()
        spectrum = scipy.fft.fft2(self._extend(images))
        window = spectrum[:, rows[:, :, None], columns[:, None, :]] * gain
        result = scipy.fft.ifft2(window, overwrite_x=True)
        # At half the resolution, a quarter of the samples carry the sum, so the inverse transform is rescaled.
        border = self._padding // 2
        inside = slice(border, border + self.size // 2)
        return result[:, :, inside, inside] * np.float32((window.shape[-1] / self._padded) ** 2)

    def energy(self, images: np.ndarray) -> np.ndarray:
        """Return the local energy of each filter.

        Parameters
        ----------
        images : array, shape (image, y, x)
            Gray-value images of `size` pixels per side.

        Returns
        -------
        array, float32, shape (image, channel, size / 2, size / 2)
            Squared modulus of :meth:`responses`.
        """
        return squared_modulus(self.responses(images))

    def _extend(self, images: np.ndarray) -> np.ndarray:
        width = self._padding
        centered = images - images.mean(axis=(1, 2), keepdims=True)
        mirrored = np.pad(centered, ((0, 0), (width, width), (width, width)), mode="symmetric")
        return mirrored * self.fade[:, None] * self.fade[None, :]

    @property
    def fade(self) -> np.ndarray:
        """Weights of the rows, or columns, of a padded image, float32, shape (padded,)."""
        ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(self._padding) + 0.5) / self._padding)
        return np.concatenate([ramp, np.ones(self.size), ramp[::-1]]).astype(np.float32)


def squared_modulus(values: np.ndarray) -> np.ndarray:
    """Return ``abs(values) ** 2`` of complex `values`, without the square root."""
    return values.real**2 + values.imag**2


@lru_cache(maxsize=16)
def _transfer(bank: GaborBank) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    padded, window = bank._padded, bank._padded // 2
    scale = padded / bank.size  # cycles per image -> cycles per padded image
    offsets = scipy.fft.fftfreq(window, 1.0 / window).astype(int)
    rows, columns, gain = [], [], []
    for frequency, orientation in zip(bank.channel_frequency, bank.channel_orientation, strict=True):
        center = frequency * scale * np.array([np.sin(orientation), np.cos(orientation)])
        origin = np.round(center).astype(int)
        along_y, along_x = offsets + origin[0], offsets + origin[1]
        sigma = frequency * scale * _OCTAVE_SIGMA
        squared = (along_y[:, None] - center[0]) ** 2 + (along_x[None, :] - center[1]) ** 2
        amplitude = 2.0 * np.exp(-0.5 * squared / sigma**2)
        # Frequencies beyond the Nyquist limit would alias, and the mean carries no contrast.
        limit = (np.abs(along_y)[:, None] < padded / 2) & (np.abs(along_x)[None, :] < padded / 2)
        amplitude *= limit & ~((along_y[:, None] == 0) & (along_x[None, :] == 0))
        rows.append(along_y % padded)
        columns.append(along_x % padded)
        gain.append(amplitude)
    return np.array(rows), np.array(columns), np.array(gain, dtype=np.float32)


@lru_cache(maxsize=16)
def gabor_bank(size: int, frequencies: tuple[float, ...], orientations: int) -> GaborBank:
    """Return a (cached) :class:`GaborBank`."""
    return GaborBank(size, frequencies, orientations)


#: Size to which images are resampled, in pixels per side.
_SIZE = 64

#: Cycles per image, and cells per side of the grid in which energy is averaged.
_SCALES = ((2.0, 4), (4.0, 6), (8.0, 8), (16.0, 8))

_ORIENTATIONS = 8

#: Energy at which log(1 + energy / knee) changes from linear to logarithmic.
_KNEE = 2e-4


class GaborExtractor(Extractor):
    """Energy of a Gabor pyramid of the luminance (Kay et al., 2008, Nature; Nishimoto et al., 2011, Curr. Biol.).

    Four scales, eight orientations, and a spatial grid that is finer at fine scales: 1,440 features. Images are
    resampled to 64 x 64 pixels. Videos are represented by their middle frame.
    """

    name: ClassVar[str] = "gabor"
    needs: ClassVar[Needs] = "images"

    def __call__(self, batch: StimulusBatch) -> np.ndarray:
        """Return the target of a batch, float32, shape (stimulus, feature)."""
        assert batch.images is not None
        return map_threads(_features, batch.images).astype(np.float32)

    def made_by(self) -> dict[str, Any]:
        """Return how the target is computed."""
        return {
            "model": "Gabor pyramid",
            "preprocessing": f"luminance, resampled to {_SIZE} x {_SIZE} pixels",
            "cycles_per_picture": [frequency for frequency, _ in _SCALES],
            "orientations": _ORIENTATIONS,
            "grid": [cells for _, cells in _SCALES],
            "nonlinearity": f"log(1 + energy / {_KNEE})",
            "source": "Kay et al. (2008), Nature; Nishimoto et al. (2011), Current Biology",
        }

    def feature_names(self, batch: StimulusBatch) -> list[str]:
        """Return names such as ``4 c/p 45 deg y1 x0``."""
        return [
            f"{frequency:g} c/p {180 * orientation / _ORIENTATIONS:g} deg y{row} x{column}"
            for frequency, cells in _SCALES
            for orientation in range(_ORIENTATIONS)
            for row in range(cells)
            for column in range(cells)
        ]


def _features(image: np.ndarray) -> np.ndarray:
    """Return the features of one image, shape (feature,); single images fit into the CPU cache."""
    bank = gabor_bank(_SIZE, tuple(frequency for frequency, _ in _SCALES), _ORIENTATIONS)
    energy = bank.energy(resize(luminance(image), _SIZE)[None])[0]
    scales = energy.reshape(len(_SCALES), _ORIENTATIONS, *energy.shape[1:])
    pooled = [pool(maps, cells).ravel() for maps, (_, cells) in zip(scales, _SCALES, strict=True)]
    return np.asarray(np.log1p(np.concatenate(pooled) / np.float32(_KNEE)))


def gabor_of_tensors(luminance: Tensor) -> Tensor:
    """Return the target of images as tensors, (image, feature), which is differentiable.

    Parameters
    ----------
    luminance : Tensor, shape (image, y, x)
        From 0 to 1, of any size.
    """
    import torch

    bank = gabor_bank(_SIZE, tuple(frequency for frequency, _ in _SCALES), _ORIENTATIONS)
    images = resize_tensors(luminance, _SIZE)
    centered = images - images.mean(dim=(1, 2), keepdim=True)
    width = bank._padding
    mirror = np.pad(np.arange(_SIZE), width, mode="symmetric")
    fade = torch.from_numpy(bank.fade).to(images)
    spectrum = torch.fft.fft2(centered[:, mirror][:, :, mirror] * fade[:, None] * fade)
    rows, columns, gain = bank.transfer()
    window = spectrum[:, rows[:, :, None], columns[:, None, :]] * torch.from_numpy(gain).to(images)
    inside = slice(width // 2, width // 2 + _SIZE // 2)
    waves = torch.fft.ifft2(window)[..., inside, inside] * (window.shape[-1] / bank._padded) ** 2
    energy = (waves.real.square() + waves.imag.square()).unflatten(1, (len(_SCALES), _ORIENTATIONS))
    pooled = [resize_tensors(energy[:, number], cells).flatten(1) for number, (_, cells) in enumerate(_SCALES)]
    return torch.log1p(torch.cat(pooled, dim=1) / _KNEE)
