"""Optical flow by polynomial expansion (Farneback, 2003, SCIA), as published end-point errors use it.

Around each pixel a frame is approximated by a quadratic polynomial, ``x' A x + b' x + c``. Where the second frame is
the first one moved by ``d``, ``b`` has changed by ``-2 A d``; ``d`` is the least-squares solution over a window, from
coarse to fine frames, each starting from the result of the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import convolve1d, correlate1d, gaussian_filter1d, uniform_filter1d

from neurorecon.errors import InputError
from neurorecon.features.images import interpolate, sample

#: Weight of the equations of the five pixels next to a border, where the polynomials are extrapolated.
_BORDER = (0.14, 0.14, 0.4472, 0.4472, 0.4472)

#: Added to the determinant of the equations (of gray values from 0 to 255): where there is no texture, no motion.
_RIDGE = np.float32(1e-3)

#: Frames are made coarser down to this side.
_SMALLEST = 32


@dataclass(frozen=True)
class Farneback:
    """Dense optical flow between the frames of films.

    Parameters
    ----------
    levels : int
        Sizes of the frames at most, each half of the one before; none below 32 pixels.
    window : int
        Side of the square, in pixels, over which the motion is taken to be the same.
    iterations : int
        Solutions at each size.
    radius : int
        Half width, in pixels, of the neighborhood of the polynomials.
    sigma : float
        Standard deviation, in pixels, of the Gaussian weights of that neighborhood.

    Notes
    -----
    Agrees with ``cv2.calcOpticalFlowFarneback(first, second, None, 0.5, levels, window, iterations, radius, sigma,
    0)`` of OpenCV, borders included. The defaults are those of the end-point error of Mind-Animator (Lu et al., 2024,
    arXiv 2405.03280), which can so be compared with published ones without OpenCV.
    """

    levels: int = 3
    window: int = 15
    iterations: int = 3
    radius: int = 5
    sigma: float = 1.2

    def __post_init__(self) -> None:
        if min(self.levels, self.iterations, self.radius) < 1 or self.window < 3 or self.sigma <= 0:
            raise InputError(
                "optical flow cannot be computed in this way",
                given=str(self),
                expected="levels, iterations and radius of 1 or more, a window of 3 or more, sigma above 0",
            )

    def __call__(self, film: np.ndarray) -> np.ndarray:
        """Return the flow from each frame of a film to the next.

        Parameters
        ----------
        film : array, shape (frame, y, x)
            Gray values from 0 to 1, e.g. of :func:`neurorecon.features.images.luminance`.

        Returns
        -------
        array, float32, shape (frame - 1, 2, y, x)
            Pixels to the right, and pixels downward, that each pixel of the earlier frame moves.
        """
        film = np.asarray(film, dtype=np.float32)
        if film.ndim != 3 or len(film) < 2 or min(film.shape[1:]) < 8:
            raise InputError(
                "optical flow needs a film",
                given=f"an array of shape {film.shape}",
                expected="shape (frame, y, x), two frames or more of 8 pixels or more a side",
            )
        flow = np.zeros((len(film) - 1, 2, 1, 1), dtype=np.float32)
        for frames in self._pyramid(film * np.float32(255.0)):
            flow = interpolate(flow, frames.shape[1:]) * np.float32(2.0)
            polynomials = _polynomials(frames, self.radius, self.sigma)
            for _ in range(self.iterations):
                equations = _equations(polynomials, flow)
                for axis in (2, 3):
                    equations = uniform_filter1d(equations, self.window, axis, mode="nearest")
                flow = _solve(equations)
        return flow

    def _pyramid(self, film: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the smoothed frames from the coarsest to the finest, each of shape (frame, y, x)."""
        smallest = min(film.shape[1:])
        coarsest = sum(smallest / 2**level >= _SMALLEST for level in range(1, self.levels))
        for level in range(coarsest, 0, -1):
            size = tuple(round(side / 2**level) for side in film.shape[1:])
            sigma = (2**level - 1) / 2
            yield interpolate(_smooth(film, sigma, radius=max(round(5 * sigma) // 2, 1)), size)
        kernel = np.array([0.25, 0.5, 0.25])
        yield convolve1d(convolve1d(film, kernel, 1, mode="mirror"), kernel, 2, mode="mirror")


def _smooth(film: np.ndarray, sigma: float, radius: int) -> np.ndarray:
    rows = gaussian_filter1d(film, sigma, 1, mode="mirror", radius=radius)
    return gaussian_filter1d(rows, sigma, 2, mode="mirror", radius=radius)


def _polynomials(frames: np.ndarray, radius: int, sigma: float) -> np.ndarray:
    """Return coefficients of x, y, x^2, y^2 and xy around each pixel, shape (frame, 5, y, x)."""
    offsets = np.arange(-radius, radius + 1, dtype=float)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    second, fourth = (weights * offsets**2).sum(), (weights * offsets**4).sum()
    kernels = [weights, weights * offsets, weights * offsets**2]
    down = [correlate1d(frames, kernel, 1, mode="nearest") for kernel in kernels]

    def moment(x: int, y: int) -> np.ndarray:
        return correlate1d(down[y], kernels[x], 2, mode="nearest")

    # The weighted basis functions are orthogonal but for 1, x^2 and y^2, whose equations are solved by hand.
    spread = fourth - second**2
    mean = moment(0, 0)
    return np.stack(
        [
            moment(1, 0) / second,
            moment(0, 1) / second,
            (moment(2, 0) - second * mean) / spread,
            (moment(0, 2) - second * mean) / spread,
            moment(1, 1) / second**2,
        ],
        axis=1,
    )


def _equations(polynomials: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Return the normal equations of the motion at each pixel, shape (pair, 5, y, x): xx, xy, yy, x, y."""
    first = polynomials[:-1]
    moved, inside = _at_the_end_of_the_flow(polynomials[1:], flow)
    x, y, xx, yy, xy = np.moveaxis(first, 1, 0)
    to_x, to_y, to_xx, to_yy, to_xy = np.moveaxis(moved, 1, 0)
    # Mean of the quadratic terms of both frames; behind the border, of the first frame alone.
    xx, yy, xy = (np.where(inside, (a + b) / 2, a) for a, b in ((xx, to_xx), (yy, to_yy), (xy, to_xy)))
    xy = xy / 2
    change_x = (x - to_x) / 2 + xx * flow[:, 0] + xy * flow[:, 1]
    change_y = (y - to_y) / 2 + xy * flow[:, 0] + yy * flow[:, 1]
    rows = [xx * xx + xy * xy, (xx + yy) * xy, yy * yy + xy * xy, xx * change_x + xy * change_y]
    rows.append(xy * change_x + yy * change_y)
    border = _border_weights(*flow.shape[2:])
    return np.stack(rows, axis=1) * border**2


def _at_the_end_of_the_flow(polynomials: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the coefficients where each pixel has gone, zeros outside, and where that is inside."""
    rows, columns = polynomials.shape[2:]
    x = flow[:, 0] + np.arange(columns, dtype=np.float32)
    y = flow[:, 1] + np.arange(rows, dtype=np.float32)[:, None]
    inside = (x >= 0) & (x < columns - 1) & (y >= 0) & (y < rows - 1)
    return sample(polynomials, x, y) * inside[:, None], inside


def _solve(equations: np.ndarray) -> np.ndarray:
    xx, xy, yy, x, y = np.moveaxis(equations, 1, 0)
    scale = 1 / (xx * yy - xy * xy + _RIDGE)
    return np.stack([(yy * x - xy * y) * scale, (xx * y - xy * x) * scale], axis=1)


@lru_cache(maxsize=16)
def _border_weights(rows: int, columns: int) -> np.ndarray:
    def along(length: int) -> np.ndarray:
        weights = np.ones(length, dtype=np.float32)
        near = min(len(_BORDER), length)
        weights[:near] *= _BORDER[:near]
        weights[-near:] *= _BORDER[:near][::-1]
        return weights

    return along(rows)[:, None] * along(columns)
