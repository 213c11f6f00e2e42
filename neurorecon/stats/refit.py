"""Permutation tests that refit the model, including its alphas, in every permutation.

The null hypothesis is that responses do not depend on which stimulus was shown. Training responses can then be
exchanged between stimuli, and the whole procedure (choice of alpha for each voxel, fit, and scores on the test set) is
repeated for each permutation.

With centered features ``X = U S V'``, the ridge predictions for test samples are ``T D U'Y``. Here ``T`` holds the
coordinates of the test samples along the columns of ``V``, and ``D = S / (S ** 2 + alpha)`` is diagonal. Only ``U'Y``
depends on the responses, and permuting the rows of Y is equivalent to permuting the rows of U. One factorization of the
features therefore serves all permutations, each of which costs one product ``U[order]' Y`` and a few smaller ones.

The code uses only operators shared by NumPy and torch, so arrays can be of either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats.permutation import PermutationCounter, UnitPermutations
from neurorecon.stats.prediction import GroupMeans, PermutationTest, gather, stack_bands, varies

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
    rank = int((values > max(values[-1], 0) * size * np.finfo(np.float64).eps).sum()) if values[-1] > 0 else 0
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
        self._left = arrays.put((left**2 / trace**2).T)
        self._trace = arrays.put(1 / trace[:, None] ** 2)

    def choose(self, rows: Indices | None, y: Any, projected: Any, total: Any) -> Any:
        """Return the index of the best alpha of each voxel, (voxel,).

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
        return losses.argmin(0)


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

    def choose(self, rows: Indices | None, y: Any, projected: Any, total: Any) -> Any:
        """Return the index of the best alpha of each voxel; see :meth:`GeneralizedCrossValidation.choose`."""
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
        stacked = self._arrays.get(errors[0])[None] if self._n_alphas == 1 else None
        if stacked is None:
            stacked = np.stack([self._arrays.get(error) for error in errors])
        return self._arrays.put(stacked.argmin(0), "int64")


class HeldOutScore:
    """Scores of the predictions ``T W`` for the test samples, computed in the coordinates of the regression.

    Parameters
    ----------
    test : array, shape (band, test_sample, component)
        Coordinates T.
    measured : array, shape (test_sample, voxel)
        Test responses.
    intercept : array, shape (voxel,)
        Mean of the training responses.
    statistic : {"r2", "correlation"}
        R2 about the mean of the test responses, or Pearson's correlation.
    arrays : Arrays
        Device and precision.
    """

    def __init__(
        self,
        test: NDArray[np.float64],
        measured: NDArray[np.float64],
        intercept: NDArray[np.float64],
        statistic: Literal["r2", "correlation"],
        arrays: Arrays,
    ) -> None:
        deviations = measured - measured.mean(axis=0)
        total = np.where(varies(measured), (deviations**2).sum(axis=0), np.nan)
        self._statistic = statistic
        if statistic == "r2":
            from_train = measured - intercept
            true = np.where(np.isnan(total), 0, from_train)
            self._constant = 1 - (true**2).sum(axis=0) / total
        else:
            test = test - test.mean(axis=1, keepdims=True)
            true = np.where(np.isnan(total), 0, deviations / np.sqrt(total))
            self._constant = np.zeros(len(total))
        # Predictions of smaller norm are constant up to rounding.
        self._smallest = np.finfo(arrays.dtype).tiny ** 0.5
        self._total, self._arrays = total, arrays
        basis, reduced = _reduce(test)
        self._test = [arrays.put(part) for part in reduced]
        self._true = arrays.put(true if basis is None else basis.T @ true)

    def __call__(self, weights: Any) -> NDArray:
        """Return the joint score and, with several bands, their shares by the product measure, (score, voxel)."""
        parts = [part @ weights for part in self._test]
        joint = sum(parts[1:], parts[0])
        against = 2 * self._true - joint if self._statistic == "r2" else self._true
        shares = np.stack([self._arrays.get((part * against).sum(0)) for part in parts]).astype(np.float64)
        if self._statistic == "r2":
            shares = shares / self._total
        else:
            norm = np.sqrt(self._arrays.get((joint * joint).sum(0)).astype(np.float64))
            shares = np.where(norm > self._smallest, shares / np.where(norm > self._smallest, norm, 1), 0)
            shares = np.where(np.isnan(self._total), np.nan, shares)
        scores = shares.sum(axis=0, keepdims=True) + self._constant
        return (scores if len(parts) == 1 else np.concatenate([scores, shares])).astype(self._arrays.dtype)


