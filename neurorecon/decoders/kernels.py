"""Kernels of bands of features: delays, scaling, and computation in blocks."""

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
    """Concatenate delayed copies of features, so that a linear model can fit the hemodynamic response.

    The copy at delay d contains the features d volumes before in the same run, and zeros before the start of the run.
    Output columns are all features at the first delay, then all features at the second delay, and so on. Center the
    features first, so that zeros are neutral.

    Parameters
    ----------
    delays : sequence of int or float
        Delays in volumes, or in seconds if `repetition_time` is given. Use negative delays for decoding.
    repetition_time : float, optional
        Repetition time (s). Delays are rounded to whole volumes.

    Attributes
    ----------
    delays_ : int array, shape (delay,)
        Delays in volumes.
    n_features_in_ : int
        Number of input features.

    Notes
    -----
    Equivalent to the `Delayer` in the voxelwise modeling tutorials of the Gallant lab, except that it separates runs.
    For features too wide to copy, compute their kernel and use :func:`delayed_kernel`.

    Examples
    --------
    >>> from neurorecon.decoders import Delayer
    >>> Delayer(delays=(0, 1)).fit_transform([[1.0], [2.0], [3.0]]).tolist()
    [[1.0, 0.0], [2.0, 1.0], [3.0, 2.0]]
    """

    def __init__(self, delays: Any = (1, 2, 3, 4), *, repetition_time: float | None = None) -> None:
        self.delays = delays
        self.repetition_time = repetition_time

    def fit(self, X: ArrayLike, y: Any = None) -> Delayer:
        """Store the number of features and the delays in volumes.

        Parameters
        ----------
        X : array, shape (sample, feature)
            Features.
        y : None
            Ignored.

        Returns
        -------
        Delayer
            The fitted transformer.

        Raises
        ------
        InputError
            If features are not finite, or the delays are invalid.
        """
        self._check(X, reset=True)
        self.delays_ = delays_in_volumes(self.delays, self.repetition_time)
        return self

    def transform(self, X: ArrayLike, runs: ArrayLike | None = None, volumes: ArrayLike | None = None) -> NDArray:
        """Concatenate features at all delays.

        Parameters
        ----------
        X : array, shape (sample, feature)
            Features.
        runs, volumes : array, shape (sample,), optional
            See :func:`rows_at_delays`.

        Returns
        -------
        array, shape (sample, delay x feature)
            Delayed features.
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
        """Return the columns of each band in the delayed features.

        Parameters
        ----------
        bands : dict, sequence or None
            Bands of the input features; see :class:`neurorecon.decoders.BandedRidge`.

        Returns
        -------
        dict of str to int array
            Column indices of each band.
        """
        check_is_fitted(self)
        width = self.n_features_in_
        copies = np.arange(len(self.delays_))[:, None] * width
        return {name: (copies + columns).ravel() for name, columns in resolve_bands(bands, width).items()}

    def by_delay(self, weights: ArrayLike) -> NDArray:
        """Reshape weights of delayed features, (delay x feature, ...), to (delay, feature, ...)."""
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
            raise InputError(str(error), todo="pass finite numbers of shape (sample, feature)") from error


def delays_in_volumes(delays: ArrayLike, repetition_time: float | None = None) -> NDArray[np.int64]:
    """Convert delays to whole volumes.

    Parameters
    ----------
    delays : sequence of int or float
        Delays in volumes, or in seconds if `repetition_time` is given.
    repetition_time : float, optional
        Repetition time (s).

    Returns
    -------
    int array, shape (delay,)

    Raises
    ------
    InputError
        If there are no delays, delays in volumes are not integers, or two delays are the same volume.
    """
    values = np.atleast_1d(np.asarray(delays, dtype=np.float64))
    if repetition_time is not None:
        if not repetition_time > 0:
            raise InputError("the repetition time must be positive", given=f"repetition_time={repetition_time!r}")
        values = values / repetition_time
    steps = np.rint(values)
    whole = repetition_time is not None or np.array_equal(steps, values)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all() or not whole:
        raise InputError(
            "these delays cannot be used",
            given=repr(delays),
            expected="one or more whole numbers of volumes",
            todo="pass repetition_time (s) if the delays are in seconds",
        )
    if len(np.unique(steps)) < len(steps):
        raise InputError(
            "two delays are the same volume",
            given=f"delays of {steps.astype(int).tolist()} volumes",
            expected="unique delays",
        )
    return steps.astype(np.int64)


def rows_at_delays(
    n_samples: int, delays: Sequence[int] | NDArray, runs: ArrayLike | None = None, volumes: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Return the index of the sample each delay before, in the same run; -1 for none.

    Parameters
    ----------
    n_samples : int
        Number of samples.
    delays : sequence of int
        Delays in volumes.
    runs : array, shape (sample,), optional
        Run of each sample. Labels must differ between sessions. By default, all samples are one run.
    volumes : int array, shape (sample,), optional
        Volume number of each sample in its run, needed if volumes (e.g. of rest) are missing. By default, the samples
        of a run are consecutive volumes.

    Returns
    -------
    int array, shape (delay, sample)

    Raises
    ------
    InputError
        If shapes do not match, or two samples of a run are the same volume.
    """
    labels = _codes(np.zeros(n_samples) if runs is None else runs, n_samples, "runs")
    if volumes is None:
        begins = np.flatnonzero(np.diff(labels, prepend=-1))
        if len(begins) > len(np.unique(labels)):
            raise InputError(
                "samples of one run are not consecutive, so delays cannot be counted",
                given=f"{len(np.unique(labels))} labels of runs in {len(begins)} stretches",
                expected="consecutive samples of each run, and a unique label for each run",
                todo="use different run labels in each session, or pass volumes",
            )
        numbers = np.arange(n_samples) - np.repeat(begins, np.diff([*begins, n_samples]))
    else:
        numbers = np.asarray(volumes)
        if numbers.shape != (n_samples,) or not np.array_equal(numbers, np.rint(numbers)):
            raise InputError("`volumes` needs one whole number for each sample", given=f"shape {numbers.shape}")
        numbers = numbers.astype(np.int64) - int(numbers.min(initial=0))
    steps = np.asarray(delays, dtype=np.int64)
    # Encode run and volume in one number, with runs so far apart that no delay leads to another run.
    apart = int(numbers.max(initial=0)) + 2 * int(np.abs(steps).max(initial=0)) + 1
    keys = labels * apart + numbers
    order = np.argsort(keys, kind="stable")
    known = keys[order]
    if (np.diff(known) == 0).any():
        raise InputError(
            "two samples of one run are the same volume",
            given=f"{int((np.diff(known) == 0).sum())} such pairs",
            expected="one sample for each volume, and a unique label for each run",
        )
    wanted = keys - steps[:, None]
    places = np.minimum(np.searchsorted(known, wanted), max(n_samples - 1, 0))
    return np.where(known[places] == wanted, order[places], -1)


