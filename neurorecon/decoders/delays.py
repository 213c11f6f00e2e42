"""Features at several delays: a finite impulse response, inside runs, for time series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from neurorecon.decoders.banded.kernels import resolve_bands
from neurorecon.errors import InputError


class Delayer(TransformerMixin, BaseEstimator):
    """Copy features at several delays, side by side, so that a linear model can fit the hemodynamic response.

    A copy at delay d holds in each sample what the features were d volumes before in the same run, and zeros where
    the run had not begun. First come all features at the first delay, then all at the second. Features have to be
    centered before: zero stands for "nothing known".

    Parameters
    ----------
    delays : sequence of int or float
        In volumes, or in seconds where `repetition_time` is given. Negative ones look ahead, for decoding.
    repetition_time : float, optional
        Seconds from one volume to the next; delays are rounded to whole volumes.

    Attributes
    ----------
    delays_ : int array, shape (delay,)
        In volumes.
    n_features_in_ : int
        Number of features before.

    Notes
    -----
    The same as delays in the voxelwise modeling tutorials of the Gallant lab, which know no runs. Features too wide for
    copies: compute the kernel of the undelayed features and give it to :func:`delayed_kernel`.
    """

    def __init__(self, delays: Any = (1, 2, 3, 4), *, repetition_time: float | None = None) -> None:
        self.delays = delays
        self.repetition_time = repetition_time

    def fit(self, X: ArrayLike, y: Any = None) -> Delayer:
        """Learn the number of features.

        Parameters
        ----------
        X : array, shape (sample, feature)
            Features.
        y : None
            Ignored.

        Returns
        -------
        Delayer
            Itself.
        """
        self._check(X, reset=True)
        self.delays_ = delays_in_volumes(self.delays, self.repetition_time)
        return self

    def transform(self, X: ArrayLike, runs: ArrayLike | None = None, volumes: ArrayLike | None = None) -> NDArray:
        """Return features at all delays.

        Parameters
        ----------
        X : array, shape (sample, feature)
            Features.
        runs, volumes : array, shape (sample,), optional
            See :func:`rows_at_delays`.

        Returns
        -------
        array, shape (sample, delay x feature)
        """
        check_is_fitted(self)
        x = self._check(X, reset=False)
        rows = rows_at_delays(len(x), self.delays_, runs, volumes)
        delayed = np.zeros((len(rows), *x.shape), dtype=x.dtype)
        for copy, row in zip(delayed, rows, strict=True):
            copy[row >= 0] = x[row[row >= 0]]
        return np.ascontiguousarray(delayed.transpose(1, 0, 2)).reshape(len(x), -1)

    def fit_transform(
        self, X: ArrayLike, y: Any = None, runs: ArrayLike | None = None, volumes: ArrayLike | None = None
    ) -> NDArray:
        """Call :meth:`fit` and :meth:`transform`."""
        return self.fit(X).transform(X, runs, volumes)

    def bands(self, bands: Any) -> dict[str, NDArray[np.int64]]:
        """Return the columns of each band after the delays.

        Parameters
        ----------
        bands : dict, sequence or None
            Bands of the features before, as for :class:`neurorecon.decoders.BandedRidge`.

        Returns
        -------
        dict of str to int array
        """
        check_is_fitted(self)
        width = self.n_features_in_
        copies = np.arange(len(self.delays_))[:, None] * width
        return {name: (copies + columns).ravel() for name, columns in resolve_bands(bands, width).items()}

    def by_delay(self, weights: ArrayLike) -> NDArray:
        """Return weights of delayed features, (delay x feature, ...), as (delay, feature, ...)."""
        check_is_fitted(self)
        array = np.asarray(weights)
        if array.ndim == 0 or len(array) != len(self.delays_) * self.n_features_in_:
            raise InputError(
                "these are not weights of the delayed features",
                given=f"shape {array.shape}",
                expected=f"({len(self.delays_) * self.n_features_in_}, ...)",
            )
        return array.reshape(len(self.delays_), self.n_features_in_, *array.shape[1:])

    def _check(self, x: ArrayLike, *, reset: bool) -> NDArray:
        try:
            return validate_data(self, x, reset=reset, dtype=[np.float64, np.float32])
        except ValueError as error:
            raise InputError(str(error), todo="give finite numbers of shape (sample, feature)") from error


def delays_in_volumes(delays: ArrayLike, repetition_time: float | None = None) -> NDArray[np.int64]:
    """Return delays in whole volumes.

    Parameters
    ----------
    delays : sequence of int or float
        In volumes, or in seconds where `repetition_time` is given.
    repetition_time : float, optional
        Seconds from one volume to the next.

    Raises
    ------
    InputError
        Where there are none, they are no whole volumes, or two are the same.
    """
    values = np.atleast_1d(np.asarray(delays, dtype=np.float64))
    if repetition_time is not None:
        if not repetition_time > 0:
            raise InputError("volumes come at a positive interval", given=f"repetition_time={repetition_time!r}")
        values = values / repetition_time
    steps = np.rint(values)
    whole = repetition_time is not None or np.array_equal(steps, values)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all() or not whole:
        raise InputError(
            "these delays cannot be used",
            given=repr(delays),
            expected="one or more whole numbers of volumes",
            todo="give repetition_time (s) where the delays are in seconds",
        )
    if len(np.unique(steps)) < len(steps):
        raise InputError(
            "two delays are the same volume",
            given=f"delays of {steps.astype(int).tolist()} volumes",
            expected="each once",
        )
    return steps.astype(np.int64)


def rows_at_delays(
    n_samples: int, delays: Sequence[int] | NDArray, runs: ArrayLike | None = None, volumes: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Return which sample of the same run was taken so many volumes before; -1 for none.

    Parameters
    ----------
    n_samples : int
        Number of samples.
    delays : sequence of int
        In volumes.
    runs : array, shape (sample,), optional
        A label for each run, different in each session. By default all samples are one run.
    volumes : int array, shape (sample,), optional
        Number of each sample's volume in its run, where volumes (of rest) were left out; by default the samples of
        a run follow each other.

    Returns
    -------
    int array, shape (delay, sample)

    Raises
    ------
    InputError
        Where labels do not fit the samples, or two samples of a run are the same volume.
    """
    labels = _codes(np.zeros(n_samples) if runs is None else runs, n_samples, "runs")
    if volumes is None:
        begins = np.flatnonzero(np.diff(labels, prepend=-1))
        if len(begins) > len(np.unique(labels)):
            raise InputError(
                "samples of one run are apart from each other, so delays cannot be counted",
                given=f"{len(np.unique(labels))} labels of runs in {len(begins)} stretches",
                expected="the samples of each run one after the other, and a label for each run",
                todo="number runs on from session to session, or give the volume of each sample",
            )
        numbers = np.arange(n_samples) - np.repeat(begins, np.diff([*begins, n_samples]))
    else:
        numbers = np.asarray(volumes)
        if numbers.shape != (n_samples,) or not np.array_equal(numbers, np.rint(numbers)):
            raise InputError("`volumes` needs one whole number for each sample", given=f"shape {numbers.shape}")
        numbers = numbers.astype(np.int64) - int(numbers.min(initial=0))
    steps = np.asarray(delays, dtype=np.int64)
    # One number for run and volume; runs are so far apart that no delay leads from one to another.
    apart = int(numbers.max(initial=0)) + 2 * int(np.abs(steps).max(initial=0)) + 1
    keys = labels * apart + numbers
    order = np.argsort(keys, kind="stable")
    known = keys[order]
    if (np.diff(known) == 0).any():
        raise InputError(
            "two samples of one run are the same volume",
            given=f"{int((np.diff(known) == 0).sum())} such pairs",
            expected="one sample a volume, and a label for each run",
        )
    wanted = keys - steps[:, None]
    places = np.minimum(np.searchsorted(known, wanted), max(n_samples - 1, 0))
    return np.where(known[places] == wanted, order[places], -1)


