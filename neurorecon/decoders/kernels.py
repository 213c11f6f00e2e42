"""Kernels of bands of features: standardized, delayed, and computed block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from neurorecon.decoders.targets import FlatColumns
from neurorecon.decoders.validation import check_dtype
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


#: Values of temporary copies: 64 MB in double precision.
_TEMPORARY_VALUES = 2**23


@dataclass(frozen=True)
class KernelScaling:
    """What centers and scales kernels as the training kernels were.

    Centering a kernel, ``K - rows - columns + mean``, is the same as subtracting the training mean from each
    feature. The scale is the mean of the centered diagonal (trace / sample): each band then has a variance
    of 1 summed over its features, however many those are and whatever their units, so that equal weights
    mean equal prior variance. It is computed without looking at the targets.

    Parameters
    ----------
    rows : array, shape (band, train)
        Mean of each column of the raw training kernels.
    means : array, shape (band,)
        Mean of all entries.
    scales : array, shape (band,)
        Mean of the diagonal after centering; 1 for bands without variance.
    """

    rows: NDArray[np.float64]
    means: NDArray[np.float64]
    scales: NDArray[np.float64]

    @classmethod
    def fit(cls, kernels: Sequence[NDArray], center: bool) -> KernelScaling:
        """Measure raw training kernels, each (train, train)."""
        raw = np.stack([np.diagonal(kernel).astype(np.float64) for kernel in kernels])
        rows = np.zeros(raw.shape)
        if center:
            rows = np.stack([kernel.mean(axis=0, dtype=np.float64) for kernel in kernels])
        means = rows.mean(axis=1)
        diagonals = (raw - 2 * rows + means[:, None]).mean(axis=1)
        # A band of constant features has a centered kernel of rounding errors: leave it as that, do not blow
        # it up.
        rounding = (
            np.array([np.finfo(kernel.dtype).eps for kernel in kernels]) * np.abs(raw).mean(axis=1) * raw.shape[1]
        )
        return cls(rows, means, np.where(diagonals > rounding, diagonals, np.inf))

    def apply(self, kernels: Sequence[NDArray], dtype: str) -> NDArray:
        """Center and scale raw kernels, each (sample, train), and stack them."""
        center = self.rows.any()
        scaled = np.empty((len(kernels), *kernels[0].shape), dtype=dtype)
        for number, kernel in enumerate(kernels):
            for block in row_blocks(kernel):
                part = kernel[block].astype(np.float64)
                if center:
                    part -= part.mean(axis=1, keepdims=True) + self.rows[number]
                    part += self.means[number]
                part /= self.scales[number]
                scaled[number, block] = part
        return scaled


def row_blocks(kernel: NDArray) -> Iterator[slice]:
    """Yield rows of which temporary copies take no more than 64 MB."""
    step = max(1, _TEMPORARY_VALUES // max(1, kernel.shape[1]))
    for start in range(0, len(kernel), step):
        yield slice(start, start + step)


def resolve_bands(bands: Any, n_features: int) -> dict[str, NDArray[np.int64]]:
    """Return the columns of each band.

    Parameters
    ----------
    bands : dict of str to slice or int or bool array, or sequence of one label per feature, or None
        None is one band of all features.
    n_features : int
        Number of features.

    Returns
    -------
    dict of str to int array
        In the order given, labels in order of first appearance.

    Raises
    ------
    InputError
        Where a band is empty, or names columns that are not there, or columns are in two bands or in none.
    """
    everything = np.arange(n_features)
    if bands is None:
        return {"all": everything}
    if isinstance(bands, Mapping):
        columns = {}
        for name, part in bands.items():
            try:
                columns[str(name)] = everything[part if isinstance(part, slice) else np.asarray(part)]
            except IndexError as error:
                raise InputError(
                    f"the band {str(name)!r} names features that are not there",
                    given=repr(part),
                    expected=f"a slice or indices of {n_features} features",
                ) from error
    else:
        labels = np.asarray(bands).astype(str)
        if labels.shape != (n_features,):
            raise InputError(
                "`bands` does not fit the features",
                given=f"{labels.shape[0] if labels.ndim else 0} labels, {n_features} features",
                expected="one label for each feature, or a dict of name to slice",
            )
        columns = {name: np.flatnonzero(labels == name) for name in dict.fromkeys(labels.tolist())}
    used = sum((np.bincount(part.ravel(), minlength=n_features) for part in columns.values()), 0 * everything)
    empty = [name for name, part in columns.items() if not len(part)]
    if (used != 1).any() or empty:
        shared = ", ".join(f"{one} and {other} share {number}" for one, other, number in overlaps(columns))
        raise InputError(
            "each feature has to be in one band, and each band needs features",
            given=f"{int((used > 1).sum())} features in several bands{f' ({shared})' if shared else ''}, "
            f"{int((used == 0).sum())} in none, empty bands: {empty}",
            expected=f"bands that share out {n_features} features",
            todo="leave out unused columns of X, or name a band for them",
        )
    return columns


def overlaps(columns: Mapping[str, NDArray]) -> list[tuple[str, str, int]]:
    """Return pairs of bands that have columns in common, and how many."""
    pairs = [(one, other, len(np.intersect1d(columns[one], columns[other]))) for one, other in combinations(columns, 2)]
    return [pair for pair in pairs if pair[2]]


def linear_kernels(x: NDArray, y: NDArray, columns: Sequence[NDArray], mean: NDArray) -> NDArray[np.float64]:
    """Return products of centered features, (band, x sample, y sample), in double precision."""
    kernels = np.empty((len(columns), len(x), len(y)))
    for kernel, part in zip(kernels, columns, strict=True):
        left = x[:, part].astype(np.float64) - mean[part]
        right = left if y is x else y[:, part].astype(np.float64) - mean[part]
        np.matmul(left, right.T, out=kernel)
    return kernels


def band_scales(x: NDArray, columns: Sequence[NDArray], mean: NDArray) -> NDArray[np.float64]:
    """Return the variance of each band summed over its features: ``KernelScaling.scales`` without the kernels."""
    variances = np.concatenate(
        [
            ((x[:, part] - mean[part]) ** 2).mean(axis=0, dtype=np.float64)
            for part in np.array_split(range(x.shape[1]), 8)
        ]
    )
    rounding = (np.finfo(x.dtype).eps * np.abs(mean)) ** 2 * len(x)
    kept = np.where(variances > rounding, variances, 0.0)
    return np.array([kept[part].sum() or np.inf for part in columns])


def check_kernels(kernels: Any, n_train: int | None = None, n_bands: int | None = None) -> list[NDArray]:
    """Return the kernel of each band, (sample, train); square and symmetric where `n_train` is None."""
    parts = list(kernels.values()) if isinstance(kernels, Mapping) else kernels
    arrays = [np.asarray(part) for part in parts] if isinstance(parts, list) or np.ndim(parts) == 3 else []
    shapes = {array.shape for array in arrays}
    shape = shapes.pop() if len(shapes) == 1 else ()
    if (
        len(shape) != 2
        or len(arrays) != (n_bands or len(arrays))
        or shape[1] != (shape[0] if n_train is None else n_train)
    ):
        raise InputError(
            "the kernels have the wrong shape",
            given=f"shapes {[array.shape for array in arrays] or np.shape(parts)}",
            expected=f"({n_bands or 'band'}, sample, {n_train or 'sample'})",
        )
    arrays = [array if array.dtype in (np.float32, np.float64) else array.astype(np.float64) for array in arrays]
    for number, array in enumerate(arrays):
        count = sum(int((~np.isfinite(array[block])).sum()) for block in row_blocks(array))
        if count:
            raise InputError("kernels contain NaN or infinity", given=f"{count} such values in kernel {number}")
        if n_train is None and not _symmetric(array):
            raise InputError("a training kernel is not symmetric", given=f"kernel {number}")
    return arrays


def _symmetric(kernel: NDArray) -> bool:
    largest = max((float(np.abs(kernel[block]).max(initial=1e-30)) for block in row_blocks(kernel)), default=0.0)
    return all(
        np.allclose(kernel[block], kernel[:, block].T, rtol=1e-3, atol=1e-4 * largest) for block in row_blocks(kernel)
    )


def kernel_names(kernels: ArrayLike | Mapping[str, ArrayLike]) -> list[str] | None:
    """Return the names of the bands, where there are any."""
    return [str(name) for name in kernels] if isinstance(kernels, Mapping) else None


#: Values of a block of features by default: 64 MB in single precision.
_BLOCK_VALUES = 2**24


def kernels_by_block(
    train: Mapping[str, Any],
    new: Mapping[str, Any] | None = None,
    *,
    feature_block: int | None = None,
    standardize: bool = False,
    dtype: str = "float32",
) -> tuple[dict[str, NDArray], dict[str, NDArray] | None]:
    """Return the linear kernel of each band, of which never more than a block of features is in memory.

    Features are centered by their training mean block by block, so that single precision is enough for features far
    from zero; :class:`neurorecon.decoders.BandedRidge` takes the kernels as they are.

    Parameters
    ----------
    train : mapping of str to array, shape (sample, ...)
        The features of each band: NumPy arrays, memory maps, or dask, xarray or Zarr arrays.
    new : mapping of str to array, shape (new_sample, ...), optional
        Features of held-out samples, the same bands.
    feature_block : int, optional
        Features multiplied at once; by default as many as fit into 64 MB for the training samples.
    standardize : bool
        Divide features by their standard deviation over the training samples; those that do not vary count as 0.
    dtype : {"float32", "float64"}
        Precision of the products and of the result.

    Returns
    -------
    train_kernels : dict of str to array, shape (sample, sample)
        For :meth:`neurorecon.decoders.BandedRidge.fit_kernels`.
    new_kernels : dict of str to array, shape (new_sample, sample), or None
        For :meth:`neurorecon.decoders.BandedRidge.predict_kernels`.

    Raises
    ------
    InputError
        Where bands do not have the same samples, a band of `new` has other features, or values are not finite.

    Notes
    -----
    Peak memory is that of the kernels, of two blocks of features and of one product.
    """
    check_dtype(dtype)
    if new is not None and list(new) != list(train):
        raise InputError("the held-out features have other bands", given=list(new), expected=list(train))
    bands = {str(name): _flat(features) for name, features in train.items()}
    others = None if new is None else {str(name): _flat(features) for name, features in new.items()}
    for part in (bands, others or {}):
        counts = {name: features.n_samples for name, features in part.items()}
        if len(set(counts.values())) > 1:
            raise InputError("bands have different numbers of samples", given=counts, expected="the same samples")
    within, across = {}, {}
    for name, features in bands.items():
        other = None if others is None else others[name]
        within[name], across[name] = _kernels(name, features, other, feature_block, standardize, dtype)
    return within, None if others is None else across


def _kernels(
    name: str,
    features: FlatColumns,
    others: FlatColumns | None,
    feature_block: int | None,
    standardize: bool,
    dtype: str,
) -> tuple[NDArray, NDArray]:
    """Return the kernels of one band."""
    n_samples = features.n_samples
    if others is not None and others.n_targets != features.n_targets:
        raise InputError(
            f"the band {name!r} has other features in the held-out samples",
            given=f"{others.n_targets} features",
            expected=f"{features.n_targets} features",
        )
    within = np.zeros((n_samples, n_samples), dtype=dtype)
    across = np.zeros((0 if others is None else others.n_samples, n_samples), dtype=dtype)
    block = feature_block or max(1, _BLOCK_VALUES // max(1, n_samples))
    for columns in _blocks(features, block):
        values = _read(features, columns, name)
        mean, spread = values.mean(axis=0, dtype=np.float64), np.ones(values.shape[1])
        if standardize:
            spread = values.std(axis=0, dtype=np.float64)
            rounding = 1e-6 if values.dtype == np.float32 else 1e-12
            spread = np.where(spread > rounding * np.abs(mean), spread, np.inf)
        part = _scaled(values, mean, spread, dtype)
        within += part @ part.T
        if others is not None:
            across += _scaled(_read(others, columns, name), mean, spread, dtype) @ part.T
    return within, across


def _scaled(values: NDArray, mean: NDArray, spread: NDArray, dtype: str) -> NDArray:
    """Return features less their mean and divided by their spread; subtracted before it is rounded."""
    if np.dtype(dtype) == values.dtype == np.float32:
        # The mean is split in two, so that single precision loses nothing of it, nor copies in double precision.
        high = mean.astype(np.float32)
        part = values - high
        part -= (mean - high).astype(np.float32)
    else:
        part = values - mean
    part /= spread.astype(part.dtype)
    return part.astype(dtype, copy=False)


def _read(features: FlatColumns, columns: slice, name: str) -> NDArray:
    values = np.asarray(features[columns])
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(
            f"the features of band {name!r} contain NaN or infinity",
            given=f"{int((~np.isfinite(values)).sum())} of features {columns.start} to {columns.stop - 1}",
        )
    return values


def _flat(features: Any) -> FlatColumns:
    """Return features as (sample, feature) without reading them."""
    if type(features).__module__.startswith("xarray"):
        features = features.data
    if isinstance(features, np.ndarray) or not all(hasattr(features, part) for part in ("shape", "dtype")):
        features = np.asarray(features)
    shape = tuple(int(size) for size in features.shape)
    if not shape:
        raise InputError("features need a sample axis", given="a single number", expected="shape (sample, ...)")
    return FlatColumns(features, shape[0], shape[1:])


def _blocks(features: FlatColumns, block: int) -> Iterator[slice]:
    """Yield columns, whole chunks of a lazy array where those are not larger than a block: none is read twice."""
    chunks = getattr(features.array, "chunks", None)
    width = 1
    if chunks is not None and len(features.array.shape) == 2:
        # dask says all chunks of an axis, Zarr the size of one.
        width = max(chunks[1]) if isinstance(chunks[1], tuple) else int(chunks[1])
    return features.blocks(block // max(1, width) * width or block)
