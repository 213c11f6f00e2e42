"""Optical flow by registering windows (Lucas & Kanade, 1981, IJCAI; Le Besnerais & Champagnat, 2005, ICIP).

The motion of a pixel is the one that explains, in the sense of least squares, how the gray values in a Gaussian window
around it have changed. It is found on coarse frames first, and each finer level starts from the result of the one
before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from neurorecon.errors import InputError
from neurorecon.filters.pictures import interpolate, resize, sample

#: Frames are made coarser as long as their sides have this many pixels or more.
_SMALLEST = 16


@dataclass(frozen=True)
class LucasKanade:
    """Dense optical flow between the frames of films.

    Parameters
    ----------
    window : float
        Standard deviation, in pixels, of the Gaussian window within which motion is taken to be the same.
    iterations : int
        Registrations at each level.
    smoothing : float
        Standard deviation, in pixels, of the Gaussian that frames are blurred with first.
    ridge : float
        Squared slope, in gray values (0 to 1) a pixel, below which a window has no texture to tell its motion from:
        it keeps that of the coarser level, in the end none.

    Notes
    -----
    The slopes are those of the earlier frame, and what a pixel that leaves the picture would say is left out. Other
    than that the method is ``skimage.registration.optical_flow_ilk(..., gaussian=True)``; all pairs of frames are
    done at once, which takes a twentieth of the time for frames of 64 pixels.
    """

    window: float = 2.75
    iterations: int = 4
    smoothing: float = 0.7
    ridge: float = 1e-5

    def __post_init__(self) -> None:
        if self.window <= 0 or self.iterations < 1 or self.smoothing <= 0 or self.ridge <= 0:
            raise InputError(
                "optical flow cannot be computed in this way",
                given=str(self),
                expected="an iteration or more, everything else above 0",
            )

    def __call__(self, film: np.ndarray) -> np.ndarray:
        """Return the flow from each frame of a film to the next.

        Parameters
        ----------
        film : array, shape (frame, y, x)
            Gray values from 0 to 1, e.g. of :func:`neurorecon.filters.luminance`.

        Returns
        -------
        array, float32, shape (frame - 1, 2, y, x)
            Pixels to the right, and pixels downward, that each pixel of the earlier frame moves.
        """
        film = np.asarray(film, dtype=np.float32)
        if film.ndim != 3 or len(film) < 2 or min(film.shape[1:]) < _SMALLEST:
            raise InputError(
                "optical flow needs a film",
                given=f"an array of shape {film.shape}",
                expected=f"shape (frame, y, x), two frames or more of {_SMALLEST} pixels or more a side",
                todo="enlarge smaller frames first: neurorecon.filters.resize(film, size)",
            )
        levels = [_blur(film, self.smoothing)]
        while min(levels[-1].shape[1:]) >= 2 * _SMALLEST:
            rows, columns = levels[-1].shape[1:]
            levels.append(resize(levels[-1], (rows // 2, columns // 2)))
        flow = np.zeros((len(film) - 1, 2, *levels[-1].shape[1:]), dtype=np.float32)
        for frames in reversed(levels):
            flow = self._refine(frames, _at_size(flow, *frames.shape[1:]))
        return flow

    def _refine(self, frames: np.ndarray, flow: np.ndarray) -> np.ndarray:
        first, second = frames[:-1], frames[1:, None]
        rows, columns = frames.shape[1:]
        across, down = np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32)[:, None]
        slope_x, slope_y = _slopes(first)
        ridge = np.float32(self.ridge)
        xx, xy, yy = _blur(np.stack([slope_x * slope_x, slope_x * slope_y, slope_y * slope_y]), self.window)
        xx, yy = xx + ridge, yy + ridge
        scale = 1 / (xx * yy - xy * xy)
        for _ in range(self.iterations):
            x, y = flow[:, 0] + across, flow[:, 1] + down
            inside = (x >= 0) & (x <= columns - 1) & (y >= 0) & (y <= rows - 1)
            change = (first - sample(second, x, y)[:, 0]) * inside
            change += slope_x * flow[:, 0] + slope_y * flow[:, 1]
            to_x, to_y = _blur(np.stack([slope_x * change, slope_y * change]), self.window)
            to_x, to_y = to_x + ridge * flow[:, 0], to_y + ridge * flow[:, 1]
            flow = np.stack([(yy * to_x - xy * to_y) * scale, (xx * to_y - xy * to_x) * scale], axis=1)
        return flow


def _at_size(flow: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the flow on a finer grid, in its pixels."""
    factors = np.array([columns / flow.shape[3], rows / flow.shape[2]], dtype=np.float32)
    return interpolate(flow, (rows, columns)) * factors[:, None, None]


def _slopes(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    down, across = np.gradient(frames, axis=(1, 2))
    return across, down


def _blur(maps: np.ndarray, sigma: float) -> np.ndarray:
    """Return maps, shape (..., y, x), blurred by products with matrices, which is quickest for small maps."""
    rows, columns = maps.shape[-2:]
    return _gaussian(rows, sigma) @ (maps @ _gaussian(columns, sigma).T)


@lru_cache(maxsize=64)
def _gaussian(length: int, sigma: float) -> np.ndarray:
    """Weights, shape (length, length), of a row of pixels that its mirror image goes on behind either end."""
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    places = np.arange(length)[:, None] + offsets
    period = 2 * (length - 1)
    places = np.abs((places + length - 1) % period - (length - 1))
    weights = np.zeros((length, length))
    np.add.at(weights, (np.arange(length)[:, None], places), np.exp(-0.5 * (offsets / sigma) ** 2))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
