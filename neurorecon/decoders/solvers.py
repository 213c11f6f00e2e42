"""Ridge regression through one factorization, as functions on plain arrays.

With the singular value decomposition of the centered inputs, ``X = U S V'``, the weights of ridge regression
are ``V C`` with ``C = S / (S ** 2 + alpha) * U'Y``. The factorization is independent of targets and alpha:
many targets are streamed through it in blocks, and each further alpha costs a product with a diagonal.

It is computed from the smaller of the Gram matrix X X' (the dual) and X' X (the primal), in double precision
throughout, since its cost does not depend on the number of targets; what is as large as the targets is kept
in the precision asked for. Predictions are made from ``(x V) C`` rather than from dual coefficients ``K a``:
the same numbers in exact arithmetic, but dual coefficients grow as 1 / alpha and lose single precision where
alpha is small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.backend import Backend
from neurorecon.decoders.folds import Fold
from neurorecon.decoders.targets import Targets
from neurorecon.errors import InputError

#: Columns or rows of X that are held in double precision at once.
_BLOCK = 2048


@dataclass(frozen=True)
class Factorization:
    """Thin singular value decomposition of centered inputs, on the backend's device.

    Parameters
    ----------
    backend : Backend
        Where the arrays are.
    dtype : str
        Their precision.
    x_mean : array, shape (feature,)
        Means of the inputs, float64.
    u : array, shape (sample, component)
        Left singular vectors. With sample weights, of the rows times the roots of their weights.
    singular_values : array, shape (component,)
        Float64, NumPy.
    v : array, shape (feature, component)
        Right singular vectors.
    """

    backend: Backend
    dtype: str
    x_mean: NDArray[np.float64]
    u: Any
    singular_values: NDArray[np.float64]
    v: Any

    def shrinkage(self, alpha: float) -> NDArray[np.float64]:
        """Return ``s / (s ** 2 + alpha)``, shape (component,)."""
        return self.singular_values / (self.singular_values**2 + alpha)

    def components(self, x: Any) -> Any:
        """Return inputs as coordinates along the right singular vectors, (sample, component)."""
        return self.backend.asarray(subtract(x, self.x_mean, self.dtype), self.dtype) @ self.v


def factorize(
    x: NDArray,
    backend: Backend,
    dtype: str,
    solver: str = "auto",
    weights: NDArray | None = None,
    center: bool = True,
) -> Factorization:
    """Decompose inputs.

    Parameters
    ----------
    x : array, shape (sample, feature)
        Inputs.
    backend : Backend
        Where to compute.
    dtype : {"float32", "float64"}
        Precision of the singular vectors that are kept. They are computed in float64.
    solver : {"auto", "dual", "primal"}
        Diagonalize X X', X' X, or the smaller of the two.
    weights : array, shape (sample,), optional
        Sample weights.
    center : bool
        Subtract the (weighted) mean of each feature.

    Returns
    -------
    Factorization
        Components in the order of descending singular values; directions without variance are left out.
    """
    mean = _means(x, weights, center)
    roots = None if weights is None else np.sqrt(weights.astype(np.float64))
    dual = x.shape[0] <= x.shape[1] if solver == "auto" else solver == "dual"
    singular, kept = decompose(gram(x, mean, roots, backend, dual=dual), max(x.shape), backend)
    scaled = kept / backend.asarray(singular, "float64")
    axis = 1 if dual else 0
    other = np.empty((x.shape[axis], len(singular)), dtype=dtype)
    for block, part in _double_blocks(x, mean, roots, axis, backend):
        other[block] = backend.to_numpy((part.T if dual else part) @ scaled)
    first, second = backend.asarray(kept, dtype), backend.asarray(other, dtype)
    u, v = (first, second) if dual else (second, first)
    return Factorization(backend, dtype, mean, u, singular, v)


def gram(x: NDArray, mean: NDArray[np.float64], roots: NDArray | None, backend: Backend, *, dual: bool) -> Any:
    """Return the products of the samples (dual) or of the features of centered, weighted inputs.

    Parameters
    ----------
    x : array, shape (sample, feature)
        Inputs.
    mean : array, shape (feature,)
        Subtracted first, in float64.
    roots : array, shape (sample,), optional
        Roots of the sample weights.
    backend : Backend
        Where to compute.
    dual : bool
        ``X X'`` of shape (sample, sample) rather than ``X' X`` of shape (feature, feature).

    Returns
    -------
    array
        Float64, on the backend's device.
    """
    total: Any = None
    for _, part in _double_blocks(x, mean, roots, 1 if dual else 0, backend):
        product = part @ part.T if dual else part.T @ part
        total = product if total is None else total + product
    return total


def decompose(gram: Any, largest_side: int, backend: Backend) -> tuple[NDArray[np.float64], Any]:
    """Return singular values and vectors of inputs whose Gram matrix this is.

    Parameters
    ----------
    gram : array, shape (side, side)
        ``X X'`` or ``X' X`` in float64, on the backend's device. It may be overwritten.
    largest_side : int
        The larger of the numbers of samples and features: with it grow the rounding errors below which
        directions count as without variance.
    backend : Backend
        Where to compute.

    Returns
    -------
    singular_values : array, shape (component,)
        Descending, NumPy. Directions without variance are left out.
    vectors : array, shape (side, component)
        Float64, on the device: left singular vectors of X from ``X X'``, right ones from ``X' X``.
    """
    values, vectors = backend.eigh(gram)
    values = backend.to_numpy(values)[::-1]
    # Eigenvalues of a Gram matrix are exact to about max(shape) rounding errors of the largest one.
    rank = int((values > max(values[0], 0) * largest_side * np.finfo(np.float64).eps).sum())
    return np.sqrt(values[:rank]), backend.asarray(_columns(vectors, rank), "float64")


def _means(values: NDArray, weights: NDArray | None, center: bool) -> NDArray[np.float64]:
    """Return the (weighted) mean of each column in double precision, or zeros."""
    if not center:
        return np.zeros(values.shape[1])
    if weights is None:
        return values.mean(axis=0, dtype=np.float64)
    return np.average(values.astype(np.float64), axis=0, weights=weights)


def subtract(x: NDArray, mean: NDArray[np.float64], dtype: str) -> NDArray:
    """Return ``x - mean``, subtracted in double precision: raw BOLD has means far above its variation."""
    return (x.astype(np.float64) - mean).astype(dtype)


def _columns(vectors: Any, rank: int) -> Any:
    """Return the last `rank` columns in reverse order, contiguous."""
    if isinstance(vectors, np.ndarray):
        return np.ascontiguousarray(vectors[:, ::-1][:, :rank])
    return vectors.flip(1)[:, :rank].contiguous()


def _double_blocks(
    x: NDArray, mean: NDArray, roots: NDArray | None, axis: int, backend: Backend
) -> Iterator[tuple[slice, Any]]:
    """Yield columns (axis 1) or rows (axis 0) of the centered, weighted inputs in double precision."""
    for start in range(0, x.shape[axis], _BLOCK):
        block = slice(start, start + _BLOCK)
        rows, columns = (slice(None), block) if axis == 1 else (block, slice(None))
        part = x[rows, columns].astype(np.float64) - mean[columns]
        if roots is not None:
            part *= roots[rows, None]
        yield block, backend.asarray(part, "float64")


def project(factors: Factorization, y: NDArray, weights: NDArray | None, center: bool) -> tuple[Any, NDArray]:
    """Return ``U'Y`` of a block of targets, (component, target), and their means, (target,)."""
    mean = _means(y, weights, center)
    centered = factors.backend.asarray(y - mean.astype(y.dtype), factors.dtype)
    if weights is not None:
        centered = centered * factors.backend.asarray(np.sqrt(weights)[:, None], factors.dtype)
    return factors.u.T @ centered, mean


