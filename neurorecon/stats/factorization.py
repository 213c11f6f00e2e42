"""Ridge regression from one factorization of the features: bands, devices, and the choice of alphas.

With centered features ``X = U S V'``, the ridge predictions for new samples are ``T D U'Y``. Here ``T`` holds the
coordinates of the new samples along the columns of ``V``, and ``D = S / (S ** 2 + alpha)`` is diagonal. Only ``U'Y``
depends on the responses, so that one factorization serves all alphas and, as in :mod:`neurorecon.stats.refit`, all
permutations of the responses.

The code uses only operators shared by NumPy and torch, so arrays can be of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.errors import UnknownNameError

#: Indices of samples, e.g. of one side of a fold.
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Factors:
    """Factorization of the features for ridge regression, in double precision.

    Parameters
    ----------
    u : array, shape (sample, component)
        Left singular vectors of the centered training features.
    singular_values : array, shape (component,)
        Singular values.
    test : array, shape (band, test_sample, component)
        Coordinates of test samples: the contribution of each band.
    """

    u: NDArray[np.float64]
    singular_values: NDArray[np.float64]
    test: NDArray[np.float64]

    def shrinkage(self, alphas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``s / (s ** 2 + alpha)``, (component, alpha)."""
        s = self.singular_values[:, None]
        return s / (s**2 + alphas)


class FeatureSource:
    """Features of training and test samples, split into bands.

    Parameters
    ----------
    train, test : array, shape (sample, feature) and (test_sample, feature)
        Features.
    columns : list of int array
        Indices of the features of each band.
    """

    def __init__(self, train: NDArray, test: NDArray, columns: list[NDArray[np.int64]]) -> None:
        self.train, self.test, self.columns = train, test, columns
        self.n_samples, self.n_test, self.n_bands = len(train), len(test), len(columns)

    def scales(self) -> NDArray[np.float64]:
        """Return the mean squared norm of the centered samples in each band, (band,); infinite if constant."""
        scales = np.empty(len(self.columns))
        for number, columns in enumerate(self.columns):
            part = self.train[:, columns].astype(np.float64)
            scales[number] = part.var(axis=0).sum()
            rounding = np.finfo(np.float64).eps * (part**2).sum(axis=1).mean()
            scales[number] = scales[number] if scales[number] > rounding else np.inf
        return scales

    def is_repeated(self, labels: NDArray[np.int64]) -> bool:
        """Return whether all samples of a unit have the same features; `labels`, (sample,), are the units."""
        first = np.unique(labels, return_index=True)[1]
        return bool((self.train == self.train[first[labels]]).all())

    def factors(
        self, weights: NDArray[np.float64], train: Indices | None = None, held_out: Indices | None = None
    ) -> Factors:
        """Factorize the weighted features.

        Parameters
        ----------
        weights : array, shape (band,)
            Weight of the kernel of each band.
        train, held_out : int array, optional
            Training and held-out samples of a fold. By default, all training samples and the test samples.

        Returns
        -------
        Factors
        """
        roots = np.zeros(self.train.shape[1])
        for columns, weight in zip(self.columns, weights, strict=True):
            roots[columns] = np.sqrt(weight)
        used = np.flatnonzero(roots)
        x = (self.train if train is None else self.train[train])[:, used].astype(np.float64)
        new = (self.test if held_out is None else self.train[held_out])[:, used].astype(np.float64)
        mean = x.mean(axis=0)
        # Constant features leave nothing but the rounding errors of their mean.
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
    """Kernels of each band between training samples, and between test and training samples.

    Parameters
    ----------
    train : array, shape (band, sample, sample)
        Raw kernels ``X X'`` of the training samples.
    test : array, shape (band, test_sample, sample)
        Raw kernels between test and training samples.
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
        # Products of equal rows can differ in their order of summation.
        limits = [100 * np.finfo(kernel.dtype).eps * np.abs(kernel).max() for kernel in self.train]
        return all(
            bool((np.abs(kernel - kernel[first[labels]]) <= limit).all())
            for kernel, limit in zip(self.train, limits, strict=True)
        )

    def factors(
        self, weights: NDArray[np.float64], train: Indices | None = None, held_out: Indices | None = None
    ) -> Factors:
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


#: Sources of factorizations.
Source = FeatureSource | KernelSource


def _eigen(gram: NDArray, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return singular values in descending order and their vectors, without directions of zero variance."""
    from scipy.linalg import eigh

    values, vectors = eigh(gram, driver="evd", check_finite=False)
    # Eigenvalues of a Gram matrix are accurate to about `size` rounding errors of the largest one.
    largest = values[-1] if values.size else 0.0
    rank = int((values > largest * size * np.finfo(np.float64).eps).sum()) if largest > 0 else 0
    kept = slice(len(values) - rank, None)
    return np.sqrt(values[kept][::-1]), np.ascontiguousarray(vectors[:, kept][:, ::-1])


