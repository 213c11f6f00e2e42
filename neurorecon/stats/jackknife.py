"""Jackknife intervals of scores that are ratios of sums over samples, such as R2.

Trials are left out stimulus by stimulus. Volumes of a time series are left out in blocks that are several times as long
as their contributions stay correlated. Percentile block bootstraps of such series cover the true value in .48 to .89 of
cases where .95 is claimed; how often these intervals do is in docs/validation.md.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError
from neurorecon.stats.bootstrap import Interval

#: Blocks of a time series: how many correlation times long they are, and at least and at most how many there are.
BLOCK_TIMES, FEWEST_BLOCKS, MOST_BLOCKS = 6, 4, 20

#: Intervals of time series are long enough with so many runs, or so many volumes.
SURE_RUNS, SURE_VOLUMES = 4, 240


def jackknife_r2(gain: ArrayLike, energy: ArrayLike, runs: ArrayLike | None = None, *, level: float = 0.95) -> Interval:
    """Return an interval of R2 = sum(gain) / sum(energy) from what each sample contributes to both sums.

    For measured responses y (centered) and predictions f, energy is ``y ** 2`` and gain ``f * (2 * y - f)``; the gain
    of a band is ``f_band * (2 * y - f)``. The mean of several ratios (R2 of the voxels of an ROI) takes
    :func:`jackknife_interval`.

    Parameters
    ----------
    gain : array, shape (sample, ...)
        Contributions to the numerator.
    energy : array, shape (sample, ...)
        Contributions to the denominator; it has to broadcast against `gain`.
    runs : array, shape (sample,), optional
        Run of each volume of a time series, whose volumes are in order; None for trials.
    level : float
        Confidence level.

    Returns
    -------
    Interval
        Arrays of shape (...).

    Raises
    ------
    InputError
        If shapes do not match, there are fewer than two samples, or `level` is not between 0 and 1.
    """
    gains, energies = np.asarray(gain, dtype=np.float64), np.asarray(energy, dtype=np.float64)
    if gains.ndim < 1 or energies.ndim < 1 or len(gains) != len(energies):
        raise InputError(
            "contributions to the numerator and the denominator do not match",
            given=f"shapes {gains.shape} and {energies.shape}",
            expected="(sample, ...) for both, with the same number of samples",
        )
    total = energies.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = np.where(total > 0, gains.sum(axis=0) / total, np.nan)
        influence = (gains - r2 * energies) / total
    return jackknife_interval(np.moveaxis(influence, 0, -1), r2, runs, level=level)


def jackknife_interval(
    influence: ArrayLike, estimate: ArrayLike, runs: ArrayLike | None = None, *, level: float = 0.95
) -> Interval:
    """Return an interval from how much each sample moves an estimate.

    Parameters
    ----------
    influence : array, shape (..., sample)
        Influence of each sample; sums to 0. Of R2 it is ``(gain - R2 * energy) / sum(energy)``, of a mean of several R2
        the mean of their influences.
    estimate : array, shape (...)
        The estimates.
    runs, level
        As of :func:`jackknife_r2`.

    Returns
    -------
    Interval
        With the quantiles of Student's t for the number of blocks; NaN where an influence is.

    Raises
    ------
    InputError
        If shapes do not match, there are fewer than two samples, or `level` is not between 0 and 1.

    References
    ----------
    Kunsch (1989). The jackknife and the bootstrap for general stationary observations. Annals of Statistics 17(3).
    Ibragimov & Muller (2010). t-statistic based correlation and heterogeneity robust inference. Journal of Business
    & Economic Statistics 28(4).
    """
    moved, center = np.asarray(influence, dtype=np.float64), np.asarray(estimate, dtype=np.float64)
    if not 0 < level < 1:
        raise InputError(
            "the confidence level must be between 0 and 1", given=f"level={level}", expected="e.g. level=0.95"
        )
    if moved.ndim < 1 or moved.shape[:-1] != center.shape or moved.shape[-1] < 2:
        raise InputError(
            "no interval can be computed",
            given=f"influences {moved.shape} on estimates {center.shape}",
            expected="(..., sample) and (...), with two samples or more",
        )
    if runs is None:
        blocks = np.full(center.shape, moved.shape[-1])
        squares = (moved**2).sum(axis=-1)
    else:
        labels = np.unique(np.asarray(runs), return_inverse=True)[1]
        if labels.shape != moved.shape[-1:]:
            raise InputError(
                "runs and samples do not match",
                given=f"{labels.size} runs, {moved.shape[-1]} samples",
                expected="the run of each sample",
            )
        blocks, squares = _squares_of_blocks(moved, labels)
    errors = np.sqrt(squares * blocks / (blocks - 1))
    half = errors * np.vectorize(_student, otypes=[float])(blocks - 1, level)
    return Interval(center - half, center + half, center, errors)


def enough_for_intervals(runs: ArrayLike) -> bool:
    """Return whether a time series is long enough for intervals that cover as often as they claim, up to .02 or so.

    Parameters
    ----------
    runs : array, shape (sample,)
        Run of each volume.
    """
    labels = np.asarray(runs)
    return len(labels) >= SURE_VOLUMES or len(np.unique(labels)) >= SURE_RUNS


def _squares_of_blocks(influence: NDArray[np.float64], runs: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """Return the number of blocks and the sum of their squared sums, arrays (...)."""
    order = np.argsort(runs, kind="stable")
    rows, labels = influence[..., order], runs[order]
    lengths = np.bincount(labels)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    neighbors = np.flatnonzero(labels[1:] == labels[:-1])
    total = (rows**2).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        raw = np.nan_to_num((rows[..., neighbors] * rows[..., neighbors + 1]).sum(axis=-1) / total)
    length = lengths.mean()
    # The estimate of a short series is too low, by 1 / length and 4 phi / length (Marriott & Pope 1954).
    phi = np.clip((length * raw + 1) / max(length - 3, 1), 0, 0.98)
    wanted = np.maximum(BLOCK_TIMES * (1 + phi) / (1 - phi), rows.shape[-1] / MOST_BLOCKS)
    counts = np.maximum(1, (lengths / wanted[..., None]).astype(int))  # blocks of each run
    blocks, squares = np.empty(total.shape, dtype=int), np.empty(total.shape)
    kinds, kind = np.unique(counts.reshape(-1, len(lengths)), axis=0, return_inverse=True)
    for number, of_runs in enumerate(kinds):
        while of_runs.sum() < min(FEWEST_BLOCKS, rows.shape[-1]):
            of_runs[np.argmax(lengths / of_runs)] += 1
        edges = np.concatenate([
            start + np.arange(count) * size // count
            for start, count, size in zip(starts, of_runs, lengths, strict=True)
        ])  # fmt: skip
        here = (kind == number).reshape(total.shape)
        sums = np.add.reduceat(rows[here], edges, axis=-1)
        blocks[here], squares[here] = len(edges), (sums**2).sum(axis=-1)
    return blocks, squares


@functools.cache
def _student(freedom: int, level: float) -> float:
    """Return the two-sided quantile of Student's t."""
    from scipy.special import stdtrit  # here: importing scipy.stats takes half a second

    return float(stdtrit(freedom, 0.5 + level / 2))
