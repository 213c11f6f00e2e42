"""Ridge predictions without weights: the smoother matrix, jobs over blocks of targets, and renormalization.

**Smoother.** Ridge predictions are ``H Y``, where ``H = K_test inverse(K + alpha)`` depends only on the responses. If
test responses are known when fitting, this is by far the fastest way: with n training and m test samples, each target
costs 2 m n operations rather than the 2 n n of a fit, and no weights are stored. See :class:`RidgeSmoother`.

**Jobs.** :func:`predict_target_blocks` computes H once. Each job then reads its slice of Y from the store.

**Renormalization.** Predictions of each target are standardized, and then rescaled to the mean and standard deviation
of the target in the training samples. They are standardized either by the moments of predictions of left-out training
samples ("train"), which are a property of the model, or by their own moments ("test"), as in the released code of
Brain-Diffuser (Ozcelik & VanRullen 2023, Scientific Reports 13, 15666). The latter is impossible for a single image,
and makes each prediction depend on the others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.decoders.alphas import best_alphas
from neurorecon.decoders.solvers import (
    Backend,
    Factorization,
    Spectrum,
    cross_gram,
    decompose,
    gram,
    gram_and_cross,
    is_dual,
    means,
    solve_positive,
    subtract,
    unit_vector,
)
from neurorecon.decoders.targets import Targets, output_columns
from neurorecon.decoders.validation import check_alphas, check_dtype, check_weights
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.io.tensors import block_digest
from neurorecon.parallel import Compute, Results, ResultsFolder, Stored, pinned, run
from neurorecon.parallel.jobs import FOLDER, Arrays
from neurorecon.store.store import Store

if TYPE_CHECKING:
    from neurorecon.decoders.ridge_fit import RidgeFit


#: Number of training samples left out to measure the moments of predictions.
LEFT_OUT = 1000

RENORMS = ("train", "test")

Renorm = Literal["train", "test"]


@dataclass(frozen=True)
class Moments:
    """Means and standard deviations of each target.

    Parameters
    ----------
    mean, deviation : array, shape (target,)
        Moments of the targets in the training samples (weighted).
    predicted_mean, predicted_deviation : array, shape (target,), optional
        Moments of predictions of left-out training samples; None with ``renorm="test"``.
    correlation : array, shape (target,), optional
        Of predictions of left-out training samples with the targets; 0 where one of them is constant.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    predicted_mean: NDArray[np.float64] | None = None
    predicted_deviation: NDArray[np.float64] | None = None
    correlation: NDArray[np.float64] | None = None

    def apply(self, predicted: NDArray, columns: slice | NDArray) -> NDArray:
        """Rescale predictions of some targets, (sample, target), to the moments of the targets."""
        if self.predicted_mean is None or self.predicted_deviation is None:
            if len(predicted) < 2:
                raise InputError(
                    "predictions of one sample have no standard deviation",
                    given="renorm='test' and 1 sample",
                    expected="two samples or more",
                    todo="use renorm='train', which does not depend on other predictions",
                )
            mean = predicted.mean(axis=0, dtype=np.float64)
            deviation = predicted.std(axis=0, dtype=np.float64)
            # Constant predictions differ by rounding errors.
            deviation = np.where(deviation > 1e-6 * self.deviation[columns], deviation, 0.0)
        else:
            mean, deviation = self.predicted_mean[columns], self.predicted_deviation[columns]
        scale = self.deviation[columns] / np.where(deviation > 0, deviation, np.inf)
        return ((predicted - mean) * scale + self.mean[columns]).astype(predicted.dtype)


def check_renorm(renorm: str | None) -> Renorm | None:
    """Check the name of the renormalization."""
    if renorm is None or renorm == "train" or renorm == "test":
        return renorm  # type: ignore[return-value]
    raise UnknownNameError("renormalization", renorm, RENORMS)