class Arrays:
    """Create arrays on a device, in a given precision.

    Parameters
    ----------
    device : str
        ``"cpu"`` computes with NumPy, ``"torch"`` with torch on the CPU, and ``"cuda"`` with torch on a GPU.
    dtype : {"float32", "float64"}
        Precision.
    """

    def __init__(self, device: str = "cpu", dtype: str = "float32") -> None:
        if str(dtype) not in ("float32", "float64"):
            raise UnknownNameError("precision", str(dtype), ("float32", "float64"))
        if device.split(":")[0] not in ("cpu", "torch", "cuda"):
            raise UnknownNameError("device", device, ("cpu", "torch", "cuda"))
        self.device, self.dtype = device, str(dtype)

    def put(self, array: NDArray, dtype: str | None = None) -> Any:
        """Return an array on the device."""
        values = np.ascontiguousarray(array, dtype=dtype or self.dtype)
        if self.device == "cpu":
            return values
        import torch

        # torch warns about read-only arrays, so copy those.
        return torch.from_numpy(values if values.flags.writeable else values.copy()).to(
            "cpu" if self.device == "torch" else self.device
        )

    def get(self, array: Any) -> NDArray:
        """Return a NumPy array."""
        return array if isinstance(array, np.ndarray) else array.cpu().numpy()


class GeneralizedCrossValidation:
    """Choose the alpha of each voxel by generalized cross-validation, from ``U'Y`` alone.

    The criterion is ``sum((y - Hy) ** 2) / trace(I - H) ** 2``, where the smoother ``H`` includes the intercept.
    :mod:`neurorecon.decoders.alphas` has a class of the same name, which also takes sample weights and streams blocks
    of targets. Both choose the same alphas.

    References
    ----------
    Golub, Heath & Wahba (1979). Generalized cross-validation as a method for choosing a good ridge parameter.
    Technometrics 21(2), 215-223.
    """

    def __init__(self, factors: Factors, alphas: NDArray[np.float64], arrays: Arrays) -> None:
        n_samples, n_components = factors.u.shape
        squared = factors.singular_values[:, None] ** 2
        left = alphas / (squared + alphas)
        self._outside = n_samples - 1 > n_components
        trace = n_samples - 1 - n_components + left.sum(axis=0)
        # Sums of residuals rather than differences, to avoid cancellation where alpha is small.
        self._arrays = arrays
        self._left = arrays.put((left**2 / trace**2).T)
        self._trace = arrays.put(1 / trace[:, None] ** 2)

    def choose(self, rows: Indices | None, y: Any, projected: Any, total: Any) -> tuple[Indices, NDArray]:
        """Return the index of the best alpha of each voxel and the value of the criterion there, both (voxel,).

        Values of different features, e.g. of several mixtures of bands, can be compared.

        Parameters
        ----------
        rows : int array, shape (sample,), optional
            Permutation of the samples of `y`; None for the observed order.
        y : array, shape (sample, voxel)
            Centered responses in the observed order.
        projected : array, shape (component, voxel)
            ``U'Y`` of the permuted responses.
        total : array, shape (voxel,)
            Sums of squares of the responses.
        """
        squared = projected * projected
        losses = self._left @ squared
        if self._outside:
            losses = losses + self._trace * (total - squared.sum(0)).clip(0)
        return _best(self._arrays.get(losses))


class KFold:
    """Choose the alpha of each voxel by the mean squared error on held-out samples, averaged over folds."""

    def __init__(
        self,
        folds: Sequence[tuple[Indices, Indices]],
        factors: Sequence[Factors],
        alphas: NDArray[np.float64],
        arrays: Arrays,
    ) -> None:
        self._folds = [(arrays.put(train, "int64"), arrays.put(held_out, "int64")) for train, held_out in folds]
        self._u = [arrays.put(part.u) for part in factors]
        self._test = [arrays.put(part.test.sum(axis=0)) for part in factors]
        self._shrinkage = [arrays.put(part.shrinkage(alphas)) for part in factors]
        self._n_alphas, self._arrays = len(alphas), arrays

    def choose(self, rows: Indices | None, y: Any, projected: Any, total: Any) -> tuple[Indices, NDArray]:
        """Return the best alphas and their errors; see :meth:`GeneralizedCrossValidation.choose`."""
        permuted = y if rows is None else y[self._arrays.put(rows, "int64")]
        errors: list[Any] = [0.0] * self._n_alphas
        for (train, held_out), u, test, shrinkage in zip(
            self._folds, self._u, self._test, self._shrinkage, strict=True
        ):
            measured = permuted[train]
            mean = measured.mean(0)
            coordinates = u.T @ measured
            true = permuted[held_out] - mean
            for number in range(self._n_alphas):
                residual = true - test @ (shrinkage[:, number : number + 1] * coordinates)
                errors[number] = errors[number] + (residual * residual).mean(0)
        return _best(np.stack([self._arrays.get(error) / len(self._folds) for error in errors]))


def _best(losses: NDArray) -> tuple[Indices, NDArray]:
    """Return which alpha has the lowest loss, and this loss, from (alpha, voxel)."""
    index = losses.argmin(axis=0)
    return index, np.take_along_axis(losses, index[None], axis=0)[0]