def _reduce(test: NDArray[np.float64]) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
    """Return an orthonormal basis of the predictions and coordinates in it, if that saves computation.

    Predictions for many samples lie in a space of as many dimensions as there are components; sums of their products
    need only coordinates in that space.
    """
    n_bands, n_samples, n_components = test.shape
    if n_samples <= n_bands * n_components or not n_components:
        return None, test
    basis, triangle = np.linalg.qr(np.concatenate(list(test), axis=1))
    return basis, np.stack(np.split(triangle, n_bands, axis=1))


def check_alphas(alphas: Any) -> NDArray[np.float64]:
    """Return candidate alphas as an array, (alpha,)."""
    try:
        values = np.atleast_1d(np.asarray(alphas, dtype=np.float64))
    except (TypeError, ValueError):  # text, or sequences of different lengths
        values = np.empty(0)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all() or values.min() <= 0:
        raise InputError(
            "alphas must be positive numbers",
            given=repr(alphas),
            expected="one or more numbers above 0",
            todo="choose others, e.g. np.logspace(0, 6, 7)",
        )
    return values


class Model:
    """A factorization and the block of voxels that it is repeatedly fitted to."""

    def __init__(
        self,
        source: Source,
        weights: NDArray[np.float64],
        alphas: NDArray[np.float64],
        folds: list[tuple[Indices, Indices]] | None,
        statistic: Literal["r2", "correlation"],
        arrays: Arrays,
        orders: UnitPermutations,
    ) -> None:
        factors = source.factors(weights)
        self._test, self._statistic, self._arrays, self._orders = factors.test, statistic, arrays, orders
        self._shrinkage = arrays.put(factors.shrinkage(alphas))
        self._search: GeneralizedCrossValidation | KFold | None = None
        if folds is not None and len(alphas) > 1:
            self._search = KFold(folds, [source.factors(weights, *fold) for fold in folds], alphas, arrays)
        elif len(alphas) > 1:
            self._search = GeneralizedCrossValidation(factors, alphas, arrays)
        # Repeats have the same features, hence the same rows in U, so U'Y only needs sums over repeats.
        self._summed = orders.repeats and not isinstance(self._search, KFold) and source.is_repeated(orders.labels)
        self._u = arrays.put(factors.u[orders.first] if self._summed else factors.u)

    def take(self, measured: NDArray[np.float64], held_out: NDArray[np.float64]) -> None:
        """Set the block of responses, (sample, voxel) and (test_sample, voxel)."""
        mean = measured.mean(axis=0)
        centered = np.where(varies(measured), measured - mean, 0)
        self._score = HeldOutScore(self._test, held_out, mean, self._statistic, self._arrays)
        self._total = self._arrays.put((centered**2).sum(axis=0))
        self._y = self._arrays.put(self._orders.sums(centered) if self._summed else centered)

    def scores(self, order: Indices | None) -> NDArray:
        """Fit with unit u replaced by ``order[u]`` (None: observed order), and return scores, (score, voxel)."""
        rows = None
        u = self._u
        if order is not None:
            rows = order if self._summed else self._orders.rows(order)
            back = np.empty_like(rows)
            back[rows] = np.arange(len(rows))
            u = u[self._arrays.put(back, "int64")]
        projected = u.T @ self._y
        if self._search is None:
            self.chosen = np.zeros(projected.shape[1], dtype=np.int64)
            return self._score(self._shrinkage * projected)
        index = self._search.choose(rows, self._y, projected, self._total)
        self.chosen = self._arrays.get(index)
        return self._score(self._shrinkage[:, index] * projected)


def band_columns(bands: Any, n_features: int) -> list[NDArray[np.int64]]:
    """Return the feature indices of each band; all features if there are no bands."""
    everything = np.arange(n_features)
    if bands is None:
        return [everything]
    columns = [everything[part if isinstance(part, slice) else np.asarray(part)] for part in bands.values()]
    used = np.bincount(np.concatenate(columns), minlength=n_features)
    if (used != 1).any():
        raise InputError(
            "each feature must be in exactly one band",
            given=f"{int((used > 1).sum())} features in several bands, {int((used == 0).sum())} in none",
            expected=f"bands that partition the {n_features} features",
        )
    return columns