def delayed_kernel(gram: NDArray, rows: NDArray, columns: NDArray) -> NDArray[np.float64]:
    """Return the kernel of features that are repeated at several delays, from products of the features themselves.

    Parameters
    ----------
    gram : array, shape (row_stimulus, column_stimulus)
        Products between the stimuli (or samples) of the rows and those of the columns.
    rows, columns : int array, shape (delay, sample)
        Which stimulus (or sample) each sample sees at each delay, e.g. from :func:`rows_at_delays`; -1 for none, whose
        features are 0.

    Returns
    -------
    array, shape (sample, sample)
        Equal to the product of the concatenated delayed features.
    """
    padded = np.pad(gram, ((0, 1), (0, 1)))  # -1 is the row and the column of zeros
    kernel = np.zeros((rows.shape[1], columns.shape[1]))
    for row, column in zip(rows, columns, strict=True):
        kernel += padded[np.ix_(row, column)]
    return kernel


def _codes(labels: ArrayLike, n_samples: int, name: str) -> NDArray[np.int64]:
    """Return a number for each label, in order of appearance."""
    values = np.asarray(labels)
    if values.shape != (n_samples,):
        raise InputError(
            f"`{name}` needs one label for each sample", given=f"shape {values.shape}", expected=f"({n_samples},)"
        )
    return np.unique(values, return_inverse=True)[1].astype(np.int64)
