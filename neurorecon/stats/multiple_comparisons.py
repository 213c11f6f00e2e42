"""Corrections for testing many voxels at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError


def false_discovery_rate(p: ArrayLike, q: float = 0.05) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Control the expected share of false discoveries (Benjamini & Hochberg, 1995).

    Parameters
    ----------
    p : array, shape (...)
        p-values. NaN stands for "not tested" and does not count as a test.
    q : float
        The rate to stay below.

    Returns
    -------
    rejected : bool array, shape (...)
        Where the null hypothesis is rejected; False where p is NaN.
    q_values : array, shape (...)
        The smallest rate at which each test would be rejected; NaN where p is NaN.

    Raises
    ------
    InputError
        Where a p-value lies outside 0 to 1, or `q` does not lie between them.

    References
    ----------
    Benjamini & Hochberg (1995). Controlling the false discovery rate. Journal of the Royal Statistical
    Society B 57(1), 289-300.
    """
    p = np.asarray(p, dtype=np.float64)
    tested = ~np.isnan(p)
    values = p[tested]
    if values.size and (values.min() < 0 or values.max() > 1):
        raise InputError("p-values lie between 0 and 1", given=f"values from {values.min():.3g} to {values.max():.3g}")
    if not 0 < q < 1:
        raise InputError("the false discovery rate lies between 0 and 1", given=q, expected="e.g. q=0.05")
    order = np.argsort(values, kind="stable")
    scaled = values[order] * values.size / np.arange(1, values.size + 1)
    # A test is rejected when any less significant one is: running minimum from the largest p-value down.
    adjusted = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    q_values = np.full(p.shape, np.nan)
    restored = np.empty_like(adjusted)
    restored[order] = adjusted
    q_values[tested] = restored
    with np.errstate(invalid="ignore"):
        return q_values <= q, q_values


def max_statistic_p(observed: ArrayLike, null_max: ArrayLike) -> NDArray[np.float64]:
    """Control the chance of any false discovery, from the largest statistic of each permutation.

    Parameters
    ----------
    observed : array, shape (...)
        The statistic of each voxel.
    null_max : array, shape (permutation,)
        Largest statistic over the same voxels in each permutation.

    Returns
    -------
    p : array, shape (...)
        ``(1 + #{null_max >= observed}) / (1 + B)``, corrected for the family of voxels; NaN stays NaN.

    References
    ----------
    Nichols & Holmes (2002). Nonparametric permutation tests for functional neuroimaging. Human Brain Mapping
    15(1), 1-25.
    """
    observed, null_max = np.asarray(observed, dtype=np.float64), np.asarray(null_max, dtype=np.float64)
    if null_max.ndim != 1 or not null_max.size or np.isnan(null_max).any():
        raise InputError(
            "the null distribution of the maximum needs one finite value for each permutation",
            given=f"shape {null_max.shape}, {int(np.isnan(null_max).sum())} NaN",
            expected="shape (permutation,)",
        )
    reached = null_max.size - np.searchsorted(np.sort(null_max), observed, side="left")
    return np.where(np.isnan(observed), np.nan, (1.0 + reached) / (1.0 + null_max.size))