def left_out_samples(n_samples: int, groups: ArrayLike | None, weights: NDArray | None) -> list[NDArray[np.int64]]:
    """Return sets of samples to leave out, about 1,000 samples in total, evenly spaced.

    Each set is one group. Samples with zero weight are not included.
    """
    used = np.arange(n_samples) if weights is None else np.flatnonzero(weights)
    labels = used if groups is None else np.unique(np.asarray(groups)[used], return_inverse=True)[1].ravel()
    sets = [used[labels == label] for label in np.unique(labels)] if groups is not None else list(used[:, None])
    if len(sets) < 2:
        raise InputError(
            "predictions cannot be renormalized, because no samples can be left out",
            given=f"{len(used)} samples of {len(sets)} group",
            expected="two groups or more",
        )
    count = max(2, min(len(sets), LEFT_OUT * len(sets) // len(used)))
    return [sets[number] for number in np.unique(np.linspace(0, len(sets) - 1, count).round().astype(int))]


def measure_factors(problem: RidgeFit, factors: Factorization, groups: ArrayLike | None, *, left_out: bool) -> Moments:
    """Return moments of the targets and (with `left_out`) of left-out predictions, from a factorization."""
    roots = None if problem.weights is None else np.sqrt(problem.weights)

    def rows_of(samples: NDArray[np.int64], alpha: float) -> NDArray[np.float64]:
        left = factors.backend.to_numpy(factors.u).astype(np.float64)
        squares = factors.singular_values**2
        rows = (left[samples] * (squares / (squares + alpha))) @ left.T
        if problem.center:
            unit = unit_vector(len(left), roots)
            rows += unit[samples, None] * unit
        return rows

    return _measure(problem, rows_of, groups, left_out=left_out)


def measure_smoother(
    problem: RidgeFit, smoother: RidgeSmoother, groups: ArrayLike | None, *, left_out: bool
) -> Moments:
    """Return moments of the targets and (with `left_out`) of left-out predictions, from a smoother."""
    return _measure(problem, smoother.rows_of, groups, left_out=left_out)


def _measure(
    problem: RidgeFit,
    rows_of: Callable[[NDArray[np.int64], float], NDArray[np.float64]],
    groups: ArrayLike | None,
    *,
    left_out: bool,
) -> Moments:
    weights, dtype = problem.weights, problem.dtype
    roots = None if weights is None else np.sqrt(weights)
    alphas, codes = np.unique(problem.alpha, return_inverse=True)
    matrices, shares = [], None
    if left_out:
        sets = left_out_samples(len(problem.x), groups, weights)
        samples = np.concatenate(sets)
        matrices = [left_out_matrix(rows_of(samples, float(alpha)), sets, roots).astype(dtype) for alpha in alphas]
        shares = None if weights is None else weights[samples]
    moments = np.empty((5, problem.targets.n_targets))
    for columns, y in problem.targets.blocks():
        moments[:2, columns] = _mean_and_deviation(y, weights)
        if not left_out:
            continue
        # With an intercept, rows sum to 1, so targets can be shifted to keep precision.
        shift = moments[0, columns].astype(dtype) if problem.center else np.zeros(y.shape[1], dtype)
        found = np.zeros(y.shape[1], np.int64) if problem.alpha.ndim == 0 else codes.ravel()[columns]
        predicted = np.empty((len(matrices[0]), y.shape[1]), dtype)
        for code in np.unique(found):
            predicted[:, found == code] = matrices[code] @ (y - shift)[:, found == code]
        mean, deviation = _mean_and_deviation(predicted, shares)
        # Constant predictions differ by rounding errors.
        deviation[deviation < 1e-6 * moments[1, columns]] = 0.0
        true = (y - shift)[samples]
        of_true, spread = _mean_and_deviation(true, shares)
        together = means((predicted - mean) * (true - of_true), shares, center=True)
        scale = deviation * np.where(moments[1, columns] > 0, spread, 0.0)
        moments[2:, columns] = mean + shift, deviation, together / np.where(scale > 0, scale, np.inf)
    return Moments(*moments) if left_out else Moments(moments[0], moments[1])


def _mean_and_deviation(values: NDArray, weights: NDArray | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean = means(values, weights, center=True)
    squares = np.square(values - mean, dtype=np.float64)
    return mean, np.sqrt(means(squares, weights, center=True))


def left_out_matrix(rows: NDArray[np.float64], sets: list[NDArray[np.int64]], roots: NDArray | None) -> NDArray:
    """Return the matrix that maps training targets to predictions of left-out samples.

    Parameters
    ----------
    rows : array, shape (left out, sample)
        Rows of the weighted smoother of all samples, for the samples of all sets in order.
    sets : list of int array
        Samples to leave out together.
    roots : array, shape (sample,), optional
        Square roots of the sample weights.

    Returns
    -------
    array, shape (left out, sample)
        Matrix for unweighted targets. Entries of the left-out samples themselves are zero.
    """
    result = np.empty_like(rows)
    start = 0
    for samples in sets:
        part = slice(start, start + len(samples))
        residual = -rows[part]
        residual[np.arange(len(samples)), samples] += 1.0
        result[part] = -np.linalg.solve(residual[:, samples], residual)
        result[part, samples] = 0.0
        start = part.stop
    if roots is not None:
        result *= roots / roots[np.concatenate(sets), None]
    return result


#: Below this fraction of the sum of eigenvalues, alpha leaves the matrix numerically singular.
_SINGULAR = 1e-12


class RidgeSmoother:
    """Ridge predictions of given test samples, for any targets and alphas.

    The Gram matrix of the responses is computed once. Each alpha then takes a Cholesky factorization, and each block of
    targets a matrix product.

    Memory in addition to the responses and two blocks of targets, in float64: three (sample, sample) matrices, or
    (voxel, voxel) if there are fewer voxels, and two (test_sample, sample) matrices.

    Parameters
    ----------
    X : array, shape (sample, voxel)
        Training responses.
    X_test : array, shape (test_sample, voxel)
        Responses of the test samples.
    sample_weight : array, shape (sample,), optional
        Weights of the training samples.
    fit_intercept : bool
        Whether to fit an intercept.
    solver : {"auto", "dual", "primal"}
        See :class:`~neurorecon.decoders.RidgeDecoder`.
    device : str
        ``"cpu"``, ``"torch"``, ``"cuda"`` or ``"cuda:<number>"``.
    dtype : {"float32", "float64"}
        Precision of the product with the targets.
    gram_dtype : {"float64", "float32"}
        Precision of the Gram matrix and its factorization. Single precision takes half the time. Its error relative to
        the standard deviation of predictions is about 1e-7 times the largest eigenvalue divided by alpha (measured:
        2e-4 for a ratio of 2,600, and 2e-5 for 26). Use it with large alphas, as in decoding from many voxels.
    decomposed : Spectrum, optional
        Decomposition of the training responses, if available. Each alpha then takes two products instead of a
        factorization, and the Gram matrix is not computed.

    Raises
    ------
    InputError
        If shapes do not match, or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> generator = np.random.default_rng(0)
    >>> X, X_test = generator.standard_normal((20, 50)), generator.standard_normal((3, 50))
    >>> from neurorecon.decoders import RidgeSmoother
    >>> smoother = RidgeSmoother(X, X_test)
    >>> smoother.predict(X[:, :4], alpha=10.0).shape
    (3, 4)
    """

    def __init__(
        self,
        X: ArrayLike,
        X_test: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        fit_intercept: bool = True,
        solver: str = "auto",
        device: str = "cpu",
        dtype: str = "float32",
        gram_dtype: str = "float64",
        decomposed: Spectrum | None = None,
    ) -> None:
        self._precision = "float64" if decomposed is not None else check_dtype(gram_dtype)
        self.dtype, self.backend, self.center = check_dtype(dtype), Backend(device), bool(fit_intercept)
        self._x, self._test = _matrix(X, "X"), _matrix(X_test, "X_test")
        if self._x.shape[1] != self._test.shape[1]:
            raise InputError(
                "training and test responses have different voxels",
                given=f"{self._x.shape[1]} and {self._test.shape[1]} voxels",
                expected="the same voxels in the same order",
            )
        self.weights = check_weights(sample_weight, len(self._x))
        self._roots = None if self.weights is None else np.sqrt(self.weights)
        self._decomposed = decomposed
        if decomposed is None:
            self._mean = means(self._x, self.weights, self.center)
            self._dual = is_dual(self._x.shape, solver)
            self._compute_products()
        else:
            self._mean, self._dual = decomposed.x_mean, decomposed.dual
            self._cross = self._products(self._test) if self._dual else None

    def _compute_products(self) -> None:
        """Compute the Gram matrix and, for the dual, the products of test and training samples."""
        common = self._mean, self._roots, self.backend
        if self._dual:
            self._gram, self._cross = gram_and_cross(self._x, self._test, *common, dtype=self._precision)
        else:
            self._gram, self._cross = gram(self._x, *common, dual=False, dtype=self._precision), None

    def matrix(self, alpha: float) -> NDArray[np.float64]:
        """Return H, (test_sample, sample): predictions are ``H @ y``. With an intercept, its rows sum to 1."""
        return self._slopes(alpha, self._test, self._cross) + self._shares

    def parts(self, alpha: float) -> NDArray[np.float64]:
        """Return H less its constant, and below it the constant, (test_sample + 1, sample).

        The constant is the same in all rows: the weights of the mean of the training targets. With a large alpha what
        is left is so small beside it that single precision would lose it.
        """
        return np.concatenate([self._slopes(alpha, self._test, self._cross), self._shares[None]])

    def rows_of(self, samples: NDArray[np.int64], alpha: float) -> NDArray[np.float64]:
        """Return rows of the smoother for training samples, (chosen, sample), which act on weighted targets."""
        chosen = self._x[samples]
        return self._training_rows(samples, chosen, self._products(chosen) if self._dual else None, alpha)

    def _training_rows(
        self, samples: NDArray[np.int64], chosen: NDArray, cross: Any, alpha: float
    ) -> NDArray[np.float64]:
        rows = self._slopes(alpha, chosen, cross) + self._shares
        if self._roots is None:
            return rows
        # Columns of samples with zero weight are zero before and after.
        return rows * self._roots[samples, None] / np.where(self._roots > 0, self._roots, 1.0)

    def choose_alpha(
        self, y: Any, alphas: ArrayLike, *, groups: ArrayLike | None = None, target_block: int | None = None
    ) -> NDArray[np.float64]:
        """Choose alpha for each target by the squared error in training samples that are left out.

        About 1,000 training samples, evenly spaced, are left out, one at a time or one group at a time, and predicted
        from all others. That takes one factorization for each alpha, and no fit (the identity behind the leave-one-out
        error of linear smoothers, Craven & Wahba 1979, Numerische Mathematik 31, 377). With 1,000 training samples or
        fewer it is leave-one-out cross-validation.

        Parameters
        ----------
        y : array, shape (sample, ...)
            Targets, read in blocks, of any type that :meth:`RidgeDecoder.fit` accepts.
        alphas : array, shape (alpha,)
            Candidates.
        groups : array, shape (sample,), optional
            Samples with the same label are left out together, e.g. the repeats of a stimulus.
        target_block : int, optional
            Number of targets computed at once; by default as many as fit in 128 MB.

        Returns
        -------
        array, shape (target,)
            The alpha of each flattened target; of equals, the largest. Pass it to :meth:`predict`.

        Raises
        ------
        InputError
            If shapes do not match, values are not finite, or no samples can be left out.

        Examples
        --------
        >>> import numpy as np
        >>> generator = np.random.default_rng(0)
        >>> X, X_test = generator.standard_normal((60, 100)), generator.standard_normal((3, 100))
        >>> y = np.stack([X[:, 0], generator.standard_normal(60)], axis=1)  # a signal, and noise
        >>> from neurorecon.decoders import RidgeSmoother
        >>> smoother = RidgeSmoother(X, X_test)
        >>> alpha = smoother.choose_alpha(y, [1.0, 100.0, 10_000.0])
        >>> bool(alpha[0] < alpha[1])
        True
        >>> smoother.predict(y, alpha).shape
        (3, 2)
        """
        candidates = np.atleast_1d(check_alphas(alphas))
        targets = y if isinstance(y, Targets) else Targets(y, self.dtype, target_block)
        check_samples(targets, len(self._x))
        sets = left_out_samples(len(self._x), groups, self.weights)
        samples = np.concatenate(sets)
        chosen = self._x[samples]
        cross = self._products(chosen) if self._dual else None
        matrices = []
        for alpha in candidates:
            rows = self._training_rows(samples, chosen, cross, float(alpha))
            matrices.append(self.backend.asarray(left_out_matrix(rows, sets, self._roots), self.dtype))
        shares = None if self.weights is None else self.weights[samples]
        found = np.empty(targets.n_targets)
        for columns, block in targets.blocks():
            # With an intercept, rows sum to 1, so targets can be shifted to keep precision.
            shift = block.mean(axis=0, dtype=np.float64).astype(block.dtype) if self.center else 0
            shifted = block - shift
            values = self.backend.asarray(shifted, self.dtype)
            errors = np.stack(
                [
                    means(np.square(self.backend.to_numpy(matrix @ values) - shifted[samples]), shares, center=True)
                    for matrix in matrices
                ]
            )
            found[columns] = best_alphas(errors, candidates)
        return found

    def predict_blocks(
        self, y: Any, alpha: float | NDArray, target_block: int | None = None
    ) -> Iterator[tuple[slice, NDArray]]:
        """Predict targets of the test samples in blocks.

        Parameters
        ----------
        y : array, shape (sample, ...)
            Targets, read in blocks, of any type that :meth:`RidgeDecoder.fit` accepts.
        alpha : float or array, shape (target,)
            One alpha for all targets, or one for each flattened target. Each distinct value takes a matrix.
        target_block : int, optional
            Number of targets computed at once; by default as many as fit in 128 MB.

        Yields
        ------
        columns : slice
            Indices of the flattened targets.
        predictions : array, shape (test_sample, target)
            Predictions of these targets.
        """
        targets = y if isinstance(y, Targets) else Targets(y, self.dtype, target_block)
        check_samples(targets, len(self._x))
        strengths = np.asarray(alpha, dtype=np.float64)
        values, codes = np.unique(strengths, return_inverse=True)
        matrices = [self.backend.asarray(self.parts(float(value)), self.dtype) for value in values]
        room: NDArray | None = None
        for columns, block in targets.blocks():
            shift = self._shift(block)
            if shift is None:
                shifted, shift = block, np.zeros(1, dtype=self.dtype)
            else:
                if room is None or room.shape[1] < block.shape[1]:
                    room = np.empty(block.shape, dtype=self.dtype)
                shifted = np.subtract(block, shift, out=room[:, : block.shape[1]])
            shifted = self.backend.asarray(shifted, self.dtype)
            if strengths.ndim == 0:
                yield columns, join_parts(self.backend.to_numpy(matrices[0] @ shifted), shift)
                continue
            predicted = np.empty((len(self._test) + 1, block.shape[1]), dtype=self.dtype)
            found = codes.ravel()[columns]
            for code in np.unique(found):
                these = np.flatnonzero(found == code)
                predicted[:, these] = self.backend.to_numpy(matrices[code] @ shifted[:, these])
            yield columns, join_parts(predicted, shift)

    def _shift(self, block: NDArray) -> NDArray | None:
        """Return a shift to subtract from targets before the product, or None if they are already near zero.

        Any shift is correct, as rows of H sum to 1, and a shift near the mean keeps precision. Means are estimated from
        about 64 samples. Subtracting takes another pass over the targets, a tenth of the time of the product.
        """
        if not self.center:
            return None
        some = block[:: max(1, len(block) // 64)].astype(np.float64)
        mean = some.mean(axis=0)
        if (np.abs(mean) <= some.std(axis=0)).all():
            return None
        return mean.astype(self.dtype)

    def predict(self, y: Any, alpha: float | NDArray, *, out: Any = None, target_block: int | None = None) -> Any:
        """Predict targets of the test samples.

        Parameters
        ----------
        y, alpha, target_block
            See :meth:`predict_blocks`.
        out : array, shape (test_sample, ...), optional
            Array to which predictions are written block by block: a NumPy array, memory map or Zarr array.

        Returns
        -------
        array, shape (test_sample, ...)
            Predicted targets: `out`, or a new array.

        Raises
        ------
        InputError
            If shapes do not match, or values are not finite.
        """
        targets = y if isinstance(y, Targets) else Targets(y, self.dtype, target_block)
        out, written = output_columns(out, len(self._test), targets.shape, self.dtype)
        for columns, predicted in self.predict_blocks(targets, alpha):
            written[columns] = predicted
        return out

    def _products(self, others: NDArray) -> Any:
        return cross_gram(self._x, others, self._mean, self._roots, self.backend, self._precision)

    @property
    def _shares(self) -> NDArray[np.float64]:
        """The constant of H, (sample,): weights of the mean of the training targets, or zeros without an intercept."""
        shares = np.ones(len(self._x)) if self.weights is None else self.weights
        found: NDArray[np.float64] = shares / shares.sum() * self.center
        return found

    def _slopes(self, alpha: float, others: NDArray, cross: Any) -> NDArray[np.float64]:
        """Return the rows of H for some samples, less its constant."""
        right = cross if cross is not None else self._centered(others)
        rows = self._solve(alpha, right.T).T
        if not self._dual:
            rows = rows @ self._centered(self._x).T
        result = self.backend.to_numpy(rows)
        if self._roots is not None:
            result = result * (self._roots if self._dual else self._roots**2)
        return np.ascontiguousarray(result)

    def _centered(self, values: NDArray) -> Any:
        return self.backend.asarray(subtract(values, self._mean, self._precision), self._precision)

    def _solve(self, alpha: float, right: Any) -> Any:
        """Return ``inverse(gram + alpha) @ right``; if alpha is negligible, use the pseudoinverse."""
        if self._decomposed is not None:
            return self._divide(self._decomposed.singular_values, self._decomposed.vectors, alpha, right)
        side = np.arange(len(self._gram))
        matrix = self._gram * 1.0
        if alpha > _SINGULAR * float(self._gram[side, side].sum()):
            matrix[side, side] += alpha
            return solve_positive(matrix, right, self.backend, what="the Gram matrix of the responses is singular")
        singular, vectors = decompose(self.backend.asarray(matrix, "float64"), max(self._x.shape), self.backend)
        return self._divide(singular, vectors, alpha, self.backend.asarray(right, "float64"))

    def _divide(self, singular: NDArray[np.float64], vectors: Any, alpha: float, right: Any) -> Any:
        return (vectors / self.backend.asarray(singular**2 + alpha, "float64")) @ (vectors.T @ right)


def join_parts(product: NDArray, shift: NDArray) -> NDArray:
    """Return predictions from the product of the parts of a smoother and shifted targets; it is overwritten."""
    product[:-1] += product[-1] + shift
    return product[:-1]


def check_samples(targets: Targets, n_samples: int) -> None:
    """Raise an InputError if targets and responses have different numbers of samples."""
    if targets.n_samples != n_samples:
        raise InputError(
            "responses and targets have different numbers of samples (inconsistent lengths)",
            given=f"X {n_samples}, y {targets.n_samples}",
            expected="one row of targets for each sample",
        )


def _matrix(values: ArrayLike, name: str) -> NDArray:
    """Return finite responses of shape (sample, voxel), in the precision they have."""
    found = np.asarray(values)
    if found.dtype != np.float32:
        found = found.astype(np.float64)
    if found.ndim != 2 or not found.size or not np.isfinite(found).all():
        raise InputError(
            "responses must be a two-dimensional array of finite numbers",
            given=f"{name} of shape {found.shape}",
            expected="finite numbers of shape (sample, voxel)",
        )
    return found


#: Number of values in a block of training targets: 512 MiB in single precision.
BLOCK_VALUES = 2**27


@dataclass(frozen=True)
class StoredTarget:
    """A target in a store with one row per sample, read in slices of features.

    Parameters
    ----------
    store : Store
        Store that contains the target.
    name : str
        Name of the target.
    stimuli : tuple of str
        Stimulus of each sample; repeats are allowed.
    """

    store: Store
    name: str
    stimuli: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the target for one stimulus."""
        return tuple(int(size) for size in self.store.targets(self.name).shape[1:])

    def columns(self, start: int, stop: int) -> NDArray:
        """Return features `start` to `stop` of the flattened target, (sample, feature)."""
        found = self.store.targets(self.name, stimuli=list(self.stimuli)).data
        return np.asarray(found.reshape(len(self.stimuli), -1)[:, start:stop])


@dataclass(frozen=True)
class PredictedTargets:
    """Predictions stored as results of jobs, one block of targets per job.

    Parameters
    ----------
    results : Results
        Results that contain the blocks.
    names : dict of str to slice
        Indices of the flattened targets in each block, by job name.
    shape : tuple of int
        Shape of the predictions, (test_sample, *target_shape).
    """

    results: Results
    names: dict[str, slice]
    shape: tuple[int, ...]

    def blocks(self) -> Iterator[tuple[slice, NDArray]]:
        """Yield ``(columns, predictions)``, with predictions of shape (test_sample, target)."""
        for name, columns in self.names.items():
            yield columns, self.results.get(name)["predicted"]

    def array(self) -> NDArray:
        """Return all predictions, (test_sample, *target_shape)."""
        parts = [predicted for _, predicted in self.blocks()]
        return np.concatenate(parts, axis=1).reshape(self.shape)


def predict_target_blocks(
    X: ArrayLike,
    store: Store,
    target: str,
    stimuli: Sequence[str],
    X_test: ArrayLike,
    alpha: float | ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    fit_intercept: bool = True,
    device: str = "cpu",
    dtype: str = "float32",
    block: int | None = None,
    scheduler: Any = None,
    threads: int | None = None,
    results: str | Path | None = None,
    progress: bool = False,
) -> PredictedTargets:
    """Predict a whole target of a store from test responses by ridge regression, in jobs over blocks of features.

    Parameters
    ----------
    X : array, shape (sample, voxel)
        Training responses.
    store : Store
        Store that contains the target, accessible to all workers.
    target : str
        Name of the target.
    stimuli : sequence of str
        Stimulus of each training sample.
    X_test : array, shape (test_sample, voxel)
        Responses of the test samples.
    alpha : float or array, shape (target,)
        One alpha for all targets, or one for each flattened target, e.g. ``alpha_`` of a
        :class:`~neurorecon.decoders.RidgeDecoder`. Each distinct value takes a matrix (test_sample, sample).
    sample_weight, fit_intercept, device, dtype
        See :class:`~neurorecon.decoders.RidgeSmoother`.
    block : int, optional
        Number of targets per job; by default as many as fit in 512 MiB.
    scheduler, threads, results, progress
        See :func:`neurorecon.maps`. Without `scheduler` and `results`, predictions are kept in memory.

    Returns
    -------
    PredictedTargets

    Raises
    ------
    InputError
        If shapes do not match.
    """
    source = StoredTarget(store, target, tuple(str(name) for name in stimuli))
    if len(source.stimuli) != len(np.asarray(X)):
        raise InputError(
            "responses and targets have different numbers of samples (inconsistent lengths)",
            given=f"X {len(np.asarray(X))}, stimuli {len(source.stimuli)}",
            expected="one stimulus for each sample",
        )
    compute = Compute(scheduler=scheduler, threads=threads, folder=results, progress=progress)
    n_targets = int(np.prod(source.shape, dtype=np.int64))
    with pinned(compute.n_threads):
        smoother = RidgeSmoother(
            np.asarray(X), np.asarray(X_test), sample_weight=sample_weight, fit_intercept=fit_intercept, device=device,
            dtype=dtype,
        )  # fmt: skip
        inputs = _matrices(smoother, alpha, n_targets, dtype)
    width = block or max(1, BLOCK_VALUES // max(1, len(source.stimuli)))
    parts = [slice(start, min(start + width, n_targets)) for start in range(0, n_targets, width)]
    names = {f"{target} {part.start}-{part.stop - 1}": part for part in parts}
    kept = _kept(store, source, inputs, width, compute)
    if not kept.has("matrices"):
        kept.prepare()
        kept.put("matrices", inputs)
    job = functools.partial(predict_block, Stored(kept, "matrices"), source, fit_intercept, dtype)
    run(job, names, kept, compute, label="target blocks")
    return PredictedTargets(kept, names, (len(np.asarray(X_test)), *source.shape))


def _matrices(smoother: RidgeSmoother, alpha: float | ArrayLike, n_targets: int, dtype: str) -> Arrays:
    strengths = check_alphas(alpha)
    if strengths.ndim and len(strengths) != n_targets:
        raise InputError(
            "alpha does not match the targets",
            given=f"{len(strengths)} alphas",
            expected=f"one alpha, or one for each of the {n_targets} targets",
        )
    values, codes = np.unique(strengths, return_inverse=True)
    matrices = np.stack([smoother.parts(float(value)) for value in values]).astype(dtype)
    return {"matrices": matrices, "codes": np.broadcast_to(codes.ravel(), n_targets).astype(np.int32)}


def _kept(store: Store, source: StoredTarget, inputs: Arrays, width: int, compute: Compute) -> Results:
    if not compute.keeps_files:
        return Results()
    everything = {
        "analysis": "predicted targets",
        "store": store.digest,
        "target": source.name,
        "stimuli": block_digest(np.array(source.stimuli)),
        "inputs": {name: block_digest(values) for name, values in inputs.items()},
        "block": width,
        "threads": compute.n_threads,
    }
    return ResultsFolder.of(everything, compute.folder or FOLDER)


def predict_block(matrices: Stored, source: StoredTarget, center: bool, dtype: str, columns: slice) -> Arrays:
    """Return predictions of some columns of a target, ``predicted`` (test_sample, target)."""
    inputs = matrices.load(keep=True)
    y = source.columns(columns.start, columns.stop).astype(dtype, copy=False)
    # Rows of H sum to 1, so any shift is correct, and one near the mean keeps precision.
    shift = y.mean(axis=0, dtype=np.float64).astype(dtype) if center else np.zeros(y.shape[1], dtype=dtype)
    y = y - shift
    codes = inputs["codes"][columns]
    predicted = np.empty((inputs["matrices"].shape[1], y.shape[1]), dtype=dtype)
    for code in np.unique(codes):
        these = np.flatnonzero(codes == code)
        chosen = y if len(these) == y.shape[1] else y[:, these]
        predicted[:, these] = inputs["matrices"][code] @ chosen
    return {"predicted": join_parts(predicted, shift)}
