"""Noise ceilings from repeats, and scores normalized by them.

All estimates assume that the response of a voxel is a signal that depends on the stimulus plus noise that is
independent between presentations. The *explainable variance* is the share of signal in the variance of a single
presentation. The *noise ceiling* is the share of signal in the variance of the mean of n presentations, which is the
R2 of a perfect model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError


def explainable_variance(repeats: ArrayLike, bias_correction: bool = True, zscore: bool = True) -> NDArray[np.float64]:
    """Return the explainable variance: the share of the variance of a single repeat that all repeats have in common.

    Parameters
    ----------
    repeats : array, shape (repeat, sample, voxel)
        Responses to repeated stimuli, e.g. to a video shown several times.
    bias_correction : bool
        Correct for the noise that remains in the mean over repeats. Without it, pure noise scores 1 / n_repeats.
    zscore : bool
        Standardize each repeat over samples first, as in the voxelwise modeling tutorials, so that changes of
        baseline and gain between runs do not count as noise.

    Returns
    -------
    explainable_variance : array, shape (voxel,)
        With bias correction, values scatter around 0 for voxels without signal. NaN if responses do not vary.

    Raises
    ------
    InputError
        If there are fewer than two repeats or two samples.

    References
    ----------
    Sahani & Linden (2003). How linear are auditory cortical responses? NIPS 15.
    Schoppe et al. (2016). Measuring the performance of neural models. Frontiers in Computational
    Neuroscience 10, 10. Dupre la Tour et al. (2025). The Voxelwise Encoding Model framework. Imaging
    Neuroscience 3.
    """
    data = np.asarray(repeats, dtype=np.float64)
    if data.ndim != 3 or data.shape[0] < 2 or data.shape[1] < 2:
        raise InputError(
            "explainable variance needs repeats",
            given=f"shape {data.shape}",
            expected="shape (repeat, sample, voxel) with at least 2 repeats and 2 samples",
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        if zscore:
            data = (data - data.mean(axis=1, keepdims=True)) / data.std(axis=1, keepdims=True)
        variance_of_repeats = data.var(axis=1, ddof=1).mean(axis=0)
        variance_of_mean = data.mean(axis=0).var(axis=0, ddof=1)
        explainable = np.where(variance_of_repeats > 0, variance_of_mean / variance_of_repeats, np.nan)
    if bias_correction:
        explainable = explainable - (1 - explainable) / (len(data) - 1)
    return explainable


@dataclass(frozen=True)
class VarianceComponents:
    """The variance of responses, split into signal and noise.

    Both are unbiased estimates, so the signal of a voxel that has none is as often below 0 as above.

    Parameters
    ----------
    signal : array, shape (voxel,)
        Variance over stimuli.
    noise : array, shape (voxel,)
        Variance of a single presentation of a stimulus.
    repeats : float
        Presentations of a stimulus in the data that they come from.
    freedom : (float, float)
        Degrees of freedom of the variance of the means of stimuli, and of the noise; infinite where they are known.
    """

    signal: NDArray[np.float64]
    noise: NDArray[np.float64]
    repeats: float = 1.0
    freedom: tuple[float, float] = (np.inf, np.inf)

    @property
    def ncsnr(self) -> NDArray[np.float64]:
        """Noise ceiling signal-to-noise ratio, the root of signal over noise, shape (voxel,); 0 without signal."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.signal > 0, np.sqrt(np.maximum(self.signal, 0) / self.noise), 0.0)

    def noise_ceiling(self, n_repeats: ArrayLike = 1) -> NDArray[np.float64]:
        """Return the noise ceiling: the R2 of a perfect model.

        The reciprocal of an estimated variance is too large on average, which would put the ceiling of noise below 0
        (by 2 / 17 for 20 stimuli shown twice). This is corrected to first order; for means of all repeats the result is
        exactly unbiased. Means over the voxels of an ROI are therefore the ceiling of the mean R2 of the ROI.

        Parameters
        ----------
        n_repeats : float or array, shape (stimulus,)
            Number of presentations averaged for each predicted response. If it differs between stimuli, pass an array.

        Returns
        -------
        noise_ceiling : array, shape (voxel,)
            At most 1. Not clipped: below 0 about as often as above in voxels without signal (unless more responses are
            averaged than the data has repeats; then at least 0). NaN if responses do not vary.
        """
        counts = np.asarray(n_repeats, dtype=np.float64)
        if not counts.size or not counts.min() >= 1:
            raise InputError(
                "each response must be the mean of at least one trial",
                given=f"n_repeats={n_repeats!r}",
                expected="1 or more",
            )
        left = np.mean(1.0 / counts)
        between, within = self.freedom
        more = left - 1 / self.repeats  # noise beyond that in the means of the repeats
        signal, noise = self.signal, self.noise
        if left * self.repeats < 0.9:  # fewer repeats than are averaged: the variance of such means could be below 0
            signal, between, within = np.maximum(signal, 0), np.inf, np.inf
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = signal + noise * left
            of_means, of_noise = (signal + noise / self.repeats) / variance, noise / variance
            bias = 2 * of_means**2 / between + 2 * more * of_noise * (more * of_noise - 1) / within
            return np.where(variance > 0, 1 - of_noise * left * (1 - bias), np.nan)


