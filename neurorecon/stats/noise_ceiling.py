"""Noise ceilings from repeats, and scores normalized by them.

All estimates assume that the response of a voxel is a signal that depends on the stimulus plus noise that is
independent between presentations. The *explainable variance* is the share of signal in the variance of a single
presentation. The *noise ceiling* is the share of signal in the variance of the mean of n presentations, which is the
R2 of a perfect model.
"""

from __future__ import annotations

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


class RepeatVariance:
    """Split the variance of responses into signal and noise, from blocks of trials in any order.

    This is a one-way random-effects analysis of variance; stimuli may differ in their number of repeats. Memory holds
    one mean per voxel and repeated stimulus, whatever the number of trials.

    Parameters
    ----------
    stimuli : array, shape (sample,), optional
        Stimulus ids of all samples that will be added. If given, stimuli shown only once take no memory.

    References
    ----------
    Allen et al. (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial
    intelligence. Nature Neuroscience 25, 116-126 (noise ceiling signal-to-noise ratio).
    Searle, Casella & McCulloch (1992). Variance components, chapter 3 (unbalanced data).
    """

    def __init__(self, stimuli: ArrayLike | None = None) -> None:
        self._wanted: set | None = None
        if stimuli is not None:
            ids, counts = np.unique(np.asarray(stimuli), return_counts=True)
            self._wanted = set(ids[counts > 1].tolist())
        self._row: dict = {}
        self._counts = np.zeros(0, dtype=np.int64)
        self._means = np.zeros((0, 0))
        self._within: NDArray[np.float64] | None = None

    def update(self, responses: ArrayLike, stimulus: ArrayLike) -> RepeatVariance:
        """Add a block of trials.

        Parameters
        ----------
        responses : array, shape (sample, voxel)
            Responses of some trials.
        stimulus : array, shape (sample,)
            Stimulus id of each trial.

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
        if block.ndim != 2 or ids.shape != block.shape[:1]:
            raise InputError(
                "responses and stimulus ids do not match",
                given=f"responses of shape {block.shape}, ids of shape {ids.shape}",
                expected="(sample, voxel) and (sample,)",
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
        names, inverse = np.unique(ids, return_inverse=True)
        for position, name in enumerate(names.tolist()):
            if self._wanted is None or name in self._wanted:
                self._add(name, block[inverse == position].astype(np.float64))
        return self

    def _add(self, name: object, trials: NDArray[np.float64]) -> None:
        # Chan, Golub & LeVeque's update: no sums of squares, hence no cancellation for responses far from 0.
        row = self._row.setdefault(name, len(self._row))
        if row >= len(self._counts):
            self._grow()
        count, new = self._counts[row], len(trials)
        mean = trials.mean(axis=0)
        shift = mean - self._means[row]
        assert self._within is not None
        self._within += ((trials - mean) ** 2).sum(axis=0) + shift**2 * (count * new / (count + new))
        self._means[row] += shift * (new / (count + new))
        self._counts[row] = count + new

    def _grow(self) -> None:
        size = max(64, 2 * len(self._counts)) if self._wanted is None else len(self._wanted)
        self._counts = np.concatenate([self._counts, np.zeros(size - len(self._counts), dtype=np.int64)])
        added = np.zeros((size - len(self._means), self._means.shape[1]))
        self._means = np.concatenate([self._means, added])

    def _repeated(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        rows = self._counts > 1
        if rows.sum() < 2:
            raise InputError(
                "signal and noise cannot be separated without repeats",
                given=f"{int(rows.sum())} stimuli shown more than once",
                expected="at least two",
                todo="use a data set with repeats, or noise ceilings provided with the data",
            )
        return self._counts[rows], self._means[rows]

    @property
    def noise_variance(self) -> NDArray[np.float64]:
        """Variance within stimuli, pooled over stimuli (ddof 1), shape (voxel,)."""
        counts, _ = self._repeated()
        assert self._within is not None
        return self._within / (counts.sum() - len(counts))

    @property
    def signal_variance(self) -> NDArray[np.float64]:
        """Variance between stimuli, corrected for noise and clipped at 0, shape (voxel,)."""
        counts, means = self._repeated()
        total = counts.sum()
        grand_mean = counts @ means / total
        between = counts @ (means - grand_mean) ** 2 / (len(counts) - 1)
        repeats = (total - (counts**2).sum() / total) / (len(counts) - 1)
        return np.maximum((between - self.noise_variance) / repeats, 0.0)

    @property
    def ncsnr(self) -> NDArray[np.float64]:
        """Noise ceiling signal-to-noise ratio, ``sqrt(signal_variance / noise_variance)``, shape (voxel,)."""
        signal, noise = self.signal_variance, self.noise_variance
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(signal > 0, np.sqrt(signal / noise), 0.0)

    def noise_ceiling(self, n_repeats: ArrayLike = 1) -> NDArray[np.float64]:
        """Return the noise ceiling: the R2 of a perfect model.

        Parameters
        ----------
        n_repeats : int or array, shape (stimulus,)
            Number of trials averaged for each predicted response. If it differs between stimuli, pass an array.

        Returns
        -------
        noise_ceiling : array, shape (voxel,)
            ``ncsnr ** 2 / (ncsnr ** 2 + mean(1 / n_repeats))``, from 0 to 1.
        """
        repeats = np.asarray(n_repeats, dtype=np.float64)
        if not repeats.size or repeats.min() < 1:
            raise InputError(
                "each response must be the mean of at least one trial",
                given=f"n_repeats={n_repeats!r}",
                expected="1 or more",
            )
        signal = self.signal_variance
        noise = self.noise_variance * np.mean(1.0 / repeats)
        with np.errstate(invalid="ignore"):
            return np.where(signal > 0, signal / (signal + noise), 0.0)


def noise_ceiling_from_trials(
    responses: ArrayLike, stimulus: ArrayLike, n_repeats: ArrayLike = 1, block: int = 750
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

    Returns
    -------
    noise_ceiling : array, shape (voxel,)
        In units of R2, from 0 to 1. See :class:`RepeatVariance`.

    Raises
    ------
    InputError
        If shapes do not match, or fewer than two stimuli are repeated.
    """
    ids = np.asarray(stimulus)
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
        variance.update(np.asarray(lazy[start:stop]), ids[start:stop])  # type: ignore[index]
    return variance.noise_ceiling(n_repeats)


#: Ceilings below this are too uncertain to divide by; the ratio would be amplified noise.
CEILING_FLOOR = 0.05


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
