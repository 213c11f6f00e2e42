"""Scores relative to the noise ceiling."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError

#: Ceilings below this are too uncertain to divide by: the ratio would be noise, blown up.
CEILING_FLOOR = 0.05


def normalize_r2(r2: ArrayLike, ceiling: ArrayLike, floor: float = CEILING_FLOOR) -> NDArray[np.float64]:
    """Return R2 as a share of what any model could explain.

    Parameters
    ----------
    r2 : array, shape (..., voxel)
        R2, or shares of it (split R2, unique variance).
    ceiling : array, shape (voxel,)
        Noise ceiling in units of R2: the R2 of a perfect model on the same responses.
    floor : float
        Ceilings below it are not divided by.

    Returns
    -------
    array, shape (..., voxel)
        ``r2 / ceiling``; NaN where the ceiling is NaN or below the floor. Never clipped: both are estimates, so that
        values above 1 and below 0 occur.

    References
    ----------
    Schoppe et al. (2016). Measuring the performance of neural models. Frontiers in Computational Neuroscience 10, 10.
    """
    scores, usable = _usable(r2, ceiling, floor)
    return scores / usable


def normalize_correlation(r: ArrayLike, ceiling: ArrayLike, floor: float = CEILING_FLOOR) -> NDArray[np.float64]:
    """Return correlations relative to that of a perfect model.

    Parameters
    ----------
    r : array, shape (..., voxel)
        Correlation of predicted and measured responses.
    ceiling : array, shape (voxel,)
        Noise ceiling in units of R2, whose root a perfect model's correlation is.
    floor : float
        Ceilings below it are not divided by.

    Returns
    -------
    array, shape (..., voxel)
        ``r / sqrt(ceiling)``; NaN where the ceiling is NaN or below the floor. Never clipped.

    References
    ----------
    Hsu, Borst & Theunissen (2004). Quantifying variability in neural responses and its application for the validation
    of model predictions. Network 15(2), 91-109. Schoppe et al. (2016).
    """
    scores, usable = _usable(r, ceiling, floor)
    return scores / np.sqrt(usable)


def _usable(scores: ArrayLike, ceiling: ArrayLike, floor: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, limit = np.asarray(scores, dtype=np.float64), np.asarray(ceiling, dtype=np.float64)
    if values.shape[values.ndim - limit.ndim :] != limit.shape:
        raise InputError(
            "scores and noise ceilings do not fit each other",
            given=f"shapes {values.shape} and {limit.shape}",
            expected="(..., voxel) and (voxel,)",
        )
    if not 0 < floor < 1:
        raise InputError("a floor of noise ceilings lies between 0 and 1", given=floor, expected="e.g. 0.05")
    with np.errstate(invalid="ignore"):
        return values, np.where(limit >= floor, limit, np.nan)