class RepeatVariance:
    """Split the variance of responses into signal and noise, from blocks of trials in any order.

    This is a random-effects analysis of variance of stimuli, after the mean of each session is removed (Henderson's
    third method). Stimuli may differ in their number of repeats and in the sessions that show them: where sessions show
    different stimuli, signal is what differs within a session. Memory holds one mean per voxel, repeated stimulus and
    session, whatever the number of trials.

    Parameters
    ----------
    stimuli : array, shape (sample,), optional
        Stimulus ids of all samples that will be added. If given, stimuli shown only once take no memory.

    References
    ----------
    Allen et al. (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial
    intelligence. Nature Neuroscience 25, 116-126 (noise ceiling signal-to-noise ratio).
    Searle, Casella & McCulloch (1992). Variance components, chapters 3 and 5 (unbalanced data).
    """

    def __init__(self, stimuli: ArrayLike | None = None) -> None:
        self._wanted: set | None = None
        if stimuli is not None:
            ids, counts = np.unique(np.asarray(stimuli), return_counts=True)
            self._wanted = set(ids[counts > 1].tolist())
        self._row: dict = {}  # of a stimulus in a session
        self._counts = np.zeros(0)
        self._means = np.zeros((0, 0))
        self._within: NDArray[np.float64] | None = None

    def update(self, responses: ArrayLike, stimulus: ArrayLike, session: ArrayLike | None = None) -> RepeatVariance:
        """Add a block of trials.

        Parameters
        ----------
        responses : array, shape (sample, voxel)
            Responses of some trials.
        stimulus : array, shape (sample,)
            Stimulus id of each trial.
        session : array, shape (sample,), optional
            Session of each trial; by default there is one.

        Returns
        -------
        RepeatVariance
            The object itself.

        Raises
        ------
        InputError
            If shapes do not match each other or earlier blocks.
        """
        block, ids = np.asarray(responses), np.asarray(stimulus)
        sessions = np.zeros(ids.shape, dtype=int) if session is None else np.asarray(session)
        if block.ndim != 2 or ids.shape != block.shape[:1] or sessions.shape != ids.shape:
            raise InputError(
                "responses, stimulus ids and sessions do not match",
                given=f"responses of shape {block.shape}, ids of shape {ids.shape}, sessions of {sessions.shape}",
                expected="(sample, voxel), (sample,) and (sample,)",
            )
        if self._within is None:
            self._within = np.zeros(block.shape[1])
            self._means = np.zeros((0, block.shape[1]))
        if block.shape[1] != len(self._within):
            raise InputError(
                "this block has another number of voxels than earlier blocks",
                given=block.shape[1],
                expected=len(self._within),
            )
        keys = list(zip(ids.tolist(), sessions.tolist(), strict=True))
        kept = [place for place, key in enumerate(keys) if self._wanted is None or key[0] in self._wanted]
        if not kept:
            return self
        for place in kept:
            self._row.setdefault(keys[place], len(self._row))
        added = len(self._row) - len(self._counts)
        self._counts = np.concatenate([self._counts, np.zeros(added)])
        self._means = np.concatenate([self._means, np.zeros((added, block.shape[1]))])
        rows, inverse = np.unique([self._row[keys[place]] for place in kept], return_inverse=True)
        # Chan, Golub & LeVeque's update: no sums of squares, hence no cancellation for responses far from 0.
        trials = block[kept].astype(np.float64)
        before, new = self._counts[rows, None], np.bincount(inverse)[:, None]
        means = _sums(trials, inverse, len(rows)) / new
        shift = means - self._means[rows]
        self._within += ((trials - means[inverse]) ** 2).sum(axis=0)
        self._within += (shift**2 * (before * new / (before + new))).sum(axis=0)
        self._means[rows] += shift * (new / (before + new))
        self._counts[rows] += new[:, 0]
        return self

    def components(self) -> VarianceComponents:
        """Return the variances of signal and noise.

        Raises
        ------
        InputError
            If there are too few repeats to tell signal from noise.
        """
        counts, means = self._counts, self._means
        stimulus, session = (_codes([key[axis] for key in self._row]) for axis in (0, 1))
        shown = np.bincount(stimulus, weights=counts)
        kept = shown[stimulus] > 1 if len(counts) else np.zeros(0, dtype=bool)
        counts, means, stimulus, session = counts[kept], means[kept], _codes(stimulus[kept]), _codes(session[kept])
        table = np.zeros((stimulus.max(initial=-1) + 1, session.max(initial=-1) + 1))
        table[stimulus, session] = counts
        of_stimuli, of_sessions, total = table.sum(axis=1), table.sum(axis=0), counts.sum()
        # Sums of squares that remain after the means of stimuli, of sessions, and of both are removed.
        gram = np.diag(of_sessions) - (table / of_stimuli[:, None]).T @ table if len(table) else np.zeros((0, 0))
        rank = int(np.linalg.matrix_rank(gram, hermitian=True)) if len(table) > 1 and len(gram) > 1 else 0
        between, within = len(table) + rank - len(gram), total - len(table) - rank
        if between < 1 or within < 1:
            raise InputError(
                "signal and noise cannot be separated without repeats",
                given=f"{len(table)} stimuli shown more than once, in {len(gram)} sessions",
                expected="at least two, and more than one in a session",
                todo="use a data set with repeats, or noise ceilings provided with the data",
            )
        assert self._within is not None
        weighted = counts[:, None] * means
        rest = means - (_sums(weighted, stimulus, len(table)) / of_stimuli[:, None])[stimulus]
        both = self._within + (counts[:, None] * rest**2).sum(axis=0)
        if rank:
            moved = _sums(counts[:, None] * rest, session, len(gram))
            both = both - np.einsum("sv,sv->v", moved, np.linalg.pinv(gram, hermitian=True) @ moved)
        rest = means - (_sums(weighted, session, len(gram)) / of_sessions[:, None])[session]
        alone = self._within + (counts[:, None] * rest**2).sum(axis=0)
        noise = np.maximum(both, 0) / within
        repeats = (total - ((table**2).sum(axis=0) / of_sessions).sum()) / between
        return VarianceComponents(((alone - both) / between - noise) / repeats, noise, repeats, (between, within))

    @property
    def noise_variance(self) -> NDArray[np.float64]:
        """Variance within stimuli and sessions, shape (voxel,)."""
        return self.components().noise

    @property
    def signal_variance(self) -> NDArray[np.float64]:
        """Variance between stimuli, corrected for noise and not clipped, shape (voxel,)."""
        return self.components().signal

    @property
    def ncsnr(self) -> NDArray[np.float64]:
        """Noise ceiling signal-to-noise ratio; see :attr:`VarianceComponents.ncsnr`."""
        return self.components().ncsnr

    def noise_ceiling(self, n_repeats: ArrayLike = 1) -> NDArray[np.float64]:
        """Return the noise ceiling; see :meth:`VarianceComponents.noise_ceiling`."""
        return self.components().noise_ceiling(n_repeats)


