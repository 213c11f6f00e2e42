"""The fits of several subjects: by a shared latent layer, and by the stimuli that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.backend import Backend
from neurorecon.decoders.folds import group_folds
from neurorecon.decoders.products import subtract
from neurorecon.decoders.ridge.decoder import RidgeDecoder
from neurorecon.decoders.subjects.latents import best_decoder, latents_of, merge_bases, orthonormal
from neurorecon.decoders.subjects.stimuli import averaging, no_stimuli, shared_stimuli, shared_targets
from neurorecon.decoders.targets import Targets

#: Makes a ridge regression that is not fitted yet.
Ridge = Callable[[], RidgeDecoder]


def fit_latent(
    responses: Mapping[str, NDArray],
    y: Mapping[str, Any],
    targets: Mapping[str, Targets],
    labels: Mapping[str, NDArray | None],
    ridge: Ridge,
    backend: Backend,
    n_latents: int | None,
    adapt_samples: int | None,
) -> dict[str, Any]:
    """Fit each subject, find the latents, and learn the decoder for new subjects.

    Parameters
    ----------
    responses : dict of array, shape (sample, voxel)
        By subject.
    y, targets : dict
        Targets as given, and in blocks.
    labels : dict of array, shape (sample,), or None
        Stimulus of each sample.
    ridge : callable
        Makes the regressions.
    backend : Backend
        Where to compute.
    n_latents : int, optional
        Latents to keep.
    adapt_samples : int, optional
        Samples of the pieces that the decoder for new subjects is learned from.

    Returns
    -------
    dict
        Attributes of :class:`neurorecon.decoders.MultiSubjectRidge`.
    """
    pooled, fitted = None, {}
    # Directions that are cut off too early are lost for subjects that come later.
    spare = None if n_latents is None else 2 * n_latents
    for name, x in responses.items():
        fitted[name] = each = ridge().fit(x, y[name], groups=labels[name])
        explained = each.singular_values_[:, None].astype(each.dtype) * each.coordinates_
        pooled = merge_bases(pooled, explained, spare, backend)
        # As large as the targets, and made again from the latents.
        del each.coordinates_
    assert pooled is not None
    basis = orthonormal(pooled[:n_latents], backend)
    subjects = {}
    predicted = np.zeros((len(basis), len(basis)))
    cross = np.zeros_like(predicted)
    for name, each in fitted.items():
        latents, y_mean = latents_of(targets[name], basis)
        shrinkage = each.singular_values_ / (each.singular_values_**2 + each.alpha_)
        inner = shrinkage[:, None] * (each.sample_vectors_.T @ latents)
        subjects[name] = _subject(each, inner, y_mean, len(latents))
        if adapt_samples is not None:
            for one, other in _pieces(responses[name], latents, labels[name], ridge, adapt_samples):
                predicted += one.T @ one
                cross += one.T @ other
    return {"subjects_": subjects, "basis_": basis, "predicted_products_": predicted, "cross_products_": cross}


def _pieces(x: NDArray, latents: NDArray, labels: NDArray | None, ridge: Ridge, adapt_samples: int) -> Any:
    """Fit pieces of a subject's samples; yield predicted and true latents of the others, (sample, latent), centered."""
    n_groups = len(x) if labels is None else len(np.unique(labels))
    n_pieces = min(max(2, round(len(x) / max(1, adapt_samples))), n_groups)
    if n_pieces < 2:
        return
    for others, piece in group_folds(len(x), labels, n_pieces):
        if len(piece) < 2:
            continue
        chosen = None if labels is None else labels[piece]
        predicted = ridge().fit(x[piece], latents[piece], groups=chosen).predict(x[others]).astype(np.float64)
        # Means are not at issue: each subject has its own.
        yield predicted - predicted.mean(axis=0), latents[others] - latents[others].mean(axis=0)


