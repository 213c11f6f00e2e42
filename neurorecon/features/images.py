"""Filters of images for targets without networks: luminance, opponent colors, resampling, pooling."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from neurorecon.errors import InputError
from neurorecon.io.images import pixels as pixels
from neurorecon.models.preprocessing import Preprocessing as Preprocessing
from neurorecon.models.preprocessing import to_tensor as to_tensor

if TYPE_CHECKING:
    from torch import Tensor

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


def resize_tensors(images: Tensor, size: int) -> Tensor:
    """Do what :func:`resize` does, with tensors (..., y, x); differentiable."""
    import torch

    if images.shape[-2:] == (size, size):
        return images
    vertical, horizontal = (torch.from_numpy(_area_weights(int(old), size)).to(images) for old in images.shape[-2:])
    return vertical @ images @ horizontal.T


def luminance_of_tensors(images: Tensor) -> Tensor:
    """Do what :func:`luminance` does, with tensors (image, rgb, y, x); differentiable."""
    import torch

    return torch.einsum("ncyx,c->nyx", images, torch.from_numpy(_LUMINANCE).to(images))


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
