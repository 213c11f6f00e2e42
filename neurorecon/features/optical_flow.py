"""Optical-flow target: what moves where, how fast, growing or turning, on a grid of the picture."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from neurorecon.errors import InputError
from neurorecon.features.base import Extractor, StimulusBatch
from neurorecon.features.threads import for_each
from neurorecon.filters import LucasKanade, luminance, pool, resize

#: Width in pixels of the frames between which flow is computed; the height follows.
_WIDTH = 64

#: Cells on each side of the grid over which flow is averaged.
_CELLS = 4

#: Directions of the histogram, evenly spaced from rightward over downward.
_DIRECTIONS = 8

#: Flow is computed between frames that are at least this long apart, so that it does not depend on the frame rate.
_LAG = 0.125

_FLOW = LucasKanade()
_QUANTITIES = ("rightward", "downward", "speed", "divergence", "curl")


class OpticalFlowExtractor(Extractor):
    """Statistics of the optical flow of films, in units of the world of the picture.

    In each of 4 x 4 cells, averaged over the film: velocity rightward and downward, speed, divergence (what comes
    nearer grows) and curl (positive: clockwise); the change of each with time; and the speed by direction of motion
    (a histogram of oriented flow: Laptev et al., 2008, CVPR), which sums up to the speed. 288 features, of films only.

    Notes
    -----
    Lengths are in picture widths and times in seconds, for any size, shape and frame rate: velocities are in 1/s
    (widths a second), divergence and curl in 1/s, their changes in 1/s^2. What has no texture seems to stand still.
    """

    name: ClassVar[str] = "optical_flow"
    needs: ClassVar[Literal["images", "frames", "table"]] = "frames"

    def __call__(self, batch: StimulusBatch) -> np.ndarray:
        """Return the target of a batch, float32, shape (stimulus, feature)."""
        assert batch.frames is not None
        frames, rate = batch.frames.shape[1], batch.frames_per_second
        if frames < 2 or not rate:
            raise InputError(
                "these films have no optical flow",
                given=f"{frames} frames, {rate} frames per second",
                expected="two frames or more, and their rate",
                todo="leave the target 'optical_flow' out, or read more frames of each film",
            )
        stride = min(max(1, round(_LAG * rate)), frames - 1)
        return for_each(partial(_statistics, seconds=stride / rate), batch.frames[:, ::stride])

    def made_by(self) -> dict[str, Any]:
        """Return how the numbers come about."""
        return {
            "model": "optical flow, iterated Lucas-Kanade",
            "preprocessing": f"luminance, resampled to a width of {_WIDTH} pixels, frames {_LAG} s or more apart",
            "window_pixels": _FLOW.window,
            "iterations": _FLOW.iterations,
            "smoothing_pixels": _FLOW.smoothing,
            "ridge": _FLOW.ridge,
            "grid": _CELLS,
            "directions": _DIRECTIONS,
            "unit": "picture widths, seconds",
            "source": "Lucas & Kanade (1981), IJCAI; Le Besnerais & Champagnat (2005), ICIP; Laptev et al. (2008)",
        }

    def feature_names(self, batch: StimulusBatch) -> list[str]:
        """Return names such as ``speed y1 x0``, ``change of curl y3 x2`` and ``toward 45 deg y1 x0``."""
        names = [*_QUANTITIES, *(f"change of {name}" for name in _QUANTITIES)]
        names += [f"toward {360 * direction / _DIRECTIONS:g} deg" for direction in range(_DIRECTIONS)]
        return [f"{name} y{row} x{column}" for name in names for row in range(_CELLS) for column in range(_CELLS)]


def _statistics(film: np.ndarray, seconds: float) -> np.ndarray:
    """Return the features of a film, uint8 (frame, y, x, rgb), whose frames are `seconds` apart; shape (feature,)."""
    rows, columns = film.shape[1:3]
    height = max(16, round(_WIDTH * rows / columns))
    flow = _FLOW(resize(luminance(film), (height, _WIDTH)))
    # A pixel may be a little higher than wide, so that a whole number of them fits.
    flow *= np.array([1 / _WIDTH, rows / columns / height], dtype=np.float32)[:, None, None] / np.float32(seconds)
    x, y = flow[:, 0], flow[:, 1]
    x_down, x_across = np.gradient(x, rows / columns / height, 1 / _WIDTH, axis=(1, 2))
    y_down, y_across = np.gradient(y, rows / columns / height, 1 / _WIDTH, axis=(1, 2))
    maps = np.stack([x, y, np.hypot(x, y), x_across + y_down, y_across - x_down], axis=1)
    cells = pool(maps, _CELLS)
    change = np.tensordot(_slope_weights(len(cells), seconds), cells, axes=1)
    toward = pool(_by_direction(x, y).mean(axis=1), _CELLS)
    return np.concatenate([cells.mean(axis=0).ravel(), change.ravel(), toward.ravel()]).astype(np.float32)


def _slope_weights(number: int, seconds: float) -> np.ndarray:
    """Return weights, shape (pair,), whose sum of products with values is their least-squares slope; 0 for one pair."""
    times = (np.arange(number) - (number - 1) / 2) * seconds
    return times / max(float((times**2).sum()), np.finfo(float).tiny)


def _by_direction(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return speed by direction, shape (direction, ...); between two directions it is shared by both."""
    place = np.arctan2(y, x) * (_DIRECTIONS / (2 * np.pi))
    distance = place - np.arange(_DIRECTIONS).reshape(-1, *[1] * x.ndim)
    distance = np.abs((distance + _DIRECTIONS / 2) % _DIRECTIONS - _DIRECTIONS / 2)
    return np.clip(1 - distance, 0, None) * np.hypot(x, y)
