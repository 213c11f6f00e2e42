"""Pictures before and after filtering: luminance, opponent colors, sizes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from neurorecon.errors import InputError

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


def resize(pictures: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resample pictures by averaging over the area of each new pixel; enlarge them by linear interpolation.

    Parameters
    ----------
    pictures : array, shape (..., y, x)
        Gray-value pictures.
    size : int or (int, int)
        Pixels on each side, or rows and columns.

    Returns
    -------
    array, float32, shape (..., size, size) or (..., rows, columns)
    """
    return _resample(pictures, size, _area_weights)


def interpolate(pictures: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resample pictures by linear interpolation between the centers of their pixels, also to fewer pixels.

    Parameters
    ----------
    pictures : array, shape (..., y, x)
        Gray-value pictures that hold no finer detail than the new pixels do.
    size : int or (int, int)
        Pixels on each side, or rows and columns.

    Returns
    -------
    array, float32, shape (..., size, size) or (..., rows, columns)
    """
    return _resample(pictures, size, _linear_weights)


def _resample(
    pictures: np.ndarray, size: int | tuple[int, int], weights: Callable[[int, int], np.ndarray]
) -> np.ndarray:
    pictures = np.asarray(pictures, dtype=np.float32)
    old = pictures.shape[-2:]
    rows, columns = (size, size) if isinstance(size, int) else size
    if old == (rows, columns):
        return pictures
    vertical, horizontal = weights(old[0], rows), weights(old[1], columns)
    # Not "...": the letters that stand for it change with Python's hash seed, and with them the order in which axes of
    # one length are multiplied, and the last bits.
    others = _OTHER_AXES[: pictures.ndim - 2]
    return np.einsum(f"ay,{others}yx,bx->{others}ab", vertical, pictures, horizontal, optimize=True)


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
    maps : array, float32, shape (picture, channel, y, x)
        Two pixels or more a side.
    x, y : array, float32, shape (picture, row, column)
        Where to read, in pixels from the center of the first one.

    Returns
    -------
    array, float32, shape (picture, channel, row, column)
    """
    pictures, channels, rows, columns = maps.shape
    x, y = np.clip(x, 0, columns - 1), np.clip(y, 0, rows - 1)
    left, top = np.minimum(np.floor(x), columns - 2), np.minimum(np.floor(y), rows - 2)
    right_share, lower_share = (x - left)[:, None], (y - top)[:, None]
    corner = (top.astype(np.intp) * columns + left.astype(np.intp))[:, None]
    corner = corner + np.arange(pictures * channels).reshape(pictures, channels, 1, 1) * (rows * columns)
    flat = maps.ravel()

    def row(offset: int) -> np.ndarray:
        values = flat.take(corner + offset)
        values += right_share * (flat.take(corner + offset + 1) - values)
        return values

    upper = row(0)
    upper += lower_share * (row(columns) - upper)
    return upper