def mixture_groups(
    mixtures: ArrayLike | None, source: Source, n_voxels: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Yield each distinct set of kernel weights, (band,), with its voxels."""
    n_bands = source.n_bands
    if mixtures is None:
        if n_bands > 1:
            raise InputError(
                "several bands need mixtures",
                given=f"{n_bands} bands and no mixtures",
                expected="mixtures of shape (band, voxel)",
                todo="fit BandedRidge first and pass mixtures=model.mixtures_, or pass ones for equal weights",
            )
        yield np.ones(1), np.arange(n_voxels)
        return
    given = np.asarray(mixtures, dtype=np.float64)
    if given.shape != (n_bands, n_voxels) or not np.isfinite(given).all() or given.min() < 0:
        raise InputError(
            "the mixtures do not match the bands and voxels",
            given=f"shape {given.shape}",
            expected=f"shape ({n_bands}, {n_voxels}), finite and non-negative",
        )
    scales = source.scales()
    # Weights that differ only by rounding come from the same candidate.
    unique, member = np.unique(np.round(given.T, 6), axis=0, return_inverse=True)
    for number in range(len(unique)):
        voxels = np.flatnonzero(member.ravel() == number)
        yield given[:, voxels[0]] / scales, voxels


def unit_folds(cv: Any, labels: NDArray[np.int64], grouped: bool) -> list[tuple[Indices, Indices]]:
    """Return folds that keep units together."""
    if isinstance(cv, str):
        raise UnknownNameError("way to choose alpha", cv, ("gcv", "a number of folds", "folds"))
    if isinstance(cv, int | np.integer):
        from sklearn.model_selection import GroupKFold
        from sklearn.model_selection import KFold as Contiguous

        if cv < 2 or cv > len(np.unique(labels)):
            raise InputError(
                "the number of folds does not match the number of units",
                given=f"cv={cv}, {len(np.unique(labels))} units",
                expected="at least two folds, and at least one unit per fold",
            )
        splitter = GroupKFold(int(cv)) if grouped else Contiguous(int(cv))
        cv = splitter.split(labels, groups=labels)
    folds = [(np.asarray(train), np.asarray(held_out)) for train, held_out in cv]
    if any(np.isin(labels[held_out], labels[train]).any() for train, held_out in folds):
        raise InputError(
            "a fold has samples of one unit on both sides",
            expected="folds that keep repeats of a stimulus (or a run) together",
        )
    return folds


def check_responses(measured: Any, held_out: Any, source: Source) -> None:
    """Raise an InputError if responses do not match the features."""
    n_train, n_test = source.n_samples, source.n_test
    fits = len(measured.shape) == 2 == len(held_out.shape) and measured.shape[1] == held_out.shape[1]
    if not fits or measured.shape[0] != n_train or held_out.shape[0] != n_test or 0 in (*measured.shape, n_test):
        raise InputError(
            "the responses do not match the features",
            given=f"training responses {measured.shape}, test responses {held_out.shape}",
            expected=f"({n_train}, voxel) and ({n_test}, voxel)",
        )


def require_finite(**arrays: NDArray) -> None:
    """Raise an InputError if an array, given by name, has NaN or infinite values."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(
                f"`{name}` has NaN or infinite values", given=f"{int((~np.isfinite(array)).sum())} such values"
            )


#: Size of a block of responses in bytes, and its maximum number of voxels.
_BLOCK_BYTES, _BLOCK_VOXELS = 2**26, 2048

#: Permutations scored before they are counted.
_BATCH = 50


@dataclass(frozen=True)
class RefitOptions:
    """Parameters of :func:`neurorecon.stats.refit_permutation_test`."""

    alphas: ArrayLike
    cv: Any
    units: ArrayLike | None
    within: ArrayLike | None
    mixtures: ArrayLike | None
    n_permutations: int
    seed: int
    statistic: Literal["r2", "correlation"]
    groups: ArrayLike | None
    device: str
    dtype: str
    progress: bool


