"""Latents shared by several subjects, and a decoder for new subjects with little data.

**Latents.** Ridge regression from the responses of each subject explains the targets within a subspace. The leading
directions of the explained variance, pooled over subjects, are the shared latents. For a single subject, this is
reduced-rank ridge regression, which projects the fitted values of ridge regression onto their leading directions
(Mukherjee & Zhu 2011). The architecture is that of MindEye2 (Scotti et al. 2024, section 2.1): a linear map from each
subject to a latent space, followed by a decoder shared by all subjects. MindEye2 is trained by gradient descent; this
implementation is in closed form.

**Shared decoder.** Predictions from little data are noisy in a similar way in all subjects. The shared decoder is
therefore learned from subjects with much data: they are fitted to subsets as small as the data of a new subject, and
the true latents of all other samples are regressed on the predicted ones. This is the "curds and whey" procedure
(Breiman & Friedman 1997), with other subjects instead of held-out samples. A few samples do not say which alpha is
best, or how far the shared decoder can be trusted, so the other subjects say that, too: each in turn is taken as new.

References
----------
Breiman & Friedman (1997). Predicting multivariate responses in multiple linear regression. Journal of the Royal
Statistical Society B 59(1), 3-54.
Mukherjee & Zhu (2011). Reduced rank ridge regression and its kernel extensions. Statistical Analysis and Data Mining
4(6), 612-622.
Scotti et al. (2024). MindEye2: shared-subject models enable fMRI-to-image with 1 hour of data. ICML. arXiv:2403.11207.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.decoders.solvers import Backend, decompose, subtract
from neurorecon.decoders.targets import Targets
from neurorecon.decoders.validation import as_labels, group_folds
from neurorecon.errors import InputError, UnknownNameError

#: Candidate weights of the identity in the shared decoder, relative to the mean variance.
PRIORS = (0.0, 0.01, 0.1, 1.0, 10.0, np.inf)

#: Number of leading latents by which alpha and the weight of the identity are chosen for new subjects.
LEADING = 256

#: How many times as many samples as the subsets had a new subject may have, for their alpha and weight to be its own.
SIMILAR = 1.5


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
    """Return the linear map from predicted to true latents.

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
    """Return the shared decoder with the best prior for a new subject.

    Parameters
    ----------
    predicted, cross : array, shape (latent, latent)
        Products over the other subjects; see :func:`shared_decoder`.
    own_predicted, own_latents : array, shape (sample, latent)
        Out-of-fold predicted and true latents of the new subject.

    Returns
    -------
    decoder : array, shape (latent, latent)
    prior : float
        Weight of the identity; infinite if the decoder does not improve predictions.
    """
    best, best_error = (np.eye(len(predicted)), np.inf), np.inf
    for prior in sorted(PRIORS, reverse=True):
        decoder = shared_decoder(predicted, cross, prior)
        error = float(((own_latents - own_predicted @ decoder) ** 2).sum())
        if error < best_error:
            best, best_error = (decoder, prior), error
    return best


