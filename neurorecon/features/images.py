"""Images on their way into a network or a filter: one place that turns any input into the same numbers.

Images may come as uint8 (0 to 255), as float (0 to 1) or as PIL images. All are brought to uint8 first, resampled by
PIL, and scaled once: networks that were fed images scaled twice see black, without any error.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from neurorecon.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


#: Ways to resample, as PIL names them. All of them average where images shrink (antialiasing).
Resampling = Literal["bilinear", "bicubic", "lanczos"]

#: Images resampled at a time; PIL lets go of Python's lock while it works.
_THREADS = 8

#: Float images may leave 0..1 by this much, as those that were resampled in float do.
_OUTSIDE = 1e-4


@dataclass(frozen=True)
class Preprocessing:
    """How images of any size become the input of a network.

    Parameters
    ----------
    size : int
        Pixels on each side.
    resampling : {"bilinear", "bicubic", "lanczos"}
        How PIL resamples them. Images that have the size already are left as they are.
    fit : {"crop", "squeeze"}
        What happens to oblong images: the shorter side is brought to `size` and the middle is cut out (CLIP), or
        both sides are brought to `size` (Stable Diffusion, VDVAE).
    mean, std : tuple of float
        Of red, green and blue, on the scale 0 to 1; subtracted, and divided by.
    """

    size: int
    resampling: Resampling = "bicubic"
    fit: Literal["crop", "squeeze"] = "crop"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def prepare(self, images: Any) -> np.ndarray:
        """Return images in the size of the network.

        Parameters
        ----------
        images : array of shape (image, y, x, rgb), or sequence of arrays or PIL images
            uint8, float from 0 to 1, or PIL.

        Returns
        -------
        array, uint8, shape (image, y, x, rgb)
        """
        listed = pixels(images) if isinstance(images, np.ndarray) else [pixels(image) for image in images]
        if len(listed) and all(image.shape == (self.size, self.size, 3) for image in listed):
            return np.stack(listed) if isinstance(listed, list) else listed
        with ThreadPoolExecutor(_THREADS) as pool:
            return np.stack(list(pool.map(self._resampled, listed)))

    def normalize(self, prepared: np.ndarray, device: Any = "cpu") -> Tensor:
        """Return prepared images as the network takes them.

        Parameters
        ----------
        prepared : array, uint8, shape (image, y, x, rgb)
            From :meth:`prepare`.
        device : torch device
            Pixels travel there as bytes, and are scaled there.

        Returns
        -------
        Tensor, float32, shape (image, rgb, y, x)
        """
        import torch

        values = to_tensor(prepared, device).permute(0, 3, 1, 2).float().div(255.0)
        mean, std = (torch.tensor(found, device=device).view(1, 3, 1, 1) for found in (self.mean, self.std))
        return values.sub(mean).div(std).contiguous()

    def describe(self) -> str:
        """Return what is done, in words; stored with the target."""
        fit = "shorter side to {0}, middle {0} x {0}" if self.fit == "crop" else "both sides to {0}"
        scale = "" if (self.mean, self.std) == ((0, 0, 0), (1, 1, 1)) else f", minus {self.mean}, over {self.std}"
        return f"uint8; {self.resampling} with antialiasing (PIL), {fit.format(self.size)}; 0 to 1{scale}"

    def _resampled(self, pixels: np.ndarray) -> np.ndarray:
        from PIL import Image

        image = Image.fromarray(pixels)
        wanted = self._resampled_size(image.size)
        if wanted != image.size:
            image = image.resize(wanted, getattr(Image.Resampling, self.resampling.upper()))
        return np.asarray(_middle(image, self.size))

    def _resampled_size(self, size: tuple[int, int]) -> tuple[int, int]:
        if self.fit == "squeeze":
            return self.size, self.size
        short, long = min(size), max(size)
        grown = int(self.size * long / short)  # cut off, as torchvision does
        return (self.size, grown) if size[0] <= size[1] else (grown, self.size)


def pixels(images: Any) -> np.ndarray:
    """Return images as uint8, whatever they came as.

    Parameters
    ----------
    images : array of shape (..., y, x, rgb), or PIL image
        uint8, float from 0 to 1, or PIL in any mode (alpha is dropped, gray becomes three equal colors).

    Returns
    -------
    array, uint8, shape (..., y, x, rgb)

    Raises
    ------
    InputError
        Where the type, the range or the color axis is another. Float images on the scale 0 to 255 are refused
        rather than guessed at.
    """
    if hasattr(images, "convert"):
        return np.asarray(images.convert("RGB"))
    values = np.asarray(images)
    if values.ndim < 3 or values.shape[-1] != 3:
        raise InputError(
            "images have their colors on the last axis",
            given=f"an array of shape {values.shape}",
            expected="shape (..., y, x, 3): red, green, blue",
            todo="move the color axis to the end; repeat a gray image three times; drop an alpha channel",
        )
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f" or not _in_range(values):
        found = f" from {values.min():g} to {values.max():g}" if values.size and values.dtype.kind in "iuf" else ""
        raise InputError(
            "these pixels cannot be told",
            given=f"{values.dtype}{found}",
            expected="uint8 from 0 to 255, or float from 0 to 1",
            todo="convert them, e.g. with images.astype('uint8') where they run from 0 to 255",
        )
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def _in_range(values: np.ndarray) -> bool:
    return not values.size or bool(values.min() >= -_OUTSIDE and values.max() <= 1.0 + _OUTSIDE)


def to_tensor(array: np.ndarray, device: Any) -> Tensor:
    """Bring an array to a device; torch warns of arrays that cannot be written to, so those are copied."""
    import torch

    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)


def _middle(image: Image, size: int) -> Image:
    width, height = image.size
    if (width, height) == (size, size):
        return image
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return image.crop((left, top, left + size, top + size))


#: Rec. 709 weights of red, green and blue in luminance.
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)

#: Letters for the axes before y and x. Einsum orders axes of one length by their letters.
_OTHER_AXES = "ABCDEFGHIJKLMNOPQRSTUVW"


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


def resize(images: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resample images by averaging over the area of each new pixel; enlarge them by linear interpolation.

    Parameters
    ----------
    images : array, shape (..., y, x)
        Gray-value images.
    size : int or (int, int)
        Pixels on each side, or rows and columns.

    Returns
    -------
    array, float32, shape (..., size, size) or (..., rows, columns)
    """
    return _resample(images, size, _area_weights)


