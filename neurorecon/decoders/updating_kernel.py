"""Kernels that grow by rows, their Cholesky factors, and errors on folds from the kernel alone, on plain arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.backend import Backend
from neurorecon.decoders.solvers import cross_gram, decompose, recenter
from neurorecon.decoders.targets import Targets
from neurorecon.decoders.updating_sessions import Options, joined_blocks, used_folds


def kernel(x: NDArray, others: list[NDArray], reference: NDArray[np.float64], backend: Backend) -> NDArray:
    """Return the products of samples with those of sessions, in double precision.

    Parameters
    ----------
    x : array, shape (sample, voxel)
        Responses.
    others : list of array, shape (other, voxel)
        Responses of each session, in memory or mapped from files.
    reference : array, shape (voxel,)
        Subtracted from all of them first, so that means far above the variation cost no precision.
    backend : Backend
        Where to compute.

    Returns
    -------
    array, shape (sample, all others)
    """
    products = [backend.to_numpy(cross_gram(np.asarray(other), x, reference, None, backend)) for other in others]
    return np.concatenate(products, axis=1)


def assemble(parts: list[NDArray]) -> NDArray[np.float64]:
    """Return the kernel (sample, sample) from the rows that each session appended to its lower triangle."""
    n_samples = parts[-1].shape[1]
    whole = np.empty((n_samples, n_samples))
    start = 0
    for part in parts:
        stop = start + len(part)
        whole[start:stop, :stop] = part
        whole[:start, start:stop] = part[:, :start].T
        start = stop
    return whole


def append_cholesky(factor: NDArray | None, rows: NDArray, alpha: float) -> NDArray[np.float64]:
    """Return the lower Cholesky factor of ``K + alpha I`` after a session.

    Parameters
    ----------
    factor : array, shape (before, before), optional
        The factor so far.
    rows : array, shape (new, before + new)
        Kernel of the new samples with all samples.
    alpha : float
        Regularization.

    Returns
    -------
    array, shape (before + new, before + new)
    """
    from scipy.linalg import cholesky, solve_triangular

    before = 0 if factor is None else len(factor)
    n_new = len(rows)
    grown = np.zeros((before + n_new, before + n_new))
    own = rows[:, before:] + alpha * np.eye(n_new)
    if factor is not None:
        cross = solve_triangular(factor, rows[:, :before].T, lower=True, check_finite=False).T
        grown[:before, :before] = factor
        grown[before:, :before] = cross
        own -= cross @ cross.T
    grown[before:, before:] = cholesky(own, lower=True, check_finite=False)
    return grown


def append_coordinates(factor: NDArray, coordinates: list[NDArray], y: NDArray) -> NDArray[np.float64]:
    """Return ``L^-1 Y`` of the new samples.

    Parameters
    ----------
    factor : array, shape (before + new, before + new)
        Lower Cholesky factor.
    coordinates : list of array, shape (sample, target)
        Of each session before.
    y : array, shape (new, target)
        Targets of the new samples.

    Returns
    -------
    array, shape (new, target)
    """
    from scipy.linalg import solve_triangular

    before = len(factor) - len(y)
    left = y.astype(np.float64)
    start = 0
    for part in coordinates:
        stop = start + len(part)
        left -= factor[before:, start:stop].astype(part.dtype) @ part
        start = stop
    return solve_triangular(factor[before:, before:], left, lower=True, check_finite=False, overwrite_b=True)


def components(
    whole: NDArray, train: NDArray, largest_side: int, backend: Backend, center: bool
) -> tuple[NDArray, NDArray, NDArray]:
    """Decompose the kernel of some samples.

    Parameters
    ----------
    whole : array, shape (sample, sample)
        Kernel of all samples.
    train : int array
        Which of them.
    largest_side : int
        See :func:`neurorecon.decoders.solvers.decompose`.
    backend : Backend
        Where to compute.
    center : bool
        Center the samples first.

    Returns
    -------
    mean : array, shape (train,)
        Mean of the kernel's rows (0 without centering): ``(k - mean) @ vectors / singular_values`` are the
        components of a sample with the kernel k, since the vectors sum to 0.
    singular_values : array, shape (component,)
        Of the centered inputs.
    vectors : array, shape (train, component)
        Left singular vectors, float64.
    """
    part = whole[np.ix_(train, train)]
    mean = part.mean(axis=0) if center else np.zeros(len(train))
    own = backend.asarray(part, "float64")
    singular, vectors = decompose(recenter(own, None, backend) if center else own, largest_side, backend)
    return mean, singular, backend.to_numpy(vectors)


def kernel_errors(
    whole: NDArray,
    targets: list[Targets],
    folds: NDArray,
    options: Options,
    largest_side: int,
) -> NDArray[np.float64]:
    """Return the mean squared error of each alpha on each held-out fold, averaged over folds.

    Parameters
    ----------
    whole : array, shape (sample, sample)
        Kernel.
    targets : list of Targets
        Of each session.
    folds : array, shape (sample,)
        Fold of each sample.
    options : Options
        With the candidates for alpha.
    largest_side : int
        See :func:`components`.

    Returns
    -------
    errors : array, shape (alpha,) or (alpha, target)
        Averaged over targets unless ``options.per_target``.
    """
    backend, dtype = options.backend, options.dtype
    errors = np.zeros((len(options.alphas), targets[0].n_targets))
    numbers = used_folds(folds)
    for number in numbers:
        train, test = np.flatnonzero(folds != number), np.flatnonzero(folds == number)
        mean, singular, vectors = components(whole, train, largest_side, backend, options.center)
        inputs = backend.asarray((whole[np.ix_(test, train)] - mean) @ (vectors / singular), dtype)
        left = backend.asarray(vectors, dtype)
        for block, y in joined_blocks(targets):
            y_mean = y[train].mean(axis=0, dtype=np.float64) if options.center else np.zeros(y.shape[1])
            projected = left.T @ backend.asarray(y[train] - y_mean.astype(y.dtype), dtype)
            held_out = backend.asarray(y[test] - y_mean.astype(y.dtype), dtype)
            for row, alpha in zip(errors, options.alphas, strict=True):
                shrinkage = backend.asarray((singular / (singular**2 + alpha))[:, None], dtype)
                residual = held_out - inputs @ (shrinkage * projected)
                row[block] += backend.to_numpy((residual**2).sum(0)) / len(test)
    errors /= len(numbers)
    return errors if options.per_target else errors.mean(axis=1)
