"""Scores of predictions, one for each target, in NumPy and in double precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError


def _check(y_true: ArrayLike, y_pred: ArrayLike, n_dimensions: tuple[int, ...]) -> tuple[NDArray, NDArray]:
    true, predicted = np.asarray(y_true, dtype=np.float64), np.asarray(y_pred, dtype=np.float64)
    if predicted.ndim not in n_dimensions or true.shape != predicted.shape[-true.ndim :] or true.ndim != 2:
        raise InputError(
            "predictions do not fit what they are scored against",
            given=f"measured {true.shape}, predicted {predicted.shape}",
            expected="(sample, target), and the same for predictions (a band axis before it for a split)",
        )
    return true, predicted


def _deviations(true: NDArray) -> tuple[NDArray, NDArray]:
    """Return the targets less their mean, and their sums of squares, NaN for targets that do not vary."""
    centered = true - true.mean(axis=0)
    total = (centered**2).sum(axis=0)
    rounding = len(true) * (10 * np.finfo(np.float64).eps * np.abs(true).max(axis=0, initial=0)) ** 2
    return centered, np.where(total > rounding, total, np.nan)


def r2_score(y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.float64]:
    """Return the coefficient of determination of each target.

    Parameters
    ----------
    y_true, y_pred : array, shape (sample, target)
        Measured and predicted.

    Returns
    -------
    r2 : array, shape (target,)
        ``1 - sum((y - p) ** 2) / sum((y - mean(y)) ** 2)``; NaN for targets that do not vary.
    """
    true, predicted = _check(y_true, y_pred, (2,))
    _, total = _deviations(true)
    return 1 - ((true - predicted) ** 2).sum(axis=0) / total


def correlation_score(y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.float64]:
    """Return the Pearson correlation of each target.

    Parameters
    ----------
    y_true, y_pred : array, shape (sample, target)
        Measured and predicted.

    Returns
    -------
    r : array, shape (target,)
        0 for constant predictions, NaN for targets that do not vary.
    """
    true, predicted = _check(y_true, y_pred, (2,))
    centered, total = _deviations(true)
    deviations, power = _deviations(predicted)
    r = (centered * deviations).sum(axis=0) / np.sqrt(total * power)
    return np.where(np.isnan(power) & ~np.isnan(total), 0.0, r)


def r2_score_split(y_true: ArrayLike, contributions: ArrayLike) -> NDArray[np.float64]:
    """Return the share of each band in the joint R2, by the product measure.

    The share of band b is ``sum((2 y - p) * p_b) / sum(y ** 2)`` with y the targets less their mean, p_b the
    contribution of the band and p the sum of all contributions. The shares of all bands sum to
    ``r2_score(y, p)``. A share can be negative, where a band makes the joint prediction worse.

    Parameters
    ----------
    y_true : array, shape (sample, target)
        Measured. The mean of each target is subtracted: an intercept belongs to no band.
    contributions : array, shape (band, sample, target)
        What each band adds to the prediction, without the intercept.

    Returns
    -------
    r2 : array, shape (band, target)
        Shares; NaN for targets that do not vary.

    References
    ----------
    Dupre la Tour, Eickenberg, Nunez-Elizalde & Gallant (2022). Feature-space selection with banded ridge
    regression. NeuroImage 264, 119728 (their equation for the product measure;
    `himalaya.scoring.r2_score_split`).
    """
    true, predicted = _check(y_true, contributions, (3,))
    centered, total = _deviations(true)
    remainder = 2 * centered - predicted.sum(axis=0)
    return np.stack([(remainder * band).sum(axis=0) for band in predicted]) / total


def correlation_score_split(y_true: ArrayLike, contributions: ArrayLike) -> NDArray[np.float64]:
    """Return the share of each band in the correlation of the joint prediction.

    The share of band b is ``cov(y, p_b) / (std(y) * std(p))`` with p the sum of all contributions. The shares of all
    bands sum to ``correlation_score(y, p)``; contributions may have any mean.

    Parameters
    ----------
    y_true : array, shape (sample, target)
        Measured.
    contributions : array, shape (band, sample, target)
        What each band adds to the prediction.

    Returns
    -------
    r : array, shape (band, target)
        Shares; 0 where the joint prediction is constant, NaN for targets that do not vary.

    References
    ----------
    Dupre la Tour, Eickenberg, Nunez-Elizalde & Gallant (2022). Feature-space selection with banded ridge
    regression. NeuroImage 264, 119728 (`himalaya.scoring.correlation_score_split`).
    """
    true, predicted = _check(y_true, contributions, (3,))
    centered, total = _deviations(true)
    _, power = _deviations(predicted.sum(axis=0))
    shares = np.stack([(centered * band).sum(axis=0) for band in predicted]) / np.sqrt(total * power)
    return np.where(np.isnan(power) & ~np.isnan(total), 0.0, shares)
