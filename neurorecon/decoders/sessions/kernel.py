"""Kernels that grow by rows, their Cholesky factors, and errors on folds from the kernel alone, on plain arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.alphas import AlphaSearch, Sharing, add_errors, add_fold_errors, can_leave_out
from neurorecon.decoders.sessions.standardizing import Options, used_folds
from neurorecon.decoders.solvers import Backend, Spectrum, cross_gram, decompose, factorize, recenter
from neurorecon.decoders.targets import Targets


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


def kernel_spectrum(
    whole: NDArray, n_voxels: int, backend: Backend, center: bool
) -> tuple[NDArray[np.float64], Spectrum]:
    """Decompose the kernel of all samples.

    Parameters
    ----------
    whole : array, shape (sample, sample)
        Kernel. It may be overwritten.
    n_voxels : int
        Number of voxels that the kernel sums over.
    backend : Backend
        Where to compute.
    center : bool
        Center the samples first.

    Returns
    -------
    mean : array, shape (sample,)
        Mean of the kernel's rows (0 without centering): ``(k - mean) @ vectors / singular_values`` are the
        components of a sample with the kernel k, since the vectors sum to 0.
    spectrum : Spectrum
        Of the centered inputs.
    """
    mean = whole.mean(axis=0) if center else np.zeros(len(whole))
    own = backend.asarray(whole, "float64")
    singular, vectors = decompose(recenter(own, None, backend) if center else own, max(len(whole), n_voxels), backend)
    if center:
        # To rounding errors of the largest eigenvalue they do: too little where sessions lie far from each other.
        vectors = vectors - vectors.mean(0)
    return mean, Spectrum(backend, np.zeros(n_voxels), None, True, singular, vectors)


def kernel_errors(
    spectrum: Spectrum, targets: Targets, folds: NDArray, options: Options, sharing: Sharing
) -> NDArray[np.float64]:
    """Return the mean squared error of each alpha on each held-out fold, averaged over folds.

    Parameters
    ----------
    spectrum : Spectrum
        Of all samples.
    targets : Targets
        Of all sessions.
    folds : array, shape (sample,)
        Fold of each sample.
    options : Options
        With the candidates for alpha.
    sharing : Sharing
        Which targets share alpha.

    Returns
    -------
    errors : array, shape (alpha,) or (alpha, group)
        Averaged over the targets that share alpha.
    """
    alphas, backend, dtype, center = options.alphas, options.backend, options.dtype, options.center
    search = AlphaSearch(targets, alphas, sharing, None, center, dtype)
    total = np.zeros((len(alphas), sharing.n_groups))
    splits = [(np.flatnonzero(folds != number), np.flatnonzero(folds == number)) for number in used_folds(folds)]
    if can_leave_out(spectrum, splits, len(folds), alphas):
        add_errors(total, spectrum, splits, search)
    else:
        # Samples in the coordinates of their components have the same products as in those of the voxels.
        x = backend.to_numpy(spectrum.vectors) * spectrum.singular_values
        for split in splits:
            factors = factorize(x[split[0]], backend, dtype, "auto", None, center)
            add_fold_errors(total, factors, x, split, search)
    return sharing.mean(total / len(splits))
