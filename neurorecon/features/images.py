"""Image preprocessing for networks and filters: conversion, resampling, luminance, pooling.

Images may be uint8 (0 to 255), float (0 to 1) or PIL images. All are converted to uint8 first, resampled by PIL, and
scaled exactly once, here: a network that gets images scaled twice sees black, without any error.
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


#: Resampling filters of PIL. All of them antialias when images shrink.
Resampling = Literal["bilinear", "bicubic", "lanczos"]

#: Number of images resampled at a time; PIL releases the GIL.
_THREADS = 8

#: Float images may exceed 0..1 by this much, e.g. after resampling in float.
_OUTSIDE = 1e-4


@dataclass(frozen=True)
class Preprocessing:
    """Resize and normalize images of any size for a network.

    Parameters
    ----------
    size : int
        Pixels per side.
    resampling : {"bilinear", "bicubic", "lanczos"}
        PIL's resampling filter. Images of the right size are not resampled.
    fit : {"crop", "squeeze"}
        How to make images square: resize the shorter side to `size` and crop the center (CLIP), or resize both sides
        to `size` (Stable Diffusion, VDVAE).
    mean, std : tuple of float
        Mean and standard deviation of red, green and blue, on the scale 0 to 1, for normalization.
    """

    size: int
    resampling: Resampling = "bicubic"
    fit: Literal["crop", "squeeze"] = "crop"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def prepare(self, images: Any) -> np.ndarray:
        """Resize images to the input size of the network.

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
        """Normalize prepared images.

        Parameters
        ----------
        prepared : array, uint8, shape (image, y, x, rgb)
            Output of :meth:`prepare`.
        device : torch device
            Images are transferred as uint8 and scaled on the device.

        Returns
        -------
        Tensor, float32, shape (image, rgb, y, x)
        """
        import torch

        values = to_tensor(prepared, device).permute(0, 3, 1, 2).float().div(255.0)
        mean, std = (torch.tensor(found, device=device).view(1, 3, 1, 1) for found in (self.mean, self.std))
        return values.sub(mean).div(std).contiguous()

    def describe(self) -> str:
        """Return a description in words, which is stored with the target."""
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
        grown = int(self.size * long / short)  # truncated, as in torchvision
        return (self.size, grown) if size[0] <= size[1] else (grown, self.size)


def pixels(images: Any) -> np.ndarray:
    """Convert images to uint8.

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
        If the dtype, the range or the color axis is not one of these. Float images on the scale 0 to 255 raise an
        error too.
    """
    if hasattr(images, "convert"):
        return np.asarray(images.convert("RGB"))
    values = np.asarray(images)
    if values.ndim < 3 or values.shape[-1] != 3:
        raise InputError(
            "the last axis of images must be color",
            given=f"an array of shape {values.shape}",
            expected="shape (..., y, x, 3): red, green, blue",
            todo="move the color axis to the end, repeat a gray image three times, or drop the alpha channel",
        )
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f" or not _in_range(values):
        found = f" from {values.min():g} to {values.max():g}" if values.size and values.dtype.kind in "iuf" else ""
        raise InputError(
            "the range of these pixel values is ambiguous",
            given=f"{values.dtype}{found}",
            expected="uint8 from 0 to 255, or float from 0 to 1",
            todo="convert the images, e.g. with images.astype('uint8') if they range from 0 to 255",
        )
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def _in_range(values: np.ndarray) -> bool:
    return not values.size or bool(values.min() >= -_OUTSIDE and values.max() <= 1.0 + _OUTSIDE)


def to_tensor(array: np.ndarray, device: Any) -> Tensor:
    """Copy an array to a device; read-only arrays are copied first, because torch warns about them."""
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

#: Einsum letters for the axes before y and x. Einsum orders axes of equal length by their letters.
_OTHER_AXES = "ABCDEFGHIJKLMNOPQRSTUVW"


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Return luma: Rec. 709 luminance weights applied to display (gamma-encoded) values.

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
            "the last axis of images must be color",
            given=f"an array of shape {pixels.shape}",
            expected="shape (..., 3): red, green, blue",
            todo="move the color axis to the end, or drop the alpha channel",
        )
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(255.0)
    return pixels.astype(np.float32)


def resize(images: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Shrink images by averaging over the area of each new pixel; enlarge them by linear interpolation.

    Parameters
    ----------
    images : array, shape (..., y, x)
        Gray-value images.
    size : int or (int, int)
        Pixels per side, or rows and columns.

    Returns
    -------
    array, float32, shape (..., size, size) or (..., rows, columns)
    """
    return _resample(images, size, _area_weights)


def interpolate(images: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resample images by linear interpolation between pixel centers, without antialiasing.

    Parameters
    ----------
    images : array, shape (..., y, x)
        Gray-value images without details finer than the new pixels.
    size : int or (int, int)
        Pixels per side, or rows and columns.

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
    # Not "...": einsum picks letters for it that change with Python's hash seed, which changes the order in which axes
    # of equal length are multiplied, and the last bits of the result.
    others = _OTHER_AXES[: images.ndim - 2]
    return np.einsum(f"ay,{others}yx,bx->{others}ab", vertical, images, horizontal, optimize=True)


@lru_cache(maxsize=64)
def _area_weights(old: int, new: int) -> np.ndarray:
    """Return area-averaging weights, shape (new, old); rows sum to 1."""
    if old < new:
        return _linear_weights(old, new)
    edges = np.arange(new + 1) * old / new
    low = np.maximum(edges[:-1, None], np.arange(old)[None])
    high = np.minimum(edges[1:, None], np.arange(1, old + 1)[None])
    weights = np.clip(high - low, 0.0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@lru_cache(maxsize=64)
def _linear_weights(old: int, new: int) -> np.ndarray:
    """Return linear interpolation weights between pixel centers, shape (new, old)."""
    centers = (np.arange(new) + 0.5) * old / new - 0.5
    distance = np.abs(np.clip(centers, 0, old - 1)[:, None] - np.arange(old)[None])
    return np.clip(1.0 - distance, 0.0, None).astype(np.float32)


def pool(maps: np.ndarray, cells: int) -> np.ndarray:
    """Average maps within the cells of a ``cells x cells`` grid.

    Parameters
    ----------
    maps : array, shape (..., y, x)
        E.g. energies.
    cells : int
        Cells per side.

    Returns
    -------
    array, float32, shape (..., cells, cells)
    """
    return resize(maps, cells)


def sample(maps: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sample maps by bilinear interpolation; positions outside are clamped to the border.

    Parameters
    ----------
    maps : array, float32, shape (image, channel, y, x)
        At least two pixels per side.
    x, y : array, float32, shape (image, row, column)
        Positions in pixels from the center of the first pixel.

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