def fit_targets(
    factors: Factorization, targets: Targets, alpha: NDArray, weights: NDArray | None, center: bool
) -> tuple[NDArray, NDArray]:
    """Stream targets through a factorization.

    Parameters
    ----------
    factors : Factorization
        Of the inputs.
    targets : Targets
        Targets in blocks.
    alpha : array, shape () or (target,)
        Regularization, one for all targets or one for each.
    weights : array, shape (sample,), optional
        Sample weights.
    center : bool
        Fit an intercept.

    Returns
    -------
    coordinates : array, shape (component, target)
        Weights in the space of the components: the weights of ridge regression are ``v @ coordinates``.
    y_mean : array, shape (target,)
        Float64.
    """
    coordinates = np.empty((len(factors.singular_values), targets.n_targets), dtype=factors.dtype)
    means = np.empty(targets.n_targets)
    for block, y in targets.blocks():
        projected, means[block] = project(factors, y, weights, center)
        strength = np.atleast_1d(alpha if alpha.ndim == 0 else alpha[block])
        shrinkage = factors.singular_values[:, None] / (factors.singular_values[:, None] ** 2 + strength)
        coordinates[:, block] = factors.backend.to_numpy(factors.backend.asarray(shrinkage, factors.dtype) * projected)
    return coordinates, means


