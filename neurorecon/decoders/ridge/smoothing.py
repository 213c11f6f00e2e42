"""Predictions of ridge regression without weights: one matrix turns training targets into predictions.

``H = K_test inverse(K + alpha)`` depends on the responses alone, and predictions are ``H Y``. Where test
responses are known while fitting, that is by far the least work: with n training and m test samples, each
target costs 2 m n operations rather than the 2 n n of a fit, and nothing of the size of weights is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.decoders.backend import Backend
from neurorecon.decoders.products import cross_gram, gram, gram_and_cross, means, subtract
from neurorecon.decoders.solvers import Spectrum, decompose, is_dual, solve_positive
from neurorecon.decoders.targets import Targets, output_columns
from neurorecon.decoders.validation import check_dtype, check_weights
from neurorecon.errors import InputError

#: Below this share of the sum of eigenvalues, alpha leaves the matrix singular to rounding.
_SINGULAR = 1e-12


class RidgeSmoother:
    """Ridge regression from training to test responses, for any targets and any alpha.

    The products of the responses are computed once; each alpha then takes a Cholesky
    factorization, and each block of targets a matrix product.

    Memory beside the responses and two blocks of targets, in float64: three matrices of (sample, sample) with
    n samples <= p voxels, of (voxel, voxel) otherwise, and two of (test sample, sample).

    Parameters
    ----------
    X : array, shape (sample, voxel)
        Training responses.
    X_test : array, shape (test sample, voxel)
        Responses to predict from.
    sample_weight : array, shape (sample,), optional
        Weights of the training samples.
    fit_intercept : bool
        Whether means are fitted.
    solver : {"auto", "dual", "primal"}
        As for :class:`~neurorecon.decoders.RidgeDecoder`.
    device : str
        ``"cpu"``, ``"torch"``, ``"cuda"`` or ``"cuda:<number>"``.
    dtype : {"float32", "float64"}
        Precision of the product with the targets.
    gram_dtype : {"float64", "float32"}
        Precision of the products of the responses and of the factorization. Single precision halves their time
        and costs predictions 1e-7 of their standard deviation times the largest eigenvalue of the products over
        alpha (measured: 2e-4 where that is 2,600, 2e-5 where it is 26). It serves strong alphas, as in decoding
        from many voxels.
    decomposed : Spectrum, optional
        The decomposition of the training responses, where there is one already: each alpha then takes two
        products instead of a factorization, and the products of the responses are not computed.

    Examples
    --------
    >>> import numpy as np
    >>> generator = np.random.default_rng(0)
    >>> X, X_test = generator.standard_normal((20, 50)), generator.standard_normal((3, 50))
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
        """Compute the Gram matrix and, in the dual, the products of test with training samples."""
        common = self._mean, self._roots, self.backend
        if self._dual:
            self._gram, self._cross = gram_and_cross(self._x, self._test, *common, dtype=self._precision)
        else:
            self._gram, self._cross = gram(self._x, *common, dual=False, dtype=self._precision), None

    def matrix(self, alpha: float) -> NDArray[np.float64]:
        """Return H, (test sample, sample): predictions are ``H @ y``. With an intercept its rows sum to 1."""
        return self._rows(alpha, self._test, self._cross)

    def rows_of(self, samples: NDArray[np.int64], alpha: float) -> NDArray[np.float64]:
        """Return the same for training samples, (chosen, sample), acting on targets that are weighted."""
        chosen = self._x[samples]
        rows = self._rows(alpha, chosen, self._products(chosen) if self._dual else None)
        if self._roots is None:
            return rows
        # Columns of samples without weight are zero before and after.
        return rows * self._roots[samples, None] / np.where(self._roots > 0, self._roots, 1.0)

    def predict_blocks(
        self, y: Any, alpha: float | NDArray, target_block: int | None = None
    ) -> Iterator[tuple[slice, NDArray]]:
        """Yield ``(columns, predictions)``, predictions of shape (test sample, target).

        Parameters
        ----------
        y : array, shape (sample, ...)
            Targets, read in blocks; anything that :meth:`RidgeDecoder.fit` takes.
        alpha : float or array, shape (target,)
            One for all targets, or one for each of the flattened targets. Each different value takes a matrix.
        target_block : int, optional
            Targets computed at once; by default as many as fit into 128 MB.
        """
        targets = y if isinstance(y, Targets) else Targets(y, self.dtype, target_block)
        check_samples(targets, len(self._x))
        strengths = np.asarray(alpha, dtype=np.float64)
        values, codes = np.unique(strengths, return_inverse=True)
        matrices = [self.backend.asarray(self.matrix(float(value)), self.dtype) for value in values]
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
                predicted = self.backend.to_numpy(matrices[0] @ shifted)
                predicted += shift
                yield columns, predicted
                continue
            predicted = np.empty((len(self._test), block.shape[1]), dtype=self.dtype)
            found = codes.ravel()[columns]
            for code in np.unique(found):
                these = np.flatnonzero(found == code)
                predicted[:, these] = self.backend.to_numpy(matrices[code] @ shifted[:, these])
            yield columns, predicted + shift

    def _shift(self, block: NDArray) -> NDArray | None:
        """Return what to subtract from targets before their product, or None where they lie around zero already.

        Any shift does, as rows of H sum to 1; near the means it keeps single precision exact. Means are estimated
        from some 64 samples; subtracting takes another pass over the targets, a tenth of the time of the product.
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
            As for :meth:`predict_blocks`.
        out : array, shape (test sample, ...), optional
            Where predictions are written, block by block: a NumPy array, memory map or Zarr array.

        Returns
        -------
        array, shape (test sample, ...)
            `out`, or a new array in the shape of the targets.

        Raises
        ------
        InputError
            Where shapes do not fit or values are not finite.
        """
        targets = y if isinstance(y, Targets) else Targets(y, self.dtype, target_block)
        out, written = output_columns(out, len(self._test), targets.shape, self.dtype)
        for columns, predicted in self.predict_blocks(targets, alpha):
            written[columns] = predicted
        return out

    def _products(self, others: NDArray) -> Any:
        return cross_gram(self._x, others, self._mean, self._roots, self.backend, self._precision)

    def _rows(self, alpha: float, others: NDArray, cross: Any) -> NDArray[np.float64]:
        right = cross if cross is not None else self._centered(others)
        rows = self._solve(alpha, right.T).T
        if not self._dual:
            rows = rows @ self._centered(self._x).T
        result = self.backend.to_numpy(rows)
        if self._roots is not None:
            result = result * (self._roots if self._dual else self._roots**2)
        if self.center:
            shares = np.ones(len(self._x)) if self.weights is None else self.weights
            result = result + shares / shares.sum()
        return np.ascontiguousarray(result)

    def _centered(self, values: NDArray) -> Any:
        return self.backend.asarray(subtract(values, self._mean, self._precision), self._precision)

    def _solve(self, alpha: float, right: Any) -> Any:
        """Return ``inverse(gram + alpha) @ right``; without regularization, by the pseudoinverse."""
        if self._decomposed is not None:
            return self._divide(self._decomposed.singular_values, self._decomposed.vectors, alpha, right)
        side = np.arange(len(self._gram))
        matrix = self._gram * 1.0
        if alpha > _SINGULAR * float(self._gram[side, side].sum()):
            matrix[side, side] += alpha
            return solve_positive(matrix, right, self.backend, what="responses cannot be regressed on")
        singular, vectors = decompose(self.backend.asarray(matrix, "float64"), max(self._x.shape), self.backend)
        return self._divide(singular, vectors, alpha, self.backend.asarray(right, "float64"))

    def _divide(self, singular: NDArray[np.float64], vectors: Any, alpha: float, right: Any) -> Any:
        return (vectors / self.backend.asarray(singular**2 + alpha, "float64")) @ (vectors.T @ right)


def check_samples(targets: Targets, n_samples: int) -> None:
    """Raise an InputError where targets are of other samples than responses."""
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
            "responses are not a table of finite numbers",
            given=f"{name} of shape {found.shape}",
            expected="finite numbers of shape (sample, voxel)",
        )
    return found