def delayed_kernel(gram: NDArray, rows: NDArray, columns: NDArray) -> NDArray[np.float64]:
    """Return the kernel of delayed features from the kernel of the features.

    Parameters
    ----------
    gram : array, shape (row_stimulus, column_stimulus)
        Kernel between stimuli (or samples).
    rows, columns : int array, shape (delay, sample)
        Index of the stimulus (or sample) at each delay of each sample, e.g. from :func:`rows_at_delays`; -1 for none,
        whose features are 0.

    Returns
    -------
    array, shape (sample, sample)
        Kernel of the concatenated delayed features.
    """
    padded = np.pad(gram, ((0, 1), (0, 1)))  # index -1 selects a row or column of zeros
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


#: Maximum number of values in temporary copies: 64 MB in double precision.
_TEMPORARY_VALUES = 2**23


@dataclass(frozen=True)
class KernelScaling:
    """Centering and scaling of kernels, fitted to the training kernels.

    Centering a kernel, ``K - rows - columns + mean``, is equivalent to subtracting the training mean from each feature.
    Kernels are then divided by their mean centered diagonal. The summed variance over the features of each band is then
    1, whatever their number and units, so that equal weights mean equal prior variance. Targets are not used.

    Parameters
    ----------
    rows : array, shape (band, train)
        Mean of each column of the raw training kernels.
    means : array, shape (band,)
        Mean of all entries of the raw training kernels.
    scales : array, shape (band,)
        Mean of the diagonal after centering; infinite for bands without variance.
    """

    rows: NDArray[np.float64]
    means: NDArray[np.float64]
    scales: NDArray[np.float64]

    @classmethod
    def fit(cls, kernels: Sequence[NDArray], center: bool) -> KernelScaling:
        """Fit to raw training kernels, each (train, train)."""
        raw = np.stack([np.diagonal(kernel).astype(np.float64) for kernel in kernels])
        rows = np.zeros(raw.shape)
        if center:
            rows = np.stack([kernel.mean(axis=0, dtype=np.float64) for kernel in kernels])
        means = rows.mean(axis=1)
        diagonals = (raw - 2 * rows + means[:, None]).mean(axis=1)
        # The centered kernel of constant features contains only rounding errors, which must not be amplified.
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
    """Yield slices of rows whose temporary copies take at most 64 MB."""
    step = max(1, _TEMPORARY_VALUES // max(1, kernel.shape[1]))
    for start in range(0, len(kernel), step):
        yield slice(start, start + step)


def resolve_bands(bands: Any, n_features: int) -> dict[str, NDArray[np.int64]]:
    """Return the columns of each band.

    Parameters
    ----------
    bands : dict of str to slice or int or bool array, or sequence of one label per feature, or None
        Bands. None means one band of all features.
    n_features : int
        Number of features.

    Returns
    -------
    dict of str to int array
        Columns of each band, in the given order; for labels, in order of first appearance.

    Raises
    ------
    InputError
        If a band is empty or contains columns that do not exist, or a column is not in exactly one band.
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
                    f"the band {str(name)!r} contains features that do not exist",
                    given=repr(part),
                    expected=f"a slice or indices of {n_features} features",
                ) from error
    else:
        labels = np.asarray(bands).astype(str)
        if labels.shape != (n_features,):
            raise InputError(
                "`bands` does not match the features",
                given=f"{labels.shape[0] if labels.ndim else 0} labels, {n_features} features",
                expected="one label for each feature, or a dict of str to slice",
            )
        columns = {name: np.flatnonzero(labels == name) for name in dict.fromkeys(labels.tolist())}
    used = sum((np.bincount(part.ravel(), minlength=n_features) for part in columns.values()), 0 * everything)
    empty = [name for name, part in columns.items() if not len(part)]
    if (used != 1).any() or empty:
        shared = ", ".join(f"{one} and {other} share {number}" for one, other, number in overlaps(columns))
        raise InputError(
            "each feature must be in exactly one band, and each band needs features",
            given=f"{int((used > 1).sum())} features in several bands{f' ({shared})' if shared else ''}, "
            f"{int((used == 0).sum())} in none, empty bands: {empty}",
            expected=f"bands that partition the {n_features} features",
            todo="drop unused columns of X, or assign them to a band",
        )
    return columns


def overlaps(columns: Mapping[str, NDArray]) -> list[tuple[str, str, int]]:
    """Return pairs of bands that share columns, and the number of shared columns."""
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
    """Return ``KernelScaling.scales`` from features: the variance of each band, summed over its features."""
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
    """Check the kernel of each band, (sample, train); without `n_train`, they must be square and symmetric."""
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
    """Return the names of the bands, or None if there are none."""
    return [str(name) for name in kernels] if isinstance(kernels, Mapping) else None


#: Default number of values in a block of features: 64 MB in single precision.
_BLOCK_VALUES = 2**24


def kernels_by_block(
    train: Mapping[str, Any],
    new: Mapping[str, Any] | None = None,
    *,
    feature_block: int | None = None,
    standardize: bool = False,
    dtype: str = "float32",
) -> tuple[dict[str, NDArray], dict[str, NDArray] | None]:
    """Compute the linear kernel of each band, with one block of features in memory at a time.

    Features are centered by their training mean in each block, so single precision is sufficient even for features far
    from zero. Pass the kernels to :class:`neurorecon.decoders.BandedRidge` unchanged.

    Parameters
    ----------
    train : mapping of str to array, shape (sample, ...)
        Features of each band: NumPy arrays, memory maps, or dask, xarray or Zarr arrays.
    new : mapping of str to array, shape (new_sample, ...), optional
        Features of held-out samples, with the same bands.
    feature_block : int, optional
        Number of features multiplied at once; by default as many as fit in 64 MB for the training samples.
    standardize : bool
        Divide features by their standard deviation over the training samples. Constant features are set to 0.
    dtype : {"float32", "float64"}
        Precision of the products and of the result.

    Returns
    -------
    train_kernels : dict of str to array, shape (sample, sample)
        Input of :meth:`neurorecon.decoders.BandedRidge.fit_kernels`.
    new_kernels : dict of str to array, shape (new_sample, sample), or None
        Input of :meth:`neurorecon.decoders.BandedRidge.predict_kernels`.

    Raises
    ------
    InputError
        If bands have different numbers of samples, `train` and `new` have different bands or features, or values are
        not finite.

    Notes
    -----
    Peak memory is that of the kernels, two blocks of features, and one product.
    """
    check_dtype(dtype)
    if new is not None and list(new) != list(train):
        raise InputError("the held-out features have different bands", given=list(new), expected=list(train))
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
            f"the band {name!r} has different features in the held-out samples",
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
    """Return standardized features; the mean is subtracted before rounding to `dtype`."""
    if np.dtype(dtype) == values.dtype == np.float32:
        # Split the mean into two parts, which keeps precision without copies in double precision.
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
    """Yield slices of columns, aligned with the chunks of lazy arrays if possible, so none is read twice."""
    chunks = getattr(features.array, "chunks", None)
    width = 1
    if chunks is not None and len(features.array.shape) == 2:
        # dask lists all chunks of an axis, Zarr the size of one.
        width = max(chunks[1]) if isinstance(chunks[1], tuple) else int(chunks[1])
    return features.blocks(block // max(1, width) * width or block)
