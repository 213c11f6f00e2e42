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

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.backend import Backend
from neurorecon.decoders.products import centered_blocks, gram, means, subtract
from neurorecon.errors import InputError


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


@dataclass(frozen=True)
class Spectrum:
    """Singular values of centered inputs and the vectors of their smaller side: all that cross-validation needs.

    Parameters
    ----------
    backend : Backend
        Where the vectors are.
    x_mean : array, shape (feature,)
        Means of the inputs, float64.
    roots : array, shape (sample,), optional
        Roots of the sample weights, float64.
    dual : bool
        Whether `vectors` are those of the samples (left) rather than of the features (right).
    singular_values : array, shape (component,)
        Descending, float64, NumPy.
    vectors : array, shape (side, component)
        Float64.
    """

    backend: Backend
    x_mean: NDArray[np.float64]
    roots: NDArray[np.float64] | None
    dual: bool
    singular_values: NDArray[np.float64]
    vectors: Any

    def complete(self, x: NDArray, dtype: str) -> Factorization:
        """Return the factorization with the vectors of both sides, `x` being the inputs of the spectrum."""
        backend, axis = self.backend, 1 if self.dual else 0
        scaled = self.vectors / backend.asarray(self.singular_values, "float64")
        other = np.empty((x.shape[axis], len(self.singular_values)), dtype=dtype)
        for block, part in centered_blocks(x, self.x_mean, self.roots, axis, backend):
            other[block] = backend.to_numpy((part.T if self.dual else part) @ scaled)
        first, second = backend.asarray(self.vectors, dtype), backend.asarray(other, dtype)
        u, v = (first, second) if self.dual else (second, first)
        return Factorization(backend, dtype, self.x_mean, u, self.singular_values, v)


def spectrum(
    x: NDArray, backend: Backend, solver: str = "auto", weights: NDArray | None = None, center: bool = True
) -> Spectrum:
    """Decompose the smaller (or the chosen) Gram matrix of inputs; parameters as for :func:`factorize`."""
    mean = means(x, weights, center)
    roots = None if weights is None else np.sqrt(weights.astype(np.float64))
    dual = is_dual(x.shape, solver)
    singular, vectors = decompose(gram(x, mean, roots, backend, dual=dual), max(x.shape), backend)
    return Spectrum(backend, mean, roots, dual, singular, vectors)


def is_dual(shape: tuple[int, ...], solver: str) -> bool:
    """Return whether the products of the samples are decomposed rather than those of the features."""
    return shape[0] <= shape[1] if solver == "auto" else solver == "dual"


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
    return spectrum(x, backend, solver, weights, center).complete(x, dtype)


def decompose(gram: Any, largest_side: int, backend: Backend) -> tuple[NDArray[np.float64], Any]:
    """Return singular values and vectors of inputs whose Gram matrix this is.

    Parameters
    ----------
    gram : array, shape (side, side)
        ``X X'`` or ``X' X`` in float64, on the backend's device; of a NumPy array the lower triangle is read.
        It may be overwritten.
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


def solve_positive(matrix: Any, right: Any, backend: Backend, *, what: str) -> Any:
    """Return ``inverse(matrix) @ right`` of a symmetric positive definite matrix, float64, on the device.

    `what` is said in the InputError where the matrix is singular. `matrix` may be overwritten; of a NumPy array the
    lower triangle is read.
    """
    if backend.is_numpy:
        from scipy.linalg import LinAlgError, cho_factor, cho_solve

        try:
            factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError as error:
            raise InputError(what, todo="give an alpha above zero, or more samples") from error
        return cho_solve(factor, right, check_finite=False)
    import torch

    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        raise InputError(what, todo="give an alpha above zero, or more samples")
    return torch.cholesky_solve(right, factor)


def _columns(vectors: Any, rank: int) -> Any:
    """Return the last `rank` columns in reverse order, contiguous."""
    if isinstance(vectors, np.ndarray):
        return np.ascontiguousarray(vectors[:, ::-1][:, :rank])
    return vectors.flip(1)[:, :rank].contiguous()


def project(
    factors: Factorization, y: NDArray, weights: NDArray | None, center: bool
) -> tuple[Any, NDArray[np.float64]]:
    """Return ``U'Y`` of a block of targets, (component, target), and their means, (target,)."""
    centered, mean = center_targets(y, weights, center, factors.backend, factors.dtype)
    return factors.u.T @ centered, mean


def center_targets(
    y: NDArray, weights: NDArray | None, center: bool, backend: Backend, dtype: str
) -> tuple[Any, NDArray[np.float64]]:
    """Return centered targets times the roots of the weights, on the device, and their means, (target,)."""
    mean = means(y, weights, center)
    centered = backend.asarray(y - mean.astype(y.dtype), dtype)
    if weights is not None:
        centered *= backend.asarray(np.sqrt(weights)[:, None], dtype)
    return centered, mean
