"""Bootstrap confidence intervals over stimuli."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError


class Interval(NamedTuple):
    """A confidence interval.

    Parameters
    ----------
    low, high : array, shape (...)
        Limits of the interval.
    estimate : array, shape (...)
        Statistic of the original sample.
    standard_error : array, shape (...)
        Standard error; of a bootstrap, the standard deviation of the statistic over bootstrap samples.
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
    """Return a percentile bootstrap interval of a mean, or of any other statistic, over stimuli.

    Stimuli are resampled, so the interval generalizes to new stimuli, not to new trials of the same stimuli.

    Parameters
    ----------
    values : array, shape (stimulus, ...), or callable
        Values whose mean over stimuli is estimated; or a function ``f(indices) -> array (...)`` that returns the
        statistic of the stimuli at `indices`, an int array of shape (stimulus,) with repetitions.
    n_stimuli : int, optional
        Number of stimuli; required with a callable.
    n_bootstraps : int
        Number of bootstrap samples.
    level : float
        Confidence level, e.g. 0.95.
    seed : int
        Seed of the random number generator.
    block : int
        Number of consecutive stimuli drawn together (circular block bootstrap). Use more than 1 for time series,
        whose neighboring values are not independent.

    Returns
    -------
    Interval
        ``low``, ``high``, ``estimate``, ``standard_error``, each of shape (...).

    Raises
    ------
    InputError
        If `n_stimuli` is missing, values are not finite, or an option is out of range.

    References
    ----------
    Efron & Tibshirani (1993). An introduction to the bootstrap, chapter 13. Politis & Romano (1992). A circular
    block-resampling procedure for stationary data (series).

    Examples
    --------
    >>> import numpy as np
    >>> from neurorecon.stats import bootstrap_interval
    >>> found = bootstrap_interval(np.arange(10.0), seed=0)
    >>> float(found.estimate), bool(found.low < 4.5 < found.high)
    (4.5, True)
    """
    if callable(values):
        statistic = values
        if n_stimuli is None:
            raise InputError(
                "a callable does not say how many stimuli there are",
                expected="bootstrap_interval(statistic, n_stimuli=...)",
            )
    else:
        array = np.asarray(values, dtype=np.float64)
        n_stimuli = len(array)
        if not np.isfinite(array).all():
            raise InputError(
                "the mean of these values is not defined", given="NaN or infinite values", expected="finite values"
            )

        def statistic(indices: NDArray[np.int64]) -> NDArray[np.float64]:
            # A matrix product with counts is several times as fast as copying the drawn rows.
            counts = np.bincount(indices, minlength=len(array)).astype(np.float64)
            return np.tensordot(counts, array, axes=(0, 0)) / len(indices)

    drawn = bootstrap_draws(n_stimuli, n_bootstraps, seed, block)
    draws = np.stack([np.asarray(statistic(indices), dtype=np.float64) for indices in drawn])
    return interval_of(draws, np.asarray(statistic(np.arange(n_stimuli)), dtype=np.float64), level)


def bootstrap_draws(n_stimuli: int, n_bootstraps: int, seed: int, block: int = 1) -> NDArray[np.int64]:
    """Draw stimuli (or samples of a time series) with replacement.

    Parameters
    ----------
    n_stimuli, n_bootstraps, seed : int
        Number of stimuli, number of bootstrap samples, and seed.
    block : int
        Number of consecutive stimuli drawn together; blocks wrap around at the end.

    Returns
    -------
    int array, shape (bootstrap, stimulus)
        Indices of the stimuli drawn.
    """
    if n_stimuli < 2 or n_bootstraps < 1 or block < 1:
        raise InputError(
            "no interval can be computed",
            given=f"{n_stimuli} stimuli, {n_bootstraps} bootstraps, blocks of {block}",
            expected="at least two stimuli, one bootstrap, and blocks of one or more",
        )
    generator = np.random.default_rng(seed)
    length = min(block, n_stimuli)
    starts = generator.integers(0, n_stimuli, (n_bootstraps, -(-n_stimuli // length)))
    return ((starts[:, :, None] + np.arange(length)) % n_stimuli).reshape(n_bootstraps, -1)[:, :n_stimuli]


def bootstrap_weights(n_stimuli: int, n_bootstraps: int, seed: int, block: int = 1) -> NDArray[np.float32]:
    """Return how often each stimulus is drawn; sums over bootstrap samples are then a matrix product.

    Parameters
    ----------
    n_stimuli, n_bootstraps, seed, block : int
        See :func:`bootstrap_draws`.

    Returns
    -------
    array, shape (1 + bootstrap, stimulus)
        Counts. The first row, all ones, is the original sample.
    """
    drawn = bootstrap_draws(n_stimuli, n_bootstraps, seed, block)
    weights = np.zeros((n_bootstraps + 1, n_stimuli), dtype=np.float32)
    weights[0] = 1
    np.add.at(weights, (np.arange(1, n_bootstraps + 1)[:, None], drawn), 1)
    return weights


def bootstrap_means(values: ArrayLike, *, n_bootstraps: int = 10_000, seed: int = 0) -> NDArray[np.float64]:
    """Return the means of several columns of values over the same resampled stimuli.

    Because all columns see the same draws, the difference of two of them is a paired bootstrap.

    Parameters
    ----------
    values : array, shape (stimulus, column)
        NaN where a value is undefined; a mean is over the stimuli where it is defined.
    n_bootstraps, seed : int
        See :func:`bootstrap_draws`.

    Returns
    -------
    array, shape (1 + bootstrap, column)
        The first row is the original sample. NaN where no drawn stimulus has a value.
    """
    array = np.asarray(values, dtype=np.float64)
    defined = ~np.isnan(array)
    weights = bootstrap_weights(len(array), n_bootstraps, seed).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return (weights @ np.where(defined, array, 0.0)) / (weights @ defined)


def bootstrap_p(means: ArrayLike) -> NDArray[np.float64]:
    """Return one-sided p-values of means (or of paired differences) that are above 0.

    Parameters
    ----------
    means : array, shape (1 + bootstrap, ...)
        From :func:`bootstrap_means`.

    Returns
    -------
    array, shape (...)
        ``(1 + #{bootstrapped mean <= 0}) / (1 + B)``: the smallest level at which the one-sided percentile interval
        excludes 0. NaN where a mean is.

    References
    ----------
    Efron & Tibshirani (1993). An introduction to the bootstrap, section 15.4.

    Examples
    --------
    >>> from neurorecon.stats import bootstrap_p
    >>> float(bootstrap_p([0.25, 0.1, 0.2, 0.4, 0.3]))  # none of four bootstrapped means is below 0
    0.2
    """
    draws = np.asarray(means, dtype=np.float64)[1:]
    p = (1.0 + (draws <= 0).sum(axis=0)) / (1.0 + len(draws))
    return np.where(np.isnan(draws).any(axis=0), np.nan, p)


def interval_of(draws: NDArray[np.float64], estimate: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Return the percentile interval of bootstrapped statistics.

    Parameters
    ----------
    draws : array, shape (bootstrap, ...)
        Statistic of each bootstrap sample.
    estimate : array, shape (...)
        Statistic of the original sample.
    level : float
        Confidence level.

    Returns
    -------
    Interval
    """
    if not 0 < level < 1:
        raise InputError(
            "the confidence level must be between 0 and 1", given=f"level={level}", expected="e.g. level=0.95"
        )
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    spread = draws.std(axis=0, ddof=1) if len(draws) > 1 else np.full(low.shape, np.nan)
    return Interval(low, high, estimate, spread)