def cross_validate(
    x: NDArray,
    targets: Targets,
    alphas: NDArray,
    folds: list[Fold],
    *,
    backend: Backend,
    dtype: str,
    solver: str,
    per_target: bool,
    weights: NDArray | None,
    center: bool,
) -> NDArray[np.float64]:
    """Return the mean squared error of each alpha on held-out samples, averaged over folds.

    Returns
    -------
    errors : array, shape (alpha,) or (alpha, target)
        Averaged over targets unless `per_target`.
    """
    errors = np.zeros((len(alphas), targets.n_targets) if per_target else len(alphas))
    for train, test in folds:
        train_weights = None if weights is None else weights[train]
        factors = factorize(x[train], backend, dtype, solver, train_weights, center)
        held_out = _HeldOut(factors, x, train, test, weights, center)
        if per_target:
            for block, y in targets.blocks():
                errors[:, block] += held_out.errors_by_target(y, alphas)
        else:
            errors += held_out.errors(targets, alphas)
    return errors / len(folds)


class _HeldOut:
    """Errors on the held-out samples of one fold."""

    def __init__(
        self,
        factors: Factorization,
        x: NDArray,
        train: NDArray,
        test: NDArray,
        weights: NDArray | None,
        center: bool,
    ) -> None:
        self.factors, self.train, self.test, self.center = factors, train, test, center
        self.train_weights = None if weights is None else weights[train]
        backend, dtype = factors.backend, factors.dtype
        roots = np.ones(len(test)) if weights is None else np.sqrt(weights[test])
        self.total_weight = float((roots**2).sum()) or 1.0
        self.roots = backend.asarray(roots[:, None], dtype)
        self.inputs = factors.components(x[test]) * self.roots

    def split(self, y: NDArray) -> tuple[Any, Any]:
        """Return projected training targets and centered held-out targets, (sample, target)."""
        projected, mean = project(self.factors, y[self.train], self.train_weights, self.center)
        held_out = self.factors.backend.asarray(y[self.test] - mean.astype(y.dtype), self.factors.dtype)
        return projected, held_out * self.roots

    def errors_by_target(self, y: NDArray, alphas: NDArray) -> NDArray[np.float64]:
        """Return errors of shape (alpha, target)."""
        backend = self.factors.backend
        projected, held_out = self.split(y)
        errors = np.empty((len(alphas), y.shape[1]))
        for row, alpha in zip(errors, alphas, strict=True):
            shrinkage = backend.asarray(self.factors.shrinkage(alpha)[:, None], self.factors.dtype)
            residual = held_out - self.inputs @ (shrinkage * projected)
            row[:] = backend.to_numpy((residual**2).sum(0))
        return errors / self.total_weight

    def errors(self, targets: Targets, alphas: NDArray) -> NDArray[np.float64]:
        """Return errors of shape (alpha,), averaged over targets.

        With A the held-out inputs, B the projected training targets and d the shrinkage, predictions are
        ``A diag(d) B``, so the sum of squared errors over all targets is ``sum(y ** 2) - 2 d.c + d'Qd`` with
        ``c = diag(A'y B')`` and ``Q = A'A * BB'``: sums over targets that no alpha enters. All alphas
        together cost as much as one.
        """
        backend = self.factors.backend
        n_components = len(self.factors.singular_values)
        total, cross = 0.0, np.zeros(n_components)
        quadratic = np.zeros((n_components, n_components))
        for _, y in targets.blocks():
            projected, held_out = self.split(y)
            total += float((held_out**2).sum())
            products = (self.inputs.T @ held_out) * projected
            cross += backend.to_numpy(products.sum(1))
            quadratic += backend.to_numpy(projected @ projected.T)
        quadratic *= backend.to_numpy(self.inputs.T @ self.inputs)
        shrinkages = [self.factors.shrinkage(alpha) for alpha in alphas]
        errors = np.array([total - 2 * d @ cross + d @ quadratic @ d for d in shrinkages])
        return errors / (self.total_weight * targets.n_targets)


def check_alphas(alphas: Any) -> NDArray[np.float64]:
    """Return alphas as float64, shape () or (alpha,)."""
    values = np.asarray(alphas, dtype=np.float64)
    if values.ndim > 1 or not values.size or not np.isfinite(values).all() or (values < 0).any():
        raise InputError(
            "alpha is not a regularization strength",
            given=repr(alphas),
            expected="a number of 0 or more, or a sequence of candidates",
        )
    return values
