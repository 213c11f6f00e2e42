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
from neurorecon.errors import InputError

#: Columns or rows of X that are held in double precision at once.
_BLOCK = 2048

#: Rows and columns of a matrix that are transposed at once.
_TILE = 256


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
        for block, part in _centered_blocks(x, self.x_mean, self.roots, axis, backend):
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


def gram(
    x: NDArray,
    mean: NDArray[np.float64],
    roots: NDArray | None,
    backend: Backend,
    *,
    dual: bool,
    dtype: str = "float64",
) -> Any:
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
    dtype : {"float64", "float32"}
        Precision of the products. Single precision is half the work, and serves where alpha is strong.

    Returns
    -------
    array
        In that precision, on the backend's device.
    """
    total: Any = None
    for _, part in _centered_blocks(x, mean, roots, 1 if dual else 0, backend, dtype):
        total = _add_products(total, part, dual)
    return _both_triangles(total)


def gram_and_cross(
    x: NDArray,
    others: NDArray,
    mean: NDArray,
    roots: NDArray | None,
    backend: Backend,
    dtype: str = "float64",
) -> tuple[Any, Any]:
    """Return ``X X'`` and the products of other samples with those of the inputs, from one look at the inputs.

    Parameters are those of :func:`gram` and :func:`cross_gram`.
    """
    total: Any = None
    cross: Any = None
    blocks = _centered_blocks(x, mean, roots, 1, backend, dtype)
    for (_, part), (_, other) in zip(blocks, _centered_blocks(others, mean, None, 1, backend, dtype), strict=True):
        total = _add_products(total, part, dual=True)
        product = other @ part.T
        cross = product if cross is None else cross + product
    return _both_triangles(total), cross


def _add_products(total: Any, part: Any, dual: bool) -> Any:
    """Return ``total + part @ part.T`` (dual) or ``total + part.T @ part``; of NumPy arrays the lower triangle only.

    Half of a symmetric product, added to in place: NumPy's own product of a matrix with its transpose copies the
    other triangle each time, which takes longer than the product itself where blocks are thin.
    """
    if not isinstance(part, np.ndarray):
        product = part @ part.T if dual else part.T @ part
        return product if total is None else total + product
    from scipy.linalg import get_blas_funcs

    # Transposed, a C-ordered array is in the order that BLAS wants, without a copy.
    columns = np.ascontiguousarray(part).T
    (multiply,) = get_blas_funcs(("syrk",), (columns,))
    if total is None:
        return multiply(1.0, columns, trans=int(dual), lower=1)
    return multiply(1.0, columns, beta=1.0, c=total, trans=int(dual), lower=1, overwrite_c=1)


def _both_triangles(total: Any) -> Any:
    """Fill in the upper triangle of a NumPy array from the lower one, in tiles that fit into a cache."""
    if isinstance(total, np.ndarray):
        for start in range(0, len(total), _TILE):
            tile = slice(start, start + _TILE)
            lower = np.tril(total[tile, tile])
            total[tile, tile] = lower + np.tril(lower, -1).T
            for below in range(start + _TILE, len(total), _TILE):
                total[tile, below : below + _TILE] = total[below : below + _TILE, tile].T
    return total


def cross_gram(
    x: NDArray, others: NDArray, mean: NDArray, roots: NDArray | None, backend: Backend, dtype: str = "float64"
) -> Any:
    """Return products of other samples with those of the inputs, (other, sample), on the device.

    `mean` is subtracted from both; `roots`, (sample,), weight the inputs alone.
    """
    total: Any = None
    blocks = _centered_blocks(x, mean, roots, 1, backend, dtype)
    for (_, part), (_, other) in zip(blocks, _centered_blocks(others, mean, None, 1, backend, dtype), strict=True):
        product = other @ part.T
        if total is None:
            total = product
        else:
            total += product
    return total


def recenter(gram: Any, roots: NDArray | None, backend: Backend) -> Any:
    """Return the products of samples about their own (weighted) mean, from products about any other point.

    So the Gram matrix of some samples is that of all, cut out and centered again, without another look at the
    features. `roots`, (sample,), are those that the matrix was weighted with.
    """
    unit = backend.asarray(unit_vector(len(gram), roots), "float64")
    row = unit @ gram
    # (1 - u u') G (1 - u u')
    return gram - unit[:, None] * row - (gram @ unit)[:, None] * unit + (row @ unit) * unit[:, None] * unit


def unit_vector(n_samples: int, roots: NDArray | None) -> NDArray[np.float64]:
    """Return the direction of the intercept in the space of the (weighted) samples, of length 1."""
    vector = np.ones(n_samples) if roots is None else roots.astype(np.float64)
    return vector / np.linalg.norm(vector)


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


def solve_positive(matrix: Any, right: Any, backend: Backend, *, what: str) -> Any:
    """Return ``inverse(matrix) @ right`` of a symmetric positive definite matrix, float64, on the device.

    `what` is said in the InputError where the matrix is singular. `matrix` may be overwritten.
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


def means(values: NDArray, weights: NDArray | None, center: bool) -> NDArray[np.float64]:
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


def _centered_blocks(
    x: NDArray, mean: NDArray, roots: NDArray | None, axis: int, backend: Backend, dtype: str = "float64"
) -> Iterator[tuple[slice, Any]]:
    """Yield columns (axis 1) or rows (axis 0) of the centered, weighted inputs; centered in double precision."""
    for start in range(0, x.shape[axis], _BLOCK):
        block = slice(start, start + _BLOCK)
        rows, columns = (slice(None), block) if axis == 1 else (block, slice(None))
        part = x[rows, columns].astype(np.float64) - mean[columns]
        if roots is not None:
            part *= roots[rows, None]
        yield block, backend.asarray(part, dtype)


def project(
    factors: Factorization, y: NDArray, weights: NDArray | None, center: bool
) -> tuple[Any, NDArray[np.float64]]:
    """Return ``U'Y`` of a block of targets, (component, target), and their means, (target,)."""
    centered, mean = center_targets(factors, y, weights, center)
    return factors.u.T @ centered, mean


def center_targets(
    factors: Factorization, y: NDArray, weights: NDArray | None, center: bool
) -> tuple[Any, NDArray[np.float64]]:
    """Return centered targets times the roots of the weights, on the device, and their means, (target,)."""
    mean = means(y, weights, center)
    centered = factors.backend.asarray(y - mean.astype(y.dtype), factors.dtype)
    if weights is not None:
        centered = centered * factors.backend.asarray(np.sqrt(weights)[:, None], factors.dtype)
    return centered, mean


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