def _sums(values: NDArray[np.float64], groups: NDArray[np.int64], number: int) -> NDArray[np.float64]:
    """Return the sums of rows by group, (group, voxel)."""
    from scipy import sparse  # here, because `neurorecon info` must start quickly

    shape = (number, len(groups))
    return sparse.csr_array((np.ones(len(groups)), (groups, np.arange(len(groups)))), shape=shape) @ values


def _codes(labels: Sequence[Any] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number from 0 for each different label, in order of appearance."""
    known: dict[Any, int] = {}
    return np.array([known.setdefault(label, len(known)) for label in labels], dtype=np.int64)


def series_components(groups: Iterable[ArrayLike]) -> VarianceComponents:
    """Split the variance of time series into signal and noise.

    The mean of each run is removed. Neighboring volumes may be correlated, because the same volume is compared between
    runs; the correlation only lowers the degrees of freedom.

    Parameters
    ----------
    groups : iterable of array, shape (repeat, volume, voxel)
        Runs that show the same sequence, aligned; groups may differ in their numbers of repeats and volumes.

    Returns
    -------
    VarianceComponents

    Raises
    ------
    InputError
        If there is no group, or one has fewer than two repeats or three volumes.

    References
    ----------
    Sahani & Linden (2003). How linear are auditory cortical responses? NIPS 15. Bayley & Hammersley (1946). The
    effective number of independent observations in an autocorrelated time series. Supplement to the JRSS 8.
    """
    signal = noise = lagged = 0.0
    volumes, weight, left, longest = 0, 0, 0.0, 0
    for runs in groups:
        data = np.asarray(runs, dtype=np.float64)
        if data.ndim != 3 or data.shape[0] < 2 or data.shape[1] < 3:
            raise InputError(
                "the noise ceiling of a time series needs runs that repeat the same sequence",
                given=f"shape {data.shape}",
                expected="shape (repeat, volume, voxel) with at least 2 repeats and 3 volumes",
            )
        repeats, freedom = len(data), data.shape[1] - 1
        data = data - data.mean(axis=1, keepdims=True)
        mean = data.mean(axis=0)
        of_mean = (mean**2).sum(axis=0)
        noise = noise + ((data - mean) ** 2).sum(axis=(0, 1))
        signal = signal + of_mean
        lagged = lagged + (mean[1:] * mean[:-1]).sum(axis=0)
        volumes, weight, left = volumes + freedom, weight + (repeats - 1) * freedom, left + freedom / repeats
        longest = max(longest, data.shape[1])
    if not volumes:
        raise InputError("the noise ceiling of a time series needs repeats", given="no runs", expected="two or more")
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.nan_to_num(lagged / signal)
    # The mean of a run that was removed pulls the autocorrelation down (Marriott & Pope 1954).
    phi = np.clip((longest * correlation + 1) / max(longest - 3, 1), 0, 0.98)
    effective = float(np.mean((1 - phi**2) / (1 + phi**2)))
    noise, signal, left = noise / weight, signal / volumes, left / volumes
    return VarianceComponents(
        np.asarray(signal - noise * left),
        np.asarray(noise),
        1 / left,
        (max(volumes * effective, 3.0), max(weight * effective, 3.0)),
    )


def noise_ceiling_from_trials(
    responses: ArrayLike,
    stimulus: ArrayLike,
    n_repeats: ArrayLike = 1,
    block: int = 750,
    session: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Return the noise ceiling of each voxel from single trials.

    Parameters
    ----------
    responses : array, shape (sample, voxel)
        Single trials, as any array that can be sliced by samples (NumPy, Zarr, dask or xarray).
    stimulus : array, shape (sample,)
        Stimulus id of each trial.
    n_repeats : int or array, shape (stimulus,)
        Number of trials averaged for each predicted response.
    block : int
        Number of samples read at once.
    session : array, shape (sample,), optional
        Session of each trial, whose mean is removed; by default there is one.

    Returns
    -------
    noise_ceiling : array, shape (voxel,)
        In units of R2, not clipped. See :meth:`VarianceComponents.noise_ceiling`.

    Raises
    ------
    InputError
        If shapes do not match, or fewer than two stimuli are repeated.
    """
    ids = np.asarray(stimulus)
    sessions = np.zeros(ids.shape, dtype=int) if session is None else np.asarray(session)
    lazy = responses if hasattr(responses, "shape") else np.asarray(responses)
    if len(ids) != lazy.shape[0]:
        raise InputError(
            "responses and stimulus ids do not match",
            given=f"{lazy.shape[0]} samples, {len(ids)} ids",
            expected="one id for each sample",
        )
    variance = RepeatVariance(ids)
    for start in range(0, len(ids), block):
        stop = start + block
        variance.update(np.asarray(lazy[start:stop]), ids[start:stop], sessions[start:stop])  # type: ignore[index]
    return variance.noise_ceiling(n_repeats)


#: Ceilings below this are too uncertain to show for single voxels, or to divide by: the ratio would be amplified noise.
CEILING_FLOOR = 0.05


def shown_ceiling(ceiling: ArrayLike, floor: float = CEILING_FLOOR) -> NDArray[np.float64]:
    """Return the noise ceilings of single voxels as tables and maps show them: NaN below the floor.

    Parameters
    ----------
    ceiling : array, shape (voxel,)
        Noise ceilings, not clipped.
    floor : float
        Smallest ceiling to show.
    """
    values = np.asarray(ceiling, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(values >= floor, values, np.nan)


def mean_ceiling(ceiling: ArrayLike, voxels: ArrayLike | None = None) -> float:
    """Return the noise ceiling of an ROI: the mean over its voxels, which is the mean R2 of a perfect model.

    The ratio of summed variances would weight voxels by their variance, as the mean R2 does not: of an ROI where half
    of the voxels have a ceiling of .87 and the others none, it would be .71 for means of 10 repeats.

    Parameters
    ----------
    ceiling : array, shape (voxel,)
        Noise ceilings, not clipped: where pure noise is clipped, its mean is above 0.
    voxels : bool array, shape (voxel,), optional
        The voxels of the ROI; by default all.

    Returns
    -------
    float
        NaN if no voxel has a ceiling.
    """
    values = np.asarray(ceiling, dtype=np.float64)[... if voxels is None else np.asarray(voxels)]
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def normalize_r2(r2: ArrayLike, ceiling: ArrayLike, floor: float = CEILING_FLOOR) -> NDArray[np.float64]:
    """Normalize R2 by the noise ceiling.

    Parameters
    ----------
    r2 : array, shape (..., voxel)
        R2, or a part of it (split R2, unique variance).
    ceiling : array, shape (voxel,)
        Noise ceiling in units of R2: the R2 of a perfect model on the same responses.
    floor : float
        Smallest ceiling to divide by.

    Returns
    -------
    array, shape (..., voxel)
        ``r2 / ceiling``; NaN where the ceiling is NaN or below the floor. Not clipped: both are estimates, so values
        can be above 1 or below 0.

    Raises
    ------
    InputError
        If shapes do not match, or the floor is not between 0 and 1.

    References
    ----------
    Schoppe et al. (2016). Measuring the performance of neural models. Frontiers in Computational Neuroscience 10, 10.

    Examples
    --------
    >>> from neurorecon.stats import normalize_r2
    >>> normalize_r2([0.2, 0.1], [0.4, 0.01]).tolist()  # the second ceiling is too low to divide by
    [0.5, nan]
    """
    scores, usable = _usable(r2, ceiling, floor)
    return scores / usable


def normalize_correlation(r: ArrayLike, ceiling: ArrayLike, floor: float = CEILING_FLOOR) -> NDArray[np.float64]:
    """Normalize correlations by the correlation of a perfect model.

    Parameters
    ----------
    r : array, shape (..., voxel)
        Correlation of predicted and measured responses.
    ceiling : array, shape (voxel,)
        Noise ceiling in units of R2. Its square root is the correlation of a perfect model.
    floor : float
        Smallest ceiling to divide by.

    Returns
    -------
    array, shape (..., voxel)
        ``r / sqrt(ceiling)``; NaN where the ceiling is NaN or below the floor. Not clipped.

    Raises
    ------
    InputError
        If shapes do not match, or the floor is not between 0 and 1.

    References
    ----------
    Hsu, Borst & Theunissen (2004). Quantifying variability in neural responses and its application for the validation
    of model predictions. Network 15(2), 91-109. Schoppe et al. (2016).

    Examples
    --------
    >>> from neurorecon.stats import normalize_correlation
    >>> normalize_correlation([0.4], [0.64]).round(3).tolist()
    [0.5]
    """
    scores, usable = _usable(r, ceiling, floor)
    return scores / np.sqrt(usable)


def _usable(scores: ArrayLike, ceiling: ArrayLike, floor: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, limit = np.asarray(scores, dtype=np.float64), np.asarray(ceiling, dtype=np.float64)
    if values.shape[values.ndim - limit.ndim :] != limit.shape:
        raise InputError(
            "scores and noise ceilings do not match",
            given=f"shapes {values.shape} and {limit.shape}",
            expected="(..., voxel) and (voxel,)",
        )
    if not 0 < floor < 1:
        raise InputError("the floor of noise ceilings must be between 0 and 1", given=floor, expected="e.g. 0.05")
    with np.errstate(invalid="ignore"):
        return values, np.where(limit >= floor, limit, np.nan)