def run(source: Source, responses: Any, test_responses: Any, options: RefitOptions) -> PermutationTest:
    """Run the test with features or kernels.

    Parameters
    ----------
    source : FeatureSource or KernelSource
        Features or kernels of training and test samples.
    responses, test_responses : array, shape (sample, voxel) and (test_sample, voxel)
        Training and test responses; read in blocks of voxels.
    options : RefitOptions
        Parameters of the test.

    Returns
    -------
    PermutationTest
    """
    measured, held_out = (part if hasattr(part, "shape") else np.asarray(part) for part in (responses, test_responses))
    check_responses(measured, held_out, source)
    if options.statistic not in ("r2", "correlation"):
        raise UnknownNameError("statistic", options.statistic, ("r2", "correlation"))
    n_permutations = options.n_permutations
    if n_permutations < 1:
        raise InputError(
            "a permutation test needs permutations", given=f"n_permutations={n_permutations}", expected="1 or more"
        )
    arrays, strengths = Arrays(options.device, options.dtype), check_alphas(options.alphas)
    orders = UnitPermutations(source.n_samples, n_permutations, options.seed, options.units, options.within)
    generalized = isinstance(options.cv, str) and options.cv == "gcv"
    folds = None if generalized else unit_folds(options.cv, orders.labels, options.units is not None)
    n_voxels = measured.shape[1]
    watch = GroupMeans(options.groups, n_voxels, n_permutations)
    chosen = np.empty(n_voxels)
    counted, where = [], []
    with _bar(options.progress, n_voxels * (1 + n_permutations)) as bar:
        for weights, voxels in mixture_groups(options.mixtures, source, n_voxels):
            model = Model(source, weights, strengths, folds, options.statistic, arrays, orders)
            for block in _blocks(voxels, source.n_samples, arrays.dtype):
                model.take(_slice(measured, block), _slice(held_out, block))
                counters = [PermutationCounter(scores) for scores in model.scores(None)]
                chosen[block] = strengths[model.chosen]
                watch.of(block)(0, np.stack([counters[0].observed]))
                bar.update(len(block))
                for first, batch in _batches(orders.orders):
                    null = np.stack([model.scores(order) for order in batch], axis=1)
                    for counter, scores in zip(counters, null, strict=True):
                        counter.update(scores)
                    watch.of(block)(1 + first, null[0])
                    bar.update(len(block) * len(batch))
                counted.append(counters)
                where.append(block)
    parts = [gather([counters[part] for counters in counted], where) for part in range(len(counted[0]))]
    joint = replace(parts[0], groups=watch.tested(), alphas=chosen)
    return joint if len(parts) == 1 else replace(joint, split=stack_bands(parts[1:]))


