"""What is done to the time series of a run before anything else: detrend it, scale it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from neurorecon.errors import InputError


def detrend(run: np.ndarray, order: int) -> np.ndarray:
    """Remove slow drift: a polynomial fitted to each voxel's time series by least squares.

    Parameters
    ----------
    run : array, shape (time, voxel)
        One run. Runs are detrended one by one, never end to end.
    order : int
        Of the polynomial; 0 removes the mean alone, -1 nothing.

    Returns
    -------
    array, shape (time, voxel)
        In the floating-point type of `run`.

    Raises
    ------
    InputError
        For a run that is no longer than the polynomial has coefficients.
    """
    run = np.asarray(run)
    if run.ndim != 2 or len(run) <= order + 1:
        raise InputError(
            "this run is too short to be detrended",
            given=f"an array of shape {run.shape}, a polynomial of order {order}",
            expected=f"shape (time, voxel) with more than {order + 1} time points",
            todo="lower the order, or leave the run out",
        )
    if order < 0:
        return run
    basis = _legendre(len(run), order)
    return run - (basis @ (basis.T @ run.astype(float))).astype(run.dtype)


def zscore(run: np.ndarray) -> np.ndarray:
    """Scale each voxel's time series to mean 0 and standard deviation 1; a constant one becomes 0.

    Parameters
    ----------
    run : array, shape (time, voxel)

    Returns
    -------
    array, shape (time, voxel)
        In the floating-point type of `run`.
    """
    run = np.asarray(run)
    values = run.astype(float)
    values -= values.mean(axis=0)
    deviation = values.std(axis=0)
    level = np.abs(run).max(axis=0, initial=0.0)
    constant = deviation <= 1e-6 * level  # what rounding leaves of a constant
    return np.where(constant, 0.0, values / np.where(constant, 1.0, deviation)).astype(run.dtype)


@lru_cache(maxsize=32)
def _legendre(length: int, order: int) -> np.ndarray:
    """Orthonormal polynomials up to `order`, shape (length, order + 1)."""
    times = np.linspace(-1.0, 1.0, length)
    return np.linalg.qr(np.polynomial.legendre.legvander(times, order))[0]
