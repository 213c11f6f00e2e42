"""One factorization of the features that serves ridge regressions on any responses.

With centered features ``X = U S V'`` the predictions of ridge regression for new samples are ``T D U'Y``, where
``T`` holds the new samples' coordinates along the columns of ``V`` and ``D = S / (S ** 2 + alpha)`` is diagonal. Only
``U'Y`` depends on the responses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Samples of one side of a fold, or all of them.
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Factors:
    """What ridge regression needs of the features, in double precision.

    Parameters
    ----------
    u : array, shape (sample, component)
        Left singular vectors of the centered training features.
    singular_values : array, shape (component,)
        Singular values.
    test : array, shape (band, test_sample, component)
        Coordinates of new samples, the part that each band contributes.
    """

    u: NDArray[np.float64]
    singular_values: NDArray[np.float64]
    test: NDArray[np.float64]

    def shrinkage(self, alphas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``s / (s ** 2 + alpha)``, (component, alpha)."""
        s = self.singular_values[:, None]
        return s / (s**2 + alphas)


class FeatureSource:
    """Features of training and test samples, in bands.

    Parameters
    ----------
    train, test : array, shape (sample, feature) and (test_sample, feature)
        Features.
    columns : list of int array
        The features of each band.
    """

    def __init__(self, train: NDArray, test: NDArray, columns: list[NDArray[np.int64]]) -> None:
        self.train, self.test, self.columns = train, test, columns
        self.n_samples, self.n_test, self.n_bands = len(train), len(test), len(columns)

    def scales(self) -> NDArray[np.float64]:
        """Return the mean squared length of the centered samples in each band, (band,); infinite for constants."""
        scales = np.empty(len(self.columns))
        for number, columns in enumerate(self.columns):
            part = self.train[:, columns].astype(np.float64)
            scales[number] = part.var(axis=0).sum()
            rounding = np.finfo(np.float64).eps * (part**2).sum(axis=1).mean()
            scales[number] = scales[number] if scales[number] > rounding else np.inf
        return scales

    def is_repeated(self, labels: NDArray[np.int64]) -> bool:
        """Return whether all samples of a unit have the same features; `labels` numbers the unit of each, (sample,)."""
        first = np.unique(labels, return_index=True)[1]
        return bool((self.train == self.train[first[labels]]).all())

    def factors(self, weights: NDArray[np.float64], train: Rows | None = None, held_out: Rows | None = None) -> Factors:
        """Factorize.

        Parameters
        ----------
        weights : array, shape (band,)
            What the kernel of each band is multiplied by.
        train, held_out : int array, optional
            Training samples of a fold, and those it holds out; by default all, and the test samples.
        """
        roots = np.zeros(self.train.shape[1])
        for columns, weight in zip(self.columns, weights, strict=True):
            roots[columns] = np.sqrt(weight)
        used = np.flatnonzero(roots)
        x = (self.train if train is None else self.train[train])[:, used].astype(np.float64)
        new = (self.test if held_out is None else self.train[held_out])[:, used].astype(np.float64)
        mean = x.mean(axis=0)
        # Of features that do not vary only the rounding errors of their mean are left.
        rounding = 10 * np.finfo(np.float64).eps * np.abs(mean)
        scale = np.where(np.abs(x - mean).max(axis=0, initial=0) > rounding, roots[used], 0)
        x, new = (x - mean) * scale, (new - mean) * scale
        parts = [np.flatnonzero(np.isin(used, columns)) for columns in self.columns]
        if x.shape[0] > x.shape[1]:
            values, v = _eigen(x.T @ x, max(x.shape))
            u = (x @ v) / values
        else:
            values, u = _eigen(x @ x.T, max(x.shape))
            v = (x.T @ u) / values
        return Factors(u, values, np.stack([new[:, part] @ v[part] for part in parts]))


class KernelSource:
    """Kernels between training samples, and between test and training samples, one each band.

    Parameters
    ----------
    train : array, shape (band, sample, sample)
        Raw kernels ``X X'``.
    test : array, shape (band, test_sample, sample)
        The same between test and training samples.
    """

    def __init__(self, train: NDArray, test: NDArray) -> None:
        self.train, self.test = train, test
        self.n_bands, self.n_test, self.n_samples = test.shape

    def scales(self) -> NDArray[np.float64]:
        """Return the mean diagonal of the centered kernels, (band,); infinite for constant features."""
        scales = np.empty(len(self.train))
        for number, kernel in enumerate(self.train):
            diagonal = np.abs(np.diagonal(kernel).astype(np.float64)).mean()
            scale = np.diagonal(kernel).mean(dtype=np.float64) - kernel.mean(dtype=np.float64)
            rounding = np.finfo(kernel.dtype).eps * diagonal * len(kernel)
            scales[number] = scale if scale > rounding else np.inf
        return scales

    def is_repeated(self, labels: NDArray[np.int64]) -> bool:
        """Return whether all samples of a unit have the same features; see :meth:`FeatureSource.is_repeated`."""
        first = np.unique(labels, return_index=True)[1]
        # Products of equal rows may be added up in different orders.
        limits = [100 * np.finfo(kernel.dtype).eps * np.abs(kernel).max() for kernel in self.train]
        return all(
            bool((np.abs(kernel - kernel[first[labels]]) <= limit).all())
            for kernel, limit in zip(self.train, limits, strict=True)
        )

    def factors(self, weights: NDArray[np.float64], train: Rows | None = None, held_out: Rows | None = None) -> Factors:
        """Factorize; see :meth:`FeatureSource.factors`."""
        total, crossed = 0.0, []
        for kernel, test, weight in zip(self.train, self.test, weights, strict=True):
            within = (kernel if train is None else kernel[np.ix_(train, train)]) * np.float64(weight)
            rows = train if train is not None else np.arange(len(kernel))
            across = (test if held_out is None else kernel[np.ix_(held_out, rows)]) * np.float64(weight)
            columns = within.mean(axis=0)
            total = total + (within - columns - columns[:, None] + columns.mean())
            crossed.append(across - columns - across.mean(axis=1, keepdims=True) + columns.mean())
        values, u = _eigen(np.asarray(total), len(np.asarray(total)))
        return Factors(u, values, np.stack([part @ u / values for part in crossed]))


#: Whatever factorizes.
Source = FeatureSource | KernelSource


def _eigen(gram: NDArray, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return singular values, descending, and vectors; directions without variance are left out."""
    from scipy.linalg import eigh

    values, vectors = eigh(gram, driver="evd", check_finite=False)
    # Eigenvalues of a Gram matrix are exact to about `size` rounding errors of the largest one.
    rank = int((values > max(values[-1], 0) * size * np.finfo(np.float64).eps).sum()) if values[-1] > 0 else 0
    kept = slice(len(values) - rank, None)
    return np.sqrt(values[kept][::-1]), np.ascontiguousarray(vectors[:, kept][:, ::-1])
