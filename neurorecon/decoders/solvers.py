"""Solve ridge regressions on plain arrays, in blocks, on the CPU or a GPU.

With the singular value decomposition of the centered inputs, ``X = U S V'``, the weights of ridge regression are
``V C``, where ``C = S / (S ** 2 + alpha) * U'Y``. The factorization does not depend on targets or alpha: targets are
streamed through it in blocks, and each additional alpha costs a product with a diagonal matrix.

The factorization is computed from the smaller one of the Gram matrices X X' (dual) and X' X (primal). It always uses
double precision, as its cost does not depend on the number of targets. Arrays as large as the targets have the
requested precision. Predictions are computed as ``(x V) C`` rather than from dual coefficients ``K a``. Both are equal
in exact arithmetic, but dual coefficients grow as 1 / alpha and lose precision if alpha is small.
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

#: Devices: NumPy, torch on the CPU, and CUDA. Others lack double precision.
DEVICES = ("cpu", "torch", "cuda")

#: himalaya keeps its backend in a module global, so two threads must not use it at once.
_HIMALAYA_LOCK = threading.RLock()


class Backend:
    """Array functions on one device.

    Parameters
    ----------
    device : str
        ``"cpu"`` computes with NumPy, ``"torch"`` with torch on the CPU, and ``"cuda"`` or ``"cuda:1"`` with torch on
        a GPU.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = choose_device(device, DEVICES)

    @property
    def is_numpy(self) -> bool:
        """Whether arrays are NumPy arrays."""
        return self.device == "cpu"

    def asarray(self, array: Any, dtype: str) -> Any:
        """Put an array on the device."""
        if self.is_numpy:
            return np.asarray(array, dtype=dtype)
        import torch

        if not isinstance(array, torch.Tensor):
            # torch warns about read-only arrays, so copy those.
            array = np.asarray(array, dtype=dtype)
            array = torch.from_numpy(array if array.flags.writeable else array.copy())
        device = "cpu" if self.device == "torch" else self.device
        return array.to(device=device, dtype=getattr(torch, dtype))

    def to_numpy(self, array: Any) -> NDArray:
        """Convert an array to NumPy."""
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
    """Set himalaya's backend inside a context, and restore the previous one at the end.

    On the CPU, himalaya's torch backend is used, as its NumPy backend has a slower eigendecomposition and slower
    products of stacked matrices (banded ridge with 1,000 samples, 2,500 targets and 10 mixtures on 2 cores: 35 s versus
    11 s).

    Parameters
    ----------
    device : str
        See :class:`Backend`.
    threads : int, optional
        Maximum number of torch threads. For small problems, one thread is as fast as several, and much faster if other
        programs are running.

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


#: Maximum number of values, and minimum number of columns or rows, centered at once.
_BLOCK_VALUES, _LEAST = 2**23, 2048

#: Below this ratio of squared mean to mean square, products are centered instead of inputs: 1 % more rounding.
_NEAR_ZERO = 0.01


def means(values: NDArray, weights: NDArray | None, center: bool) -> NDArray[np.float64]:
    """Return the (weighted) mean of each column in double precision, or zeros."""
    if not center:
        return np.zeros(values.shape[1])
    if weights is None:
        return values.mean(axis=0, dtype=np.float64)
    return np.average(values.astype(np.float64), axis=0, weights=weights)


def subtract(x: NDArray, mean: NDArray[np.float64], dtype: str) -> NDArray:
    """Return ``x - mean``, subtracted in double precision, as raw BOLD has means far above its variation.

    NumPy converts a few thousand values at a time, so there is no temporary array as large as `x`.
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
    """Return the Gram matrix of centered, weighted inputs, between samples (dual) or between features.

    Parameters
    ----------
    x : array, shape (sample, feature)
        Inputs.
    mean : array, shape (feature,)
        Mean of each feature, subtracted in float64.
    roots : array, shape (sample,), optional
        Square roots of the sample weights.
    backend : Backend
        Device.
    dual : bool
        Compute ``X X'``, (sample, sample), rather than ``X' X``, (feature, feature).
    dtype : {"float64", "float32"}
        Precision of the products. Single precision takes half the time, and is sufficient for large alphas.

    Returns
    -------
    array
        Gram matrix on the device. Of NumPy arrays, only the lower triangle is filled, as factorizations do not read
        the upper one.
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
    """Return ``X X'`` and the products of other samples with the inputs, in one pass over the inputs.

    See :func:`gram` and :func:`cross_gram` for the parameters.
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
    """Return whether means are so small that uncentered products keep precision, judged by about 64 samples."""
    some = x[:: max(1, len(x) // 64)].astype(np.float64)
    return float(mean @ mean) <= _NEAR_ZERO * float(np.square(some).sum(axis=1).mean())


def _gram_and_cross_without_copy(x: NDArray, others: NDArray, mean: NDArray) -> tuple[NDArray, NDArray]:
    """Return centered products from uncentered ones: ``(x - m)'(y - m) = x'y - x'm - y'm + m'm``."""
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
    """Return products of other samples with the inputs, (other, sample), on the device.

    `mean` is subtracted from both. `roots`, (sample,), only weight the inputs.
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
    """Return the unit vector of the intercept in the space of the (weighted) samples."""
    vector = np.ones(n_samples) if roots is None else roots.astype(np.float64)
    return vector / np.linalg.norm(vector)


def centered_blocks(
    x: NDArray, mean: NDArray, roots: NDArray | None, axis: int, backend: Backend, dtype: str = "float64"
) -> Iterator[tuple[slice, Any]]:
    """Yield slices and blocks of columns (axis 1) or rows (axis 0) of the centered, weighted inputs."""
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
    """Yield matching blocks of centered columns of the (weighted) inputs and of other samples."""
    for columns, part in centered_blocks(x, mean, roots, 1, backend, dtype):
        yield part, backend.asarray(subtract(others[:, columns], mean[columns], dtype), dtype)


def _add_products(total: Any, part: Any, dual: bool) -> Any:
    """Return ``total + part @ part.T`` (dual) or ``total + part.T @ part``; of NumPy arrays, the lower triangle only.

    BLAS computes and adds half of the symmetric product in place. NumPy would also copy it to the other triangle, which
    takes longer than the product itself for thin blocks.
    """
    if not isinstance(part, np.ndarray):
        product = part @ part.T if dual else part.T @ part
        return product if total is None else total + product
    from scipy.linalg import get_blas_funcs

    # The transpose of a C-ordered array has the order that BLAS needs, without a copy.
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
        Device of the arrays.
    dtype : str
        Precision of the arrays.
    x_mean : array, shape (feature,)
        Means of the inputs, float64.
    u : array, shape (sample, component)
        Left singular vectors. With sample weights, rows are multiplied by the square roots of the weights.
    singular_values : array, shape (component,)
        Singular values, float64, NumPy.
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
    """Singular values of centered inputs and singular vectors of one side, as needed for cross-validation.

    Parameters
    ----------
    backend : Backend
        Device of the vectors.
    x_mean : array, shape (feature,)
        Means of the inputs, float64.
    roots : array, shape (sample,), optional
        Square roots of the sample weights, float64.
    dual : bool
        Whether `vectors` are left singular vectors (of samples) rather than right ones (of features).
    singular_values : array, shape (component,)
        Singular values, descending, float64, NumPy.
    vectors : array, shape (side, component)
        Singular vectors, float64.
    """

    backend: Backend
    x_mean: NDArray[np.float64]
    roots: NDArray[np.float64] | None
    dual: bool
    singular_values: NDArray[np.float64]
    vectors: Any

    def complete(self, x: NDArray, dtype: str) -> Factorization:
        """Return the factorization with the singular vectors of both sides; `x` are the inputs of the spectrum."""
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
    """Decompose the smaller (or chosen) Gram matrix of inputs; see :func:`factorize` for the parameters."""
    mean = means(x, weights, center)
    roots = None if weights is None else np.sqrt(weights.astype(np.float64))
    dual = is_dual(x.shape, solver)
    singular, vectors = decompose(gram(x, mean, roots, backend, dual=dual), max(x.shape), backend)
    return Spectrum(backend, mean, roots, dual, singular, vectors)


def is_dual(shape: tuple[int, ...], solver: str) -> bool:
    """Return whether to decompose the Gram matrix of samples rather than that of features."""
    return shape[0] <= shape[1] if solver == "auto" else solver == "dual"


def factorize(
    x: NDArray,
    backend: Backend,
    dtype: str,
    solver: str = "auto",
    weights: NDArray | None = None,
    center: bool = True,
) -> Factorization:
    """Return the thin singular value decomposition of centered inputs.

    Parameters
    ----------
    x : array, shape (sample, feature)
        Inputs.
    backend : Backend
        Device.
    dtype : {"float32", "float64"}
        Precision of the returned singular vectors. They are computed in float64.
    solver : {"auto", "dual", "primal"}
        Decompose the smaller one of the Gram matrices, X X' (dual), or X' X (primal).
    weights : array, shape (sample,), optional
        Sample weights.
    center : bool
        Subtract the (weighted) mean of each feature.

    Returns
    -------
    Factorization
        Components in order of descending singular values, without directions of zero variance.
    """
    return spectrum(x, backend, solver, weights, center).complete(x, dtype)


def decompose(gram: Any, largest_side: int, backend: Backend) -> tuple[NDArray[np.float64], Any]:
    """Return singular values and vectors of inputs from their Gram matrix.

    Parameters
    ----------
    gram : array, shape (side, side)
        ``X X'`` or ``X' X`` in float64, on the device. Only the lower triangle of a NumPy array is read. May be
        overwritten.
    largest_side : int
        The larger one of the numbers of samples and features, which determines the rounding error below which
        directions count as zero variance.
    backend : Backend
        Device.

    Returns
    -------
    singular_values : array, shape (component,)
        Singular values, descending, NumPy, without directions of zero variance.
    vectors : array, shape (side, component)
        Left singular vectors of X from ``X X'``, right ones from ``X' X``; float64, on the device.
    """
    values, vectors = backend.eigh(gram)
    values = backend.to_numpy(values)[::-1]
    # Eigenvalues of a Gram matrix are accurate to about max(shape) rounding errors of the largest one.
    rank = int((values > max(values[0], 0) * largest_side * np.finfo(np.float64).eps).sum())
    return np.sqrt(values[:rank]), backend.asarray(_columns(vectors, rank), "float64")


def solve_positive(matrix: Any, right: Any, backend: Backend, *, what: str) -> Any:
    """Return ``inverse(matrix) @ right`` of a symmetric positive definite matrix, float64, on the device.

    `matrix` may be overwritten; of a NumPy array, only the lower triangle is read. If it is singular, an InputError
    with the message `what` is raised.
    """
    if backend.is_numpy:
        from scipy.linalg import LinAlgError, cho_factor, cho_solve

        try:
            factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError as error:
            raise InputError(what, todo="use an alpha above zero, or more samples") from error
        return cho_solve(factor, right, check_finite=False)
    import torch

    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        raise InputError(what, todo="use an alpha above zero, or more samples")
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
    """Return centered targets, times square roots of weights, on the device, and their means, (target,)."""
    mean = means(y, weights, center)
    centered = backend.asarray(y - mean.astype(y.dtype), dtype)
    if weights is not None:
        centered *= backend.asarray(np.sqrt(weights)[:, None], dtype)
    return centered, mean