def _blocks(voxels: NDArray[np.int64], n_samples: int, dtype: str) -> Iterator[NDArray[np.int64]]:
    width = int(np.clip(_BLOCK_BYTES // (np.dtype(dtype).itemsize * n_samples), 64, _BLOCK_VOXELS))
    for start in range(0, len(voxels), width):
        yield voxels[start : start + width]


def _slice(responses: Any, block: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return some voxels in double precision; consecutive ones as a slice, which lazy arrays read fastest."""
    whole = block[-1] - block[0] + 1 == len(block)
    part = responses[:, slice(block[0], block[-1] + 1) if whole else block]
    values = np.asarray(part, dtype=np.float64)
    require_finite(responses=values)
    return values


def _batches(orders: Iterable[Indices]) -> Iterator[tuple[int, list[Indices]]]:
    batch: list[Indices] = []
    first = 0
    for rows in orders:
        batch.append(rows)
        if len(batch) == _BATCH:
            yield first, batch
            first, batch = first + _BATCH, []
    if batch:
        yield first, batch


def _bar(show: bool, total: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc="permutations", unit="fit", unit_scale=True, disable=not show)


def refit_permutation_test(
    features: ArrayLike,
    responses: Any,
    test_features: ArrayLike,
    test_responses: Any,
    *,
    alphas: ArrayLike,
    cv: Any = "gcv",
    units: ArrayLike | None = None,
    within: ArrayLike | None = None,
    bands: Any = None,
    mixtures: ArrayLike | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    statistic: Literal["r2", "correlation"] = "r2",
    groups: ArrayLike | None = None,
    device: str = "cpu",
    dtype: Literal["float32", "float64"] = "float32",
    progress: bool = False,
) -> PermutationTest:
    """Test predictions of held-out responses against models refitted to permuted training responses.

    Parameters
    ----------
    features : array, shape (sample, feature)
        Features of the training samples; for time series, with their delays.
    responses : array, shape (sample, voxel)
        Training responses. Read in blocks of voxels, so a memory map works well.
    test_features : array, shape (test_sample, feature)
        Features of the test samples.
    test_responses : array, shape (test_sample, voxel)
        Test responses.
    alphas : float or sequence of float
        Candidate alphas. The alpha of each voxel is chosen again in each permutation.
    cv : {"gcv"}, int or iterable of (train, held_out)
        How alpha is chosen: by generalized cross-validation (``"gcv"``), which is fast, or by the mean squared error
        over folds, which takes many times as long. A number of folds keeps units together.
    units : array, shape (sample,), optional
        Units that are exchanged: stimulus ids of trials, to keep the repeats of a stimulus together, or runs (or long
        stretches) of a time series, to keep the order of volumes. By default, each sample is its own unit. Only units
        with equal numbers of samples are exchanged.
    within : array, shape (sample,), optional
        Exchangeability block of each sample, e.g. its session. Units are exchanged only within a block.
    bands : dict of str to slice or index array, optional
        Features of each band. Requires `mixtures`.
    mixtures : array, shape (band, voxel), optional
        Kernel weight of each band in each voxel (``BandedRidge.mixtures_``), the same in all permutations. Kernels are
        first scaled to a mean diagonal of 1, as in :class:`neurorecon.BandedRidge`. The test is exact if the mixtures
        were chosen without the training responses, and approximate otherwise.
    n_permutations, seed : int
        Number of permutations, and their seed.
    statistic : {"r2", "correlation"}
        Score on the test samples. With bands, it is also split by the product measure.
    groups : bool array, shape (group, voxel), optional
        Sets of voxels, e.g. ROIs, whose mean joint score is tested, too.
    device : str
        ``"cpu"`` (NumPy), ``"torch"`` or ``"cuda"``.
    dtype : {"float32", "float64"}
        Precision of arrays as large as the responses. Factorizations are computed in float64.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    PermutationTest
        ``observed``, ``p``, ``null_mean``, ``null_max``, ``alphas``, and ``split`` if there are bands.

    Raises
    ------
    InputError
        If shapes do not match, values are not finite, or units cannot be permuted.

    References
    ----------
    Winkler et al. (2014). Permutation inference for the general linear model. NeuroImage 92, 381-397
    (exchangeability blocks). Phipson & Smyth (2010). Permutation p-values should never be zero.
    """
    x, new = (np.asarray(part) for part in (features, test_features))
    if x.ndim != 2 or new.ndim != 2 or x.shape[1] != new.shape[1]:
        raise InputError(
            "training and test features do not match",
            given=f"shapes {x.shape} and {new.shape}",
            expected="(sample, feature) and (test_sample, feature)",
        )
    require_finite(features=x, test_features=new)
    source = FeatureSource(x, new, band_columns(bands, x.shape[1]))
    options = RefitOptions(
        alphas, cv, units, within, mixtures, n_permutations, seed, statistic, groups, device, dtype, progress
    )
    return run(source, responses, test_responses, options)


def refit_permutation_test_kernels(
    kernels: ArrayLike,
    responses: Any,
    test_kernels: ArrayLike,
    test_responses: Any,
    *,
    alphas: ArrayLike,
    cv: Any = "gcv",
    units: ArrayLike | None = None,
    within: ArrayLike | None = None,
    mixtures: ArrayLike | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    statistic: Literal["r2", "correlation"] = "r2",
    groups: ArrayLike | None = None,
    device: str = "cpu",
    dtype: Literal["float32", "float64"] = "float32",
    progress: bool = False,
) -> PermutationTest:
    """Run :func:`refit_permutation_test` on linear kernels, for features too wide for memory.

    Parameters
    ----------
    kernels : array, shape (band, sample, sample) or (sample, sample)
        Raw kernels ``X X'`` of the training samples. Several bands require `mixtures`.
    responses, test_responses : array, shape (sample, voxel) and (test_sample, voxel)
        Training and test responses.
    test_kernels : array, shape (band, test_sample, sample) or (test_sample, sample)
        Raw kernels between test and training samples.
    alphas, cv, units, within, mixtures, n_permutations, seed, statistic, groups, device, dtype, progress
        See :func:`refit_permutation_test`.

    Returns
    -------
    PermutationTest
        See :func:`refit_permutation_test`.

    Raises
    ------
    InputError
        If shapes do not match, values are not finite, or units cannot be permuted.
    """
    within_train, across = (
        np.asarray(part, dtype=np.result_type(np.asarray(part), np.float32)) for part in (kernels, test_kernels)
    )
    if within_train.ndim == 2 and across.ndim == 2:
        within_train, across = within_train[None], across[None]
    square = within_train.ndim == 3 and within_train.shape[1] == within_train.shape[2]
    if not square or across.ndim != 3 or across.shape[::2] != within_train.shape[::2]:
        raise InputError(
            "the kernels do not match each other",
            given=f"shapes {within_train.shape} and {across.shape}",
            expected="([band,] sample, sample) and ([band,] test_sample, sample)",
        )
    require_finite(kernels=within_train, test_kernels=across)
    source = KernelSource(within_train, across)
    options = RefitOptions(
        alphas, cv, units, within, mixtures, n_permutations, seed, statistic, groups, device, dtype, progress
    )
    return run(source, responses, test_responses, options)
