"""The latent layer that subjects share, on plain arrays.

Ridge regression from each subject's responses to the targets explains targets within a subspace. Pooled over
subjects, the leading directions of what is explained are the shared latents: for one subject that is reduced-rank
ridge regression (Mukherjee & Zhu 2011, Reduced rank ridge regression and its kernel extensions, Statistical Analysis
and Data Mining 4(6), 612-622, where the fitted values of ridge regression are projected onto their own leading
directions). The layout is MindEye2's (Scotti et al. 2024, ICML, arXiv 2403.11207, section 2.1): a linear map of each
subject into a latent space and one decoder behind it for all; theirs is trained by gradient descent, this one is
closed form.

What is predicted from little data of one subject is noisy, and in the same way for every subject. So the shared
decoder is learned where the answer is known: subjects with much data are fitted to pieces as small as a new
subject's, and the true latents are regressed on the predicted ones of all other samples. This is the "curds and whey"
procedure (Breiman & Friedman 1997, Predicting multivariate responses in multiple linear regression, Journal of the
Royal Statistical Society B 59(1), 3-54) with other subjects in place of held-out samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.backend import Backend
from neurorecon.decoders.solvers import decompose
from neurorecon.decoders.targets import Targets

#: Weights of "leave the predicted latents as they are" in the shared decoder, as a share of the mean variance.
PRIORS = (0.0, 0.01, 0.1, 1.0, 10.0, np.inf)


def merge_bases(one: NDArray | None, other: NDArray, n_latents: int | None, backend: Backend) -> NDArray:
    """Return the leading directions of two sets of rows, scaled by their singular values.

    Parameters
    ----------
    one, other : array, shape (row, target)
        Rows; `one` may be what this function returned for earlier sets (incremental principal components; Ross et
        al. 2008, International Journal of Computer Vision 77, 125-141).
    n_latents : int, optional
        Directions to keep; by default all along which the rows vary.
    backend : Backend
        Where to compute.

    Returns
    -------
    array, shape (latent, target)
        Orthogonal rows, descending, in the precision of `other`.
    """
    rows = other if one is None else np.concatenate([one, other])
    # Beyond this, directions are rounding errors of the Gram matrix or of the rows.
    least = np.finfo(rows.dtype).eps ** 0.5
    wide = len(rows) <= rows.shape[1]
    products = _gram(rows if wide else rows.T, backend)
    singular, directions = decompose(products, max(rows.shape), backend)
    kept = singular > least * singular.max(initial=0.0)
    vectors = backend.to_numpy(directions)[:, kept][:, :n_latents]
    if wide:
        return vectors.T.astype(rows.dtype) @ rows
    return (vectors * singular[kept][:n_latents]).T.astype(rows.dtype)


def orthonormal(rows: NDArray, backend: Backend) -> NDArray:
    """Return rows of length 1, orthogonal to each other, that span what orthogonal rows of any length span."""
    from scipy.linalg import cholesky, solve_triangular

    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    # What the Gram matrix of a merge left of angles between short rows goes here.
    factor = cholesky(backend.to_numpy(_gram(rows, backend)), lower=True)
    turn = solve_triangular(factor, np.eye(len(rows)), lower=True).astype(rows.dtype)
    return turn @ rows


def _gram(rows: NDArray, backend: Backend) -> Any:
    """Return the products of rows, (row, row), in double precision, block by block."""
    total: Any = 0.0
    step = max(1, 2**24 // max(1, len(rows)))
    for start in range(0, rows.shape[1], step):
        part = backend.asarray(rows[:, start : start + step], "float64")
        total = total + part @ part.T
    return total


def latents_of(targets: Targets, basis: NDArray) -> tuple[NDArray, NDArray[np.float64]]:
    """Return targets along the latents and the mean of each target.

    Parameters
    ----------
    targets : Targets
        Targets, streamed.
    basis : array, shape (latent, target)
        Orthonormal rows.

    Returns
    -------
    latents : array, shape (sample, latent)
        Of targets less their means, float64.
    means : array, shape (target,)
    """
    latents, means = np.zeros((targets.n_samples, len(basis))), np.empty(targets.n_targets)
    for block, y in targets.blocks():
        means[block] = y.mean(axis=0, dtype=np.float64)
        latents += (y - means[block].astype(y.dtype)) @ basis[:, block].T
    return latents, means


def shared_decoder(predicted: NDArray, cross: NDArray, prior: float) -> NDArray[np.float64]:
    """Return the linear map from predicted latents to those that are true.

    Parameters
    ----------
    predicted : array, shape (latent, latent)
        Products of predicted latents, summed over samples of all subjects.
    cross : array, shape (latent, latent)
        Products of predicted and true latents.
    prior : float
        Weight of the identity, as a share of the mean of the diagonal of `predicted`: the map is
        ``argmin |Z - P A|^2 + w |A - I|^2``. Infinite for the identity itself.

    Returns
    -------
    array, shape (latent, latent)
    """
    identity = np.eye(len(predicted))
    if np.isinf(prior) or not predicted.any():
        return identity
    weight = max(prior, 1e-10) * float(np.trace(predicted)) / len(predicted)
    solved = np.linalg.solve(predicted + weight * identity, cross + weight * identity)
    return np.asarray(solved, dtype=np.float64)


def best_decoder(
    predicted: NDArray, cross: NDArray, own_predicted: NDArray, own_latents: NDArray
) -> tuple[NDArray[np.float64], float]:
    """Return the shared decoder whose prior serves a new subject best.

    Parameters
    ----------
    predicted, cross : array, shape (latent, latent)
        Of the other subjects; see :func:`shared_decoder`.
    own_predicted, own_latents : array, shape (sample, latent)
        Of the new subject: predicted for samples that the prediction was not fitted to, and true.

    Returns
    -------
    decoder : array, shape (latent, latent)
    prior : float
        Infinite where nothing of the other subjects' decoder helps.
    """
    best, best_error = (np.eye(len(predicted)), np.inf), np.inf
    for prior in sorted(PRIORS, reverse=True):
        decoder = shared_decoder(predicted, cross, prior)
        error = float(((own_latents - own_predicted @ decoder) ** 2).sum())
        if error < best_error:
            best, best_error = (decoder, prior), error
    return best
