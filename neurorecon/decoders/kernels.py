"""Linear kernels of bands of features: computed, centered and scaled so that bands compete fairly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError


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
    def fit(cls, kernels: NDArray, center: bool) -> KernelScaling:
        """Measure raw training kernels, (band, train, train)."""
        n_bands, n_train, _ = kernels.shape
        rows = np.zeros((n_bands, n_train))
        if center:
            rows = kernels.mean(axis=1, dtype=np.float64)
        means = rows.mean(axis=1)
        raw = np.stack([np.diagonal(kernel).astype(np.float64) for kernel in kernels])
        diagonals = (raw - 2 * rows + means[:, None]).mean(axis=1)
        # A band of constant features has a centered kernel of rounding errors: leave it as that, do not blow
        # it up.
        rounding = np.finfo(kernels.dtype).eps * np.abs(raw).mean(axis=1) * n_train
        return cls(rows, means, np.where(diagonals > rounding, diagonals, np.inf))

    def apply(self, kernels: NDArray, dtype: str) -> NDArray:
        """Center and scale raw kernels, (band, sample, train)."""
        scaled = np.empty(kernels.shape, dtype=dtype)
        for number, kernel in enumerate(kernels):
            columns = 0.0
            if self.rows.any():
                columns = kernel.mean(axis=1, keepdims=True, dtype=np.float64)
            centered = kernel - self.rows[number] - columns + self.means[number]
            scaled[number] = centered / self.scales[number]
        return scaled


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
        raise InputError(
            "each feature has to be in one band, and each band needs features",
            given=f"{int((used > 1).sum())} features in several bands, {int((used == 0).sum())} in none, "
            f"empty bands: {empty}",
            expected=f"bands that share out {n_features} features",
            todo="leave out unused columns of X, or name a band for them",
        )
    return columns


def linear_kernels(x: NDArray, y: NDArray, columns: Sequence[NDArray], mean: NDArray) -> NDArray[np.float64]:
    """Return products of centered features, (band, x sample, y sample), in double precision."""
    kernels = np.empty((len(columns), len(x), len(y)))
    for kernel, part in zip(kernels, columns, strict=True):
        left = x[:, part].astype(np.float64) - mean[part]
        right = left if y is x else y[:, part].astype(np.float64) - mean[part]
        np.matmul(left, right.T, out=kernel)
    return kernels


def check_kernels(kernels: Any, n_train: int | None = None, n_bands: int | None = None) -> NDArray:
    """Return kernels as an array (band, sample, train); square and symmetric where `n_train` is None."""
    array = np.asarray(kernels)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    shape = array.shape
    fits = array.ndim == 3 and shape[0] == (n_bands or max(1, shape[0]))
    if not fits or shape[2] != (shape[1] if n_train is None else n_train):
        raise InputError(
            "the kernels have the wrong shape",
            given=f"shape {shape}",
            expected=f"({n_bands or 'band'}, sample, {n_train or 'sample'})",
        )
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise InputError("kernels contain NaN or infinity", given=f"{count} such values")
    if n_train is None:
        for number, kernel in enumerate(array):
            if not np.allclose(kernel, kernel.T, rtol=1e-3, atol=1e-4 * np.abs(kernel).max(initial=1e-30)):
                raise InputError("a training kernel is not symmetric", given=f"kernel {number}")
    return array


def as_mapping(kernels: ArrayLike | Mapping[str, ArrayLike]) -> tuple[list[str] | None, Any]:
    """Return names, where there are any, and kernels stacked along a band axis."""
    if isinstance(kernels, Mapping):
        return [str(name) for name in kernels], np.stack([np.asarray(kernel) for kernel in kernels.values()])
    return None, kernels
