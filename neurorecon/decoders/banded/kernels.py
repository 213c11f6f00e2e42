"""Linear kernels of bands of features: computed, centered and scaled so that bands compete fairly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError

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
