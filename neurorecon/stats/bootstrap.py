"""Confidence intervals over stimuli."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError


class Interval(NamedTuple):
    """A bootstrap confidence interval.

    Parameters
    ----------
    low, high : array, shape (...)
        Ends of the interval.
    estimate : array, shape (...)
        The statistic of all stimuli.
    standard_error : array, shape (...)
        Standard deviation of the statistic over bootstraps.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    estimate: NDArray[np.float64]
    standard_error: NDArray[np.float64]


def bootstrap_interval(
    values: ArrayLike | Callable[[NDArray[np.int64]], ArrayLike],
    n_stimuli: int | None = None,
    *,
    n_bootstraps: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    block: int = 1,
) -> Interval:
    """Return the percentile bootstrap interval of a mean, or of any statistic, over stimuli.

    Stimuli are the unit that is drawn, so the interval speaks of new stimuli, not of new trials of the same
    ones.

    Parameters
    ----------
    values : array, shape (stimulus, ...), or callable
        One value for each stimulus, whose mean is estimated; or ``f(indices) -> array (...)``, the statistic
        of the stimuli at `indices`, an int array of shape (stimulus,) with repetitions.
    n_stimuli : int, optional
        How many stimuli there are; needed with a callable.
    n_bootstraps : int
        How often stimuli are drawn with replacement.
    level : float
        Coverage, e.g. 0.95.
    seed : int
        The same seed gives the same interval.
    block : int
        Draw stretches of so many neighbors (circular block bootstrap) where values are a time series, whose
        neighbors are not independent.

    Returns
    -------
    Interval
        ``low``, ``high``, ``estimate``, ``standard_error``, each of shape (...).

    References
    ----------
    Efron & Tibshirani (1993). An introduction to the bootstrap, chapter 13. Politis & Romano (1992). A circular
    block-resampling procedure for stationary data (series).
    """
    if callable(values):
        statistic = values
        if n_stimuli is None:
            raise InputError(
                "a statistic alone does not say how many stimuli there are",
                expected="bootstrap_interval(statistic, n_stimuli=...)",
            )
    else:
        array = np.asarray(values, dtype=np.float64)
        n_stimuli = len(array)
        if not np.isfinite(array).all():
            raise InputError("the mean of these values is not defined", given="NaN or infinite values")

        def statistic(indices: NDArray[np.int64]) -> NDArray[np.float64]:
            # Counts times values: a matrix product, several times as fast as copying the rows that were
            # drawn.
            counts = np.bincount(indices, minlength=len(array)).astype(np.float64)
            return np.tensordot(counts, array, axes=(0, 0)) / len(indices)

    drawn = bootstrap_draws(n_stimuli, n_bootstraps, seed, block)
    draws = np.stack([np.asarray(statistic(indices), dtype=np.float64) for indices in drawn])
    return interval_of(draws, np.asarray(statistic(np.arange(n_stimuli)), dtype=np.float64), level)


def bootstrap_draws(n_stimuli: int, n_bootstraps: int, seed: int, block: int = 1) -> NDArray[np.int64]:
    """Return which stimuli (or samples of a series) each bootstrap draws, with repetitions.

    Parameters
    ----------
    n_stimuli, n_bootstraps, seed : int
        How many are drawn, how often, and where the draws come from.
    block : int
        Length of the stretches of neighbors that are drawn together; the last is followed by the first.

    Returns
    -------
    int array, shape (bootstrap, stimulus)
    """
    if n_stimuli < 2 or n_bootstraps < 1 or block < 1:
        raise InputError(
            "no interval can be drawn",
            given=f"{n_stimuli} stimuli, {n_bootstraps} bootstraps, stretches of {block}",
            expected="at least two stimuli, one bootstrap and stretches of one or more",
        )
    generator = np.random.default_rng(seed)
    length = min(block, n_stimuli)
    starts = generator.integers(0, n_stimuli, (n_bootstraps, -(-n_stimuli // length)))
    return ((starts[:, :, None] + np.arange(length)) % n_stimuli).reshape(n_bootstraps, -1)[:, :n_stimuli]


def bootstrap_weights(n_stimuli: int, n_bootstraps: int, seed: int, block: int = 1) -> NDArray[np.float32]:
    """Return how often each stimulus is drawn, so that resampled sums are one matrix product.

    Parameters
    ----------
    n_stimuli, n_bootstraps, seed, block : int
        As for :func:`bootstrap_draws`.

    Returns
    -------
    array, shape (1 + bootstrap, stimulus)
        The first row is the sample itself, all ones.
    """
    drawn = bootstrap_draws(n_stimuli, n_bootstraps, seed, block)
    weights = np.zeros((n_bootstraps + 1, n_stimuli), dtype=np.float32)
    weights[0] = 1
    np.add.at(weights, (np.arange(1, n_bootstraps + 1)[:, None], drawn), 1)
    return weights


def interval_of(draws: NDArray[np.float64], estimate: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Return the percentile interval of bootstrapped statistics.

    Parameters
    ----------
    draws : array, shape (bootstrap, ...)
        The statistic of each bootstrap.
    estimate : array, shape (...)
        The statistic of all stimuli.
    level : float
        Coverage.
    """
    if not 0 < level < 1:
        raise InputError("no interval can be drawn", given=f"level {level}", expected="one between 0 and 1, as 0.95")
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    spread = draws.std(axis=0, ddof=1) if len(draws) > 1 else np.full(low.shape, np.nan)
    return Interval(low, high, estimate, spread)
