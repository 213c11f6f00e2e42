"""Pictures before and after filtering: luminance, opponent colors, sizes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from neurorecon.errors import InputError

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