def interpolate(images: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resample images by linear interpolation between the centers of their pixels, also to fewer pixels.

    Parameters
    ----------
    images : array, shape (..., y, x)
        Gray-value images that hold no finer detail than the new pixels do.
    size : int or (int, int)
        Pixels on each side, or rows and columns.

    Returns
    -------
    array, float32, shape (..., size, size) or (..., rows, columns)
    """
    return _resample(images, size, _linear_weights)


def _resample(images: np.ndarray, size: int | tuple[int, int], weights: Callable[[int, int], np.ndarray]) -> np.ndarray:
    images = np.asarray(images, dtype=np.float32)
    old = images.shape[-2:]
    rows, columns = (size, size) if isinstance(size, int) else size
    if old == (rows, columns):
        return images
    vertical, horizontal = weights(old[0], rows), weights(old[1], columns)
    # Not "...": the letters that stand for it change with Python's hash seed, and with them the order in which axes of
    # one length are multiplied, and the last bits.
    others = _OTHER_AXES[: images.ndim - 2]
    return np.einsum(f"ay,{others}yx,bx->{others}ab", vertical, images, horizontal, optimize=True)


@lru_cache(maxsize=64)
def _area_weights(old: int, new: int) -> np.ndarray:
    """Weights, shape (new, old), of a row of pixels in each pixel of the resampled row; rows sum to 1."""
    if old < new:
        return _linear_weights(old, new)
    edges = np.arange(new + 1) * old / new
    low = np.maximum(edges[:-1, None], np.arange(old)[None])
    high = np.minimum(edges[1:, None], np.arange(1, old + 1)[None])
    weights = np.clip(high - low, 0.0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@lru_cache(maxsize=64)
def _linear_weights(old: int, new: int) -> np.ndarray:
    """Weights, shape (new, old), of the two pixels between whose centers each new pixel lies."""
    centers = (np.arange(new) + 0.5) * old / new - 0.5
    distance = np.abs(np.clip(centers, 0, old - 1)[:, None] - np.arange(old)[None])
    return np.clip(1.0 - distance, 0.0, None).astype(np.float32)


def pool(maps: np.ndarray, cells: int) -> np.ndarray:
    """Average maps over a grid of ``cells x cells``.

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


def sample(maps: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Read maps between their pixels by linear interpolation; beyond the border, the value at the border.

    Parameters
    ----------
    maps : array, float32, shape (image, channel, y, x)
        Two pixels or more a side.
    x, y : array, float32, shape (image, row, column)
        Where to read, in pixels from the center of the first one.

    Returns
    -------
    array, float32, shape (image, channel, row, column)
    """
    images, channels, rows, columns = maps.shape
    x, y = np.clip(x, 0, columns - 1), np.clip(y, 0, rows - 1)
    left, top = np.minimum(np.floor(x), columns - 2), np.minimum(np.floor(y), rows - 2)
    right_share, lower_share = (x - left)[:, None], (y - top)[:, None]
    corner = (top.astype(np.intp) * columns + left.astype(np.intp))[:, None]
    corner = corner + np.arange(images * channels).reshape(images, channels, 1, 1) * (rows * columns)
    flat = maps.ravel()

    def row(offset: int) -> np.ndarray:
        values = flat.take(corner + offset)
        values += right_share * (flat.take(corner + offset + 1) - values)
        return values

    upper = row(0)
    upper += lower_share * (row(columns) - upper)
    return upper
