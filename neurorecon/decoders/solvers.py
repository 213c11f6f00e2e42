"""Solvers of ridge regression on plain arrays, in blocks, on the processor or a GPU.

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

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.errors import InputError
from neurorecon.parallel import choose_device

#: Where regressions can run: NumPy, torch on the processor, or a graphics card. Others lack double precision.
DEVICES = ("cpu", "torch", "cuda")

#: himalaya keeps its backend in a module global, so two threads must not use it at once.
_HIMALAYA_LOCK = threading.RLock()


class Backend:
    """Arrays on one device.

    Parameters
    ----------
    device : str
        ``"cpu"`` computes with NumPy; ``"torch"`` with torch on the processor; ``"cuda"`` or ``"cuda:1"``
        with torch on a graphics card.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = choose_device(device, DEVICES)

    @property
    def is_numpy(self) -> bool:
        """Whether arrays are NumPy's."""
        return self.device == "cpu"

    def asarray(self, array: Any, dtype: str) -> Any:
        """Put an array on the device."""
        if self.is_numpy:
            return np.asarray(array, dtype=dtype)
        import torch

        if not isinstance(array, torch.Tensor):
            # A copy where the array cannot be written to: torch warns about those.
            array = np.asarray(array, dtype=dtype)
            array = torch.from_numpy(array if array.flags.writeable else array.copy())
        place = "cpu" if self.device == "torch" else self.device
        return array.to(device=place, dtype=getattr(torch, dtype))

    def to_numpy(self, array: Any) -> NDArray:
        """Bring an array back to NumPy."""
        return array if isinstance(array, np.ndarray) else array.cpu().numpy()

    def eigh(self, matrix: Any) -> tuple[Any, Any]:
        """Return eigenvalues, ascending, and eigenvectors of a symmetric matrix, which may be overwritten."""
        if self.is_numpy:
            from scipy.linalg import eigh

            return eigh(matrix, driver="evd", overwrite_a=True, check_finite=False)
        import torch

        return tuple(torch.linalg.eigh(matrix))


@contextmanager
def himalaya_backend(device: str = "cpu", threads: int | None = None) -> Iterator[Any]:
    """Set himalaya's backend, and set the one before it again at the end, whatever happens.

    On the processor this is himalaya's torch backend: its NumPy backend diagonalizes with a LAPACK routine
    that takes twice as long and multiplies stacks of matrices more slowly (banded ridge with 1,000 samples,
    2,500 targets and 10 mixtures on 2 cores: 35 s against 11 s).

    Parameters
    ----------
    device : str
        As for :class:`Backend`.
    threads : int, optional
        Threads that torch may take meanwhile. On small problems one is as quick as several, and several wait for
        each other where other programs compute too: seconds become a minute.

    Yields
    ------
    module
        himalaya's backend module.
    """
    from himalaya.backend import get_backend, set_backend

    name = "torch" if choose_device(device, DEVICES) in ("cpu", "torch") else "torch_cuda"
    with _HIMALAYA_LOCK:
        before = get_backend()
        try:
            backend = set_backend(name)
            with _torch_threads(threads):
                yield backend
        finally:
            set_backend(before)


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