#: Function that returns an unfitted ridge regression.
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
    alphas: NDArray[np.float64],
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
    alphas : array, shape (candidate,)
        Candidates of the regressions.

    Returns
    -------
    dict
        Attributes of :class:`neurorecon.decoders.MultiSubjectRidge`.
    """
    pooled, fitted = None, {}
    # Keep spare directions, which may become important with later subjects.
    spare = None if n_latents is None else 2 * n_latents
    for name, x in responses.items():
        fitted[name] = each = ridge().fit(x, y[name], groups=labels[name])
        explained = each.singular_values_[:, None].astype(each.dtype) * each.coordinates_
        pooled = merge_bases(pooled, explained, spare, backend)
        # Free memory: coordinates are as large as the targets, and can be recomputed from the latents.
        del each.coordinates_
    assert pooled is not None
    basis = orthonormal(pooled[:n_latents], backend)
    subjects, leading = {}, min(len(basis), LEADING)
    # Alphas that are chosen are in relation to the size of responses, which differs with voxels and units.
    ratios = alphas / np.mean([_size(x) for x in responses.values()]) if len(alphas) > 1 else None

    def pieces_of(name: str, latents: NDArray, ratios: NDArray | None) -> Iterator[tuple[int, NDArray, NDArray]]:
        def alphas_of(x: NDArray) -> NDArray[np.float64]:
            return alphas if ratios is None else ratios * _size(x)

        return _pieces(responses[name], latents, labels[name], ridge, adapt_samples or 0, alphas_of)

    learned: dict[str, _Products] = {}
    for name, each in fitted.items():
        latents, y_mean = latents_of(targets[name], basis)
        shrinkage = each.singular_values_ / (each.singular_values_**2 + each.alpha_)
        inner = shrinkage[:, None] * (each.sample_vectors_.T @ latents)
        subjects[name] = _subject(each, inner, y_mean, len(latents))
        if adapt_samples is not None:
            learned[name] = _Products.of(pieces_of(name, latents[:, :leading], ratios), len(alphas), leading)
    number, prior = best_for_others(list(learned.values()))
    predicted, cross = np.zeros((len(basis), len(basis))), np.zeros((len(basis), len(basis)))
    for name, products in learned.items():
        if leading < len(basis):
            chosen = None if ratios is None else ratios[[number]]
            whole = _Products.of(pieces_of(name, latents_of(targets[name], basis)[0], chosen), 1, len(basis))
            predicted, cross = predicted + whole.predicted[0], cross + whole.cross[0]
        else:
            predicted, cross = predicted + products.predicted[number], cross + products.cross[number]
    learned_: dict[str, float] = {}
    if len(learned) > 1:  # from one subject alone, nothing can be said about others
        learned_ = {"prior": prior, **({} if ratios is None else {"ratio": float(ratios[number])})}
        learned_["samples"] = float(adapt_samples or 0)
    return {
        "subjects_": subjects,
        "basis_": basis,
        "predicted_products_": predicted,
        "cross_products_": cross,
        "learned_": learned_,
    }


@dataclass(frozen=True)
class _Products:
    """What the pieces of a subject say, for each candidate alpha, of predicted latents.

    Parameters
    ----------
    predicted : array, shape (candidate, latent, latent)
        Products of predicted latents, summed over samples.
    cross : array, shape (candidate, latent, latent)
        Products of predicted and true latents.
    squares : float
        Sum of squares of true latents.
    """

    predicted: NDArray[np.float64]
    cross: NDArray[np.float64]
    squares: float

    @classmethod
    def of(cls, pieces: Iterable[tuple[int, NDArray, NDArray]], n_alphas: int, n_latents: int) -> _Products:
        """Sum over what :func:`_pieces` yields."""
        predicted, cross = np.zeros((2, n_alphas, n_latents, n_latents))
        squares = 0.0
        for number, one, other in pieces:
            predicted[number] += one.T @ one
            cross[number] += one.T @ other
            squares += float((other**2).sum()) / n_alphas
        return cls(predicted, cross, squares)

    def error(self, number: int, decoder: NDArray) -> float:
        """Return the squared error of latents that a decoder makes of those predicted with an alpha."""
        explained = 2 * (decoder * self.cross[number]).sum() - (decoder * (self.predicted[number] @ decoder)).sum()
        return self.squares - float(explained)


def best_for_others(learned: Sequence[_Products]) -> tuple[int, float]:
    """Return which alpha, and which weight of the identity, is best for each subject if the others are those known.

    Parameters
    ----------
    learned : sequence of _Products
        Of each subject.

    Returns
    -------
    number : int
        Of the alpha. From one subject alone: the one whose predictions are best as they are; 0 without any.
    prior : float
    """
    if len(learned) == 1:
        identity = np.eye(learned[0].cross.shape[-1])
        return int(np.argmin([learned[0].error(number, identity) for number in range(len(learned[0].cross))])), np.inf
    best, least = (0, np.inf), np.inf
    for number in range(len(learned[0].predicted) if learned else 0):
        predicted = sum(one.predicted[number] for one in learned)
        cross = sum(one.cross[number] for one in learned)
        for prior in sorted(PRIORS, reverse=True):
            error = sum(
                new.error(number, shared_decoder(predicted - new.predicted[number], cross - new.cross[number], prior))
                for new in learned
            )
            if error < least:
                best, least = (number, prior), error
    return best


def _size(x: NDArray) -> float:
    """Return the mean squared distance of responses from their mean."""
    return float(x.var(axis=0, dtype=np.float64).sum())


def _pieces(
    x: NDArray,
    latents: NDArray,
    labels: NDArray | None,
    ridge: Ridge,
    adapt_samples: int,
    alphas_of: Callable[[NDArray], NDArray[np.float64]],
) -> Iterator[tuple[int, NDArray, NDArray]]:
    """Fit pieces of a subject's samples with each of the alphas that are to be tried for such responses.

    Yields the number of the alpha, and predicted and true latents of the other samples, (sample, latent), centered.
    """
    n_groups = len(x) if labels is None else len(np.unique(labels))
    n_pieces = min(max(2, round(len(x) / max(1, adapt_samples))), n_groups)
    if n_pieces < 2:
        return
    for others, piece in group_folds(len(x), labels, n_pieces):
        if len(piece) < 2 or not _size(x[piece]):
            continue
        fitted = ridge().set_params(alpha=1.0).fit(x[piece], latents[piece])
        scores = subtract(x[others], fitted.x_mean_, "float64") @ fitted.voxel_vectors_
        # Means are not at issue: each subject has its own.
        scores, true = scores - scores.mean(axis=0), latents[others] - latents[others].mean(axis=0)
        inner = fitted.sample_vectors_.T @ (latents[piece] - latents[piece].mean(axis=0))
        for number, alpha in enumerate(alphas_of(x[piece])):
            shrinkage = fitted.singular_values_ / (fitted.singular_values_**2 + alpha)
            yield number, scores @ (shrinkage[:, None] * inner), true


def adapt_latent(
    x: NDArray,
    targets: Targets,
    labels: NDArray | None,
    basis: NDArray,
    products: tuple[NDArray, NDArray],
    learned: Mapping[str, float],
    ridge: Ridge,
) -> dict[str, Any]:
    """Fit a new subject, followed by the shared decoder learned from the others.

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
    products : tuple of array, shape (latent, latent)
        Products of predicted latents, and of predicted and true ones.
    learned : mapping of str to float
        What is best for a new subject with few samples according to the others: ``prior``, ``ratio`` (of alpha to the
        size of the responses) and ``samples``; empty if they do not say.
    ridge : callable
        Makes the regressions.

    Returns
    -------
    dict
        An item of ``subjects_``.
    """
    latents, y_mean = latents_of(targets, basis)
    if learned and len(x) <= SIMILAR * learned["samples"]:
        alpha = {"alpha": learned["ratio"] * _size(x)} if "ratio" in learned else {}
        fitted = ridge().set_params(**alpha).fit(x, latents)
        decoder = shared_decoder(*products, learned["prior"])
        more = {"adapted": True, "prior": learned["prior"]}
        return _subject(fitted, fitted.coordinates_ @ decoder, y_mean, len(x)) | more
    fitted = ridge().fit(x, latents, groups=labels)
    out_of_fold = np.empty_like(latents)
    for train, test in group_folds(len(x), labels, fitted.cv if isinstance(fitted.cv, int) else 5):
        fold = ridge().set_params(alpha=fitted.alpha_).fit(x[train], latents[train])
        out_of_fold[test] = fold.predict(x[test])
    decoder, prior = best_decoder(*products, out_of_fold, latents)
    return _subject(fitted, fitted.coordinates_ @ decoder, y_mean, len(x)) | {"adapted": True, "prior": prior}


def fit_concatenated(
    responses: Mapping[str, NDArray],
    targets: Mapping[str, Targets],
    labels: Mapping[str, NDArray | None],
    ridge: Ridge,
) -> dict[str, Any]:
    """Fit the concatenated voxels of all subjects, and align each subject to them.

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
    """Map the responses of a subject to the coordinates of the shared stimuli in the common space.

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


def check_subjects(given: Any, what: str) -> dict[str, Any]:
    """Return a mapping from subjects to arrays as a dict, checked."""
    if not isinstance(given, Mapping) or not given or not all(isinstance(name, str) for name in given):
        raise InputError(
            f"{what} of several subjects must be a dict",
            given=f"{type(given).__name__}" + (f" with {list(given)[:3]}" if isinstance(given, Mapping) else ""),
            expected='{"subj01": array, "subj02": array}',
        )
    return dict(given)


def check_same_subjects(names: list[str], others: Mapping[str, Any], what: str) -> None:
    """Raise an error if subjects are missing or superfluous."""
    for name in names:
        if name not in others:
            raise UnknownNameError("subject", name, others, todo=f"pass the {what} of this subject, too")
    for name in others:
        if name not in names:
            raise UnknownNameError("subject", name, names, todo=f"remove these {what}, or pass its responses")


def check_responses(name: str, x: ArrayLike, dtype: str, n_voxels: int | None = None) -> NDArray:
    """Return the responses of a subject, (sample, voxel).

    Parameters
    ----------
    name : str
        The subject.
    x : array, shape (sample, voxel)
        Responses.
    dtype : str
        Precision.
    n_voxels : int, optional
        Voxels that the subject was fitted with; without, the responses are to be fitted.

    Returns
    -------
    array, shape (sample, voxel)

    Raises
    ------
    InputError
        Where the shape is wrong, a value is not finite, or, to be fitted, no voxel varies.
    """
    values = np.asarray(x, dtype=dtype)
    if values.ndim != 2:
        raise InputError(
            f"responses of {name} need two dimensions", given=f"shape {values.shape}", expected="(sample, voxel)"
        )
    if n_voxels is not None and values.shape[1] != n_voxels:
        raise InputError(
            f"responses of {name} have other voxels than those fitted",
            given=f"{values.shape[1]} voxels",
            expected=f"{n_voxels} voxels",
            todo="check that the responses are from this subject and the same ROIs",
        )
    usable = np.isfinite(values)
    if not usable.all():
        n_bad = int((~usable.all(axis=0)).sum())
        raise InputError(
            f"responses of {name} contain NaN or infinity",
            given=f"{int((~usable).sum())} values in {n_bad} of {values.shape[1]} voxels",
            expected="finite numbers",
            todo="exclude voxels that were not measured in this subject, also when predicting",
        )
    if n_voxels is None and (len(values) < 2 or not np.ptp(values, axis=0).any()):
        raise InputError(
            f"responses of {name} do not vary",
            given=f"{len(values)} samples of {values.shape[1]} voxels, all the same",
            expected="at least two samples that differ",
        )
    return values


def check_labels(name: str, groups: Any, n_samples: int) -> NDArray | None:
    """Return the stimulus of each sample of a subject, (sample,), or None."""
    if groups is None:
        return None
    return as_labels(groups, n_samples, f"`groups` of {name}")


def shared_stimuli(labels: Mapping[str, NDArray]) -> NDArray:
    """Return the sorted labels that all subjects have; raise an error if there are fewer than two."""
    shared: NDArray | None = None
    for each in labels.values():
        shared = np.unique(each) if shared is None else np.intersect1d(shared, each)
    if shared is None or len(shared) < 2:
        raise InputError(
            "the subjects share too few stimuli for alignment",
            given=f"{0 if shared is None else len(shared)} stimuli shared by {', '.join(labels)}",
            expected="two or more (the subjects of NSD share up to 1,000)",
            todo='check that `groups` are stimulus ids; method="latent" needs no shared stimuli',
        )
    return shared


def averaging(labels: NDArray, stimuli: NDArray) -> Any:
    """Return the sparse matrix (stimulus, sample) that averages the samples of each of the sorted stimuli."""
    from scipy.sparse import csr_matrix

    which = np.minimum(np.searchsorted(stimuli, labels), len(stimuli) - 1)
    samples = np.flatnonzero(stimuli[which] == labels)
    counts = np.bincount(which[samples], minlength=len(stimuli))
    shape = (len(stimuli), len(labels))
    return csr_matrix((1 / counts[which[samples]], (which[samples], samples)), shape=shape)


def no_stimuli() -> InputError:
    """Return the error for missing groups."""
    return InputError(
        'method="concatenated" needs to know which stimuli subjects share',
        given="no groups",
        expected="the stimulus id of each sample in `groups`",
    )


def shared_targets(
    targets: Mapping[str, Targets], labels: Mapping[str, NDArray], stimuli: NDArray, dtype: str
) -> NDArray:
    """Return the targets of the shared stimuli, (stimulus, target), the same for all subjects."""
    first = next(iter(targets.values()))
    shared = np.empty((len(stimuli), first.n_targets), dtype=dtype)
    for name, each in targets.items():
        average = averaging(labels[name], stimuli)
        for block, y in each.blocks():
            means = (average @ y).astype(dtype)
            if each is first:
                shared[:, block] = means
            elif not np.allclose(means, shared[:, block], rtol=1e-4, atol=1e-4 * np.abs(shared[:, block]).max()):
                raise InputError(
                    "targets of the same stimuli differ between subjects",
                    given=f"{name} and {next(iter(targets))}",
                    expected="targets that only depend on the stimulus",
                    todo="check that `groups` are stimulus ids",
                )
    return shared
