"""Centered inputs and their products, in blocks: what every factorization of ridge regression starts from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.backend import Backend

#: Columns or rows of X that are centered at once: as many as fit into this many values, and at least so many.
_BLOCK_VALUES, _LEAST = 2**23, 2048

#: Means of at most this share of the mean square are taken from products instead of inputs: 1 % more rounding.
_NEAR_ZERO = 0.01


def means(values: NDArray, weights: NDArray | None, center: bool) -> NDArray[np.float64]:
    """Return the (weighted) mean of each column in double precision, or zeros."""
    if not center:
        return np.zeros(values.shape[1])
    if weights is None:
        return values.mean(axis=0, dtype=np.float64)
    return np.average(values.astype(np.float64), axis=0, weights=weights)


def subtract(x: NDArray, mean: NDArray[np.float64], dtype: str) -> NDArray:
    """Return ``x - mean``, subtracted in double precision: raw BOLD has means far above its variation.

    NumPy converts a few thousand values at a time, so that nothing but the result is as large as `x`.
    """
    return np.subtract(x, mean, out=np.empty(x.shape, dtype), dtype=np.float64, casting="same_kind")


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
        In that precision, on the backend's device. Of NumPy arrays the lower triangle alone, which is what
        factorizations read: filling in the other one would take a pass over memory that nobody needs.
    """
    total: Any = None
    for _, part in centered_blocks(x, mean, roots, 1 if dual else 0, backend, dtype):
        total = _add_products(total, part, dual)
    return total


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
    as_they_are = backend.is_numpy and roots is None and x.dtype == others.dtype == dtype and x.flags.c_contiguous
    if as_they_are and _lie_around_zero(x, mean):
        return _gram_and_cross_without_copy(x, others, mean)
    total: Any = None
    cross: Any = None
    for part, other in _pairs_of_blocks(x, others, mean, roots, backend, dtype):
        total = _add_products(total, part, dual=True)
        product = other @ part.T
        cross = product if cross is None else cross + product
    return total, cross


def _lie_around_zero(x: NDArray, mean: NDArray) -> bool:
    """Return whether means are so small that products about zero lose no precision; from some 64 samples."""
    some = x[:: max(1, len(x) // 64)].astype(np.float64)
    return float(mean @ mean) <= _NEAR_ZERO * float(np.square(some).sum(axis=1).mean())


def _gram_and_cross_without_copy(x: NDArray, others: NDArray, mean: NDArray) -> tuple[NDArray, NDArray]:
    """Return products about the mean from those about zero: ``(x - m)'(y - m) = x'y - x'm - y'm + m'm``."""
    from scipy.linalg import get_blas_funcs

    total, cross = _add_products(None, x, dual=True), others @ x.T
    vector, square = mean.astype(x.dtype), float(mean @ mean)
    along = x @ vector
    (add_outer_products,) = get_blas_funcs(("syr2",), (total,))
    ones = np.ones(len(x), dtype=x.dtype)
    total = add_outer_products(-1.0, ones, along - x.dtype.type(square / 2), lower=1, a=total, overwrite_a=1)
    cross -= (others @ vector)[:, None] + (along - x.dtype.type(square))
    return total, cross


def cross_gram(
    x: NDArray, others: NDArray, mean: NDArray, roots: NDArray | None, backend: Backend, dtype: str = "float64"
) -> Any:
    """Return products of other samples with those of the inputs, (other, sample), on the device.

    `mean` is subtracted from both; `roots`, (sample,), weight the inputs alone.
    """
    total: Any = None
    for part, other in _pairs_of_blocks(x, others, mean, roots, backend, dtype):
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


def centered_blocks(
    x: NDArray, mean: NDArray, roots: NDArray | None, axis: int, backend: Backend, dtype: str = "float64"
) -> Iterator[tuple[slice, Any]]:
    """Yield columns (axis 1) or rows (axis 0) of the centered, weighted inputs, and which they are."""
    step = max(_LEAST, _BLOCK_VALUES // max(1, x.shape[1 - axis]))
    for start in range(0, x.shape[axis], step):
        block = slice(start, start + step)
        rows, columns = (slice(None), block) if axis == 1 else (block, slice(None))
        part = subtract(x[rows, columns], mean[columns], dtype)
        if roots is not None:
            part *= roots[rows, None]
        yield block, backend.asarray(part, dtype)


def _pairs_of_blocks(
    x: NDArray, others: NDArray, mean: NDArray, roots: NDArray | None, backend: Backend, dtype: str
) -> Iterator[tuple[Any, Any]]:
    """Yield the same centered columns of the (weighted) inputs and of other samples."""
    for columns, part in centered_blocks(x, mean, roots, 1, backend, dtype):
        yield part, backend.asarray(subtract(others[:, columns], mean[columns], dtype), dtype)


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