def adapt_latent(
    x: NDArray,
    targets: Targets,
    labels: NDArray | None,
    basis: NDArray,
    learned: tuple[NDArray, NDArray],
    ridge: Ridge,
) -> dict[str, Any]:
    """Fit a new subject, and put the decoder that was learned from the others behind it.

    Parameters
    ----------
    x : array, shape (sample, voxel)
        Responses.
    targets : Targets
        Targets.
    labels : array, shape (sample,), optional
        Stimulus of each sample.
    basis : array, shape (latent, target)
        Orthonormal rows.
    learned : tuple of array, shape (latent, latent)
        Products of predicted latents, and of predicted and true ones.
    ridge : callable
        Makes the regressions.

    Returns
    -------
    dict
        An item of ``subjects_``.
    """
    latents, y_mean = latents_of(targets, basis)
    fitted = ridge().fit(x, latents, groups=labels)
    out_of_fold = np.empty_like(latents)
    for train, test in group_folds(len(x), labels, fitted.cv if isinstance(fitted.cv, int) else 5):
        fold = ridge().set_params(alpha=fitted.alpha_).fit(x[train], latents[train])
        out_of_fold[test] = fold.predict(x[test])
    decoder, prior = best_decoder(*learned, out_of_fold, latents)
    return _subject(fitted, fitted.coordinates_ @ decoder, y_mean, len(x)) | {"adapted": True, "prior": prior}


def fit_concatenated(
    responses: Mapping[str, NDArray],
    targets: Mapping[str, Targets],
    labels: Mapping[str, NDArray | None],
    ridge: Ridge,
) -> dict[str, Any]:
    """Fit the voxels of all subjects side by side, and align each subject to that.

    Parameters
    ----------
    responses, targets, labels, ridge
        As for :func:`fit_latent`.

    Returns
    -------
    dict
        Attributes of :class:`neurorecon.decoders.MultiSubjectRidge`.
    """
    known = {name: each for name, each in labels.items() if each is not None}
    if not known:
        raise no_stimuli()
    stimuli = shared_stimuli(known)
    joined = np.concatenate([averaging(known[name], stimuli) @ x for name, x in responses.items()], axis=1)
    fitted = ridge()
    joined = joined.astype(fitted.dtype)
    fitted.fit(joined, shared_targets(targets, known, stimuli, fitted.dtype))
    scores = subtract(joined, fitted.x_mean_, "float64") @ fitted.voxel_vectors_
    joint, start = {}, 0
    for name, x in responses.items():
        part = slice(start, start + x.shape[1])
        joint[name] = {"x_mean": fitted.x_mean_[part], "map": fitted.voxel_vectors_[part]}
        start = part.stop
    common = {
        "stimuli_": stimuli,
        "scores_": scores.astype(fitted.dtype),
        "basis_": fitted.coordinates_,
        "joint_mean_": fitted.intercept_,
    }
    subjects = {name: align(name, x, known[name], common, ridge) for name, x in responses.items()}
    return common | {"joint_": joint, "subjects_": subjects}


def align(
    subject: str, x: NDArray, labels: NDArray | None, common: Mapping[str, NDArray], ridge: Ridge
) -> dict[str, Any]:
    """Map a subject's responses to the places of the shared stimuli in the common space.

    Parameters
    ----------
    subject : str
        Its name, for errors.
    x : array, shape (sample, voxel)
        Responses.
    labels : array, shape (sample,), optional
        Stimulus of each sample.
    common : dict
        ``stimuli_``, ``scores_``, ``basis_`` and ``joint_mean_``.
    ridge : callable
        Makes the regression.

    Returns
    -------
    dict
        An item of ``subjects_``.
    """
    if labels is None:
        raise no_stimuli()
    stimuli = shared_stimuli({"those fitted": common["stimuli_"], subject: labels})
    fitted = ridge()
    means = (averaging(labels, stimuli) @ x).astype(fitted.dtype)
    fitted.fit(means, common["scores_"][np.searchsorted(common["stimuli_"], stimuli)])
    # The scores of a part of the stimuli have a mean of their own.
    y_mean = common["joint_mean_"] + fitted.intercept_ @ common["basis_"]
    return _subject(fitted, fitted.coordinates_, y_mean, len(stimuli))


def _subject(fitted: RidgeDecoder, inner: NDArray, y_mean: NDArray, n_samples: int) -> dict[str, Any]:
    """Return what is kept of a subject, `inner` being its map from components to latents."""
    return {
        "x_mean": fitted.x_mean_,
        "map": (fitted.voxel_vectors_ @ inner).astype(fitted.dtype),
        "y_mean": y_mean,
        "alpha": fitted.alpha_,
        "n_samples": n_samples,
        "adapted": False,
    }
