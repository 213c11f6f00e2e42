"""Decode several subjects with shared latents, including new subjects with little data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.persistence import Persistent
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.decoders.shared_latents import (
    adapt_latent,
    align,
    check_labels,
    check_responses,
    check_same_subjects,
    check_subjects,
    fit_concatenated,
    fit_latent,
)
from neurorecon.decoders.solvers import Backend, subtract
from neurorecon.decoders.targets import Targets
from neurorecon.decoders.validation import check_dtype, r2_of_targets
from neurorecon.errors import InputError, UnknownNameError


class MultiSubjectRidge(Persistent, BaseEstimator):
    """Ridge regression from the responses of several subjects to targets, which adapts to new subjects.

    Subjects have their own voxels, and may have seen different stimuli. Predictions are
    ``y_mean + (x - x_mean) @ map @ basis``, with means and a map (voxel, latent) for each subject, and a basis
    (latent, target) shared by all subjects.

    ``method="latent"`` regresses the targets on the responses of each subject. The latents are the leading directions
    of the variance explained in all subjects. This is reduced-rank ridge regression (Mukherjee & Zhu 2011) in the
    architecture of MindEye2 (Scotti et al. 2024), in closed form. For a new subject, a map is fitted to its samples,
    followed by a shared decoder (latent, latent). The shared decoder is learned from the other subjects, fitted to
    subsets of as few samples ("curds and whey", Breiman & Friedman 1997). The alpha of the new subject, and how
    strongly the shared decoder is shrunk toward the identity, are what is best for the other subjects, each of which is
    taken as new in turn. A subject with more than 1.5 times `adapt_samples` samples determines both by cross-validation
    on its own samples, and so does any subject if only one was fitted. Subjects need not share stimuli.

    ``method="concatenated"`` averages repeats, concatenates the voxels of all subjects for the stimuli that all of them
    saw, and fits ridge regression to these. Each single subject, including new ones, is aligned to this common space by
    ridge regression from its responses to the coordinates of the shared stimuli, as in Ferrante et al. (2024).

    Parameters
    ----------
    method : {"latent", "concatenated"}
        Method; see above.
    alpha : float or sequence of float
        Alpha of each ridge regression. From a sequence, it is chosen for each regression, as in :class:`RidgeDecoder`.
    n_latents : int, optional
        Number of latents; by default, all that explain variance. Only for ``"latent"``.
    adapt_samples : int, optional
        Size of the subsets of samples from which the shared decoder is learned; 750 samples are an hour of NSD. With
        None, there is no shared decoder. Only for ``"latent"``.
    cv : int
        Number of folds to choose alpha and the shrinkage of the shared decoder.
    device, dtype, target_block
        See :class:`RidgeDecoder`.

    Attributes
    ----------
    subjects_ : dict
        For each subject: ``x_mean`` (voxel,), ``map`` (voxel, latent), ``y_mean`` (target,), ``alpha``, ``n_samples``
        and ``adapted``. Subjects adapted with ``"latent"`` also have ``prior``, the weight of the identity in the
        shared decoder, which is infinite if the decoder is not used.
    basis_ : array, shape (latent, target)
        Targets of each latent. Rows are orthonormal with ``"latent"``.
    stimuli_, scores_, joint_ : array, array, dict
        With ``"concatenated"``: the shared stimuli, their latents (stimulus, latent), and the map of each subject for
        decoding all subjects together.
    predicted_products_, cross_products_ : array, shape (latent, latent)
        With ``"latent"``: products of predicted and true latents that determine the shared decoder.
    learned_ : dict
        With ``"latent"``: ``prior`` and ``ratio``, what the other subjects say of a new one (alpha in relation to the
        mean squared distance of its responses from their mean), and ``samples``, of how many samples; else empty.
    target_shape_ : tuple of int
        Shape of a target.

    References
    ----------
    Breiman & Friedman (1997). Predicting multivariate responses in multiple linear regression. JRSS B 59(1), 3-54.
    Ferrante, Boccato, Ozcelik, VanRullen & Toschi (2024). Through their eyes: multi-subject brain decoding with
    simple alignment techniques. Imaging Neuroscience 2, 1-21.
    Mukherjee & Zhu (2011). Reduced rank ridge regression and its kernel extensions. Statistical Analysis and Data
    Mining 4(6), 612-622.
    Scotti et al. (2024). MindEye2: shared-subject models enable fMRI-to-image with 1 hour of data. ICML.
    """

    def __init__(
        self,
        method: Literal["latent", "concatenated"] = "latent",
        *,
        alpha: float | Sequence[float] = 1.0,
        n_latents: int | None = None,
        adapt_samples: int | None = 750,
        cv: int = 5,
        device: str = "cpu",
        dtype: Literal["float32", "float64"] = "float32",
        target_block: int | None = None,
    ) -> None:
        self.method = method
        self.alpha = alpha
        self.n_latents = n_latents
        self.adapt_samples = adapt_samples
        self.cv = cv
        self.device = device
        self.dtype = dtype
        self.target_block = target_block

    def fit(
        self,
        X: Mapping[str, ArrayLike],
        y: Mapping[str, Any],
        groups: Mapping[str, ArrayLike] | None = None,
    ) -> MultiSubjectRidge:
        """Fit the decoder to several subjects.

        Parameters
        ----------
        X : dict of array, shape (sample, voxel)
            Responses of each subject, e.g. ``{"subj01": ..., "subj02": ...}``.
        y : dict of array, shape (sample, ...)
            Targets of the samples of each subject. Dask and xarray arrays are read in blocks.
        groups : dict of array, shape (sample,), optional
            Stimulus id of each sample. Stimuli are never split across a fold. Required for ``"concatenated"``, to find
            shared stimuli.

        Returns
        -------
        MultiSubjectRidge
            The fitted decoder.

        Raises
        ------
        InputError
            If subjects or shapes do not match, values are not finite, or subjects share too few stimuli.
        """
        if self.method not in ("latent", "concatenated"):
            raise UnknownNameError("method", self.method, ("latent", "concatenated"))
        if self.n_latents is not None and self.n_latents < 1:
            raise InputError("at least one latent is needed", given=f"n_latents={self.n_latents}", expected="1 or more")
        dtype = check_dtype(self.dtype)
        responses = {name: check_responses(name, x, dtype) for name, x in check_subjects(X, "responses").items()}
        names = list(responses)
        check_same_subjects(names, check_subjects(y, "targets"), "targets")
        if groups is not None:
            check_same_subjects(names, check_subjects(groups, "groups"), "groups")
        labels = {
            name: check_labels(name, None if groups is None else groups[name], len(responses[name])) for name in names
        }
        targets = {name: self._targets(name, y[name], len(responses[name])) for name in names}
        shape = targets[names[0]].shape
        for name in names:
            if targets[name].shape != shape:
                raise InputError(
                    "subjects have different targets",
                    given=f"shape {targets[name].shape} for {name}, {shape} for {names[0]}",
                    expected="the same shape for all subjects",
                )
        for attribute in [attribute for attribute in vars(self) if attribute.endswith("_")]:
            delattr(self, attribute)
        if self.method == "latent":
            fitted = fit_latent(
                responses, y, targets, labels, self._ridge, Backend(self.device), self.n_latents, self.adapt_samples,
                np.atleast_1d(np.asarray(self.alpha, dtype=np.float64)),
            )  # fmt: skip
        else:
            fitted = fit_concatenated(responses, targets, labels, self._ridge)
        self.subjects_: dict[str, dict[str, Any]] = fitted["subjects_"]
        for attribute, value in fitted.items():
            setattr(self, attribute, value)
        self.target_shape_ = shape
        return self

    def adapt(self, subject: str, X: ArrayLike, y: Any = None, groups: ArrayLike | None = None) -> MultiSubjectRidge:
        """Adapt the decoder to a new subject, possibly with little data.

        Parameters
        ----------
        subject : str
            Name of the subject. A subject that was adapted before is replaced.
        X : array, shape (sample, voxel)
            Responses.
        y : array, shape (sample, ...)
            Targets. Not needed for ``"concatenated"``, which uses the shared stimuli.
        groups : array, shape (sample,), optional
            Stimulus id of each sample. Required for ``"concatenated"``.

        Returns
        -------
        MultiSubjectRidge
            The decoder itself.

        Raises
        ------
        InputError
            If the subject was fitted with the others, shapes do not match, values are not finite, or subjects share
            too few stimuli.
        """
        check_is_fitted(self)
        if subject in self.subjects_ and not self.subjects_[subject]["adapted"]:
            raise InputError(
                "this subject is part of the fit and cannot be adapted",
                given=repr(subject),
                expected=f"a subject other than {', '.join(self.subjects_)}",
                todo="predict from its responses, or fit again without it",
            )
        x = check_responses(subject, X, self.dtype)
        labels = check_labels(subject, groups, len(x))
        if self.method == "concatenated":
            common = {name: getattr(self, name) for name in ("stimuli_", "scores_", "basis_", "joint_mean_")}
            self.subjects_[subject] = align(subject, x, labels, common, self._ridge) | {"adapted": True}
            return self
        targets = self._targets(subject, y, len(x))
        if targets.shape != self.target_shape_:
            raise InputError(
                f"the targets of {subject} have a different shape from those fitted",
                given=f"shape {targets.shape}",
                expected=f"{self.target_shape_}",
            )
        products = (self.predicted_products_, self.cross_products_)
        learned = getattr(self, "learned_", {})  # decoders of earlier versions have none
        self.subjects_[subject] = adapt_latent(x, targets, labels, self.basis_, products, learned, self._ridge)
        return self

    def predict(self, subject: str | Mapping[str, ArrayLike], X: ArrayLike | None = None) -> NDArray:
        """Predict targets.

        Parameters
        ----------
        subject : str, or dict of array, shape (stimulus, voxel)
            Name of the subject. With ``"concatenated"``, also the responses of all fitted subjects to the same stimuli
            in the same order.
        X : array, shape (sample, voxel)
            Responses, if `subject` is a name.

        Returns
        -------
        y : array, shape (sample, ...)
            Predicted targets, in the shape of those fitted.

        Raises
        ------
        UnknownNameError
            If the subject is unknown.
        InputError
            If shapes do not match, or values are not finite.
        """
        check_is_fitted(self)
        if isinstance(subject, str):
            known = self._known(subject)
            if X is None:
                raise InputError(
                    "predictions need responses", given=f"predict({subject!r})", expected=f"predict({subject!r}, X)"
                )
            latents = self._project(subject, X, known["map"])
            y_mean = known["y_mean"]
        else:
            latents, y_mean = self._joint_latents(subject)
        backend = Backend(self.device)
        inputs = backend.asarray(latents, self.dtype)
        predicted = np.empty((len(latents), self.basis_.shape[1]), dtype=self.dtype)
        step = self.target_block or max(1, 2**25 // max(1, len(self.basis_)))
        for start in range(0, predicted.shape[1], step):
            block = slice(start, start + step)
            part = backend.to_numpy(inputs @ backend.asarray(self.basis_[:, block], self.dtype))
            predicted[:, block] = part + y_mean[block].astype(self.dtype)
        return predicted.reshape((len(latents), *self.target_shape_))

    def score_targets(self, subject: str, X: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Return R2 of each target, in the shape of a target; NaN for targets that do not vary."""
        return r2_of_targets(y, self.predict(subject, X), self.target_shape_)

    def score(self, subject: str, X: ArrayLike, y: ArrayLike) -> float:
        """Return the mean R2 over targets that vary."""
        return float(np.nanmean(self.score_targets(subject, X, y)))

    def _joint_latents(self, given: Any) -> tuple[NDArray, NDArray]:
        """Return the latents of responses of all subjects together."""
        if self.method != "concatenated":
            raise InputError(
                "this method decodes one subject at a time",
                given=f"method={self.method!r}",
                expected='predict("subj01", X)',
                todo='fit with method="concatenated" to decode responses of all subjects together',
            )
        responses = check_subjects(given, "responses")
        check_same_subjects(list(self.joint_), responses, "responses")
        sizes = {name: len(np.asarray(x)) for name, x in responses.items()}
        if len(set(sizes.values())) > 1:
            raise InputError(
                "responses of all subjects need the same stimuli in the same order",
                given=", ".join(f"{name} {size}" for name, size in sizes.items()),
                expected="one row for each stimulus",
            )
        total = 0.0
        for name, part in self.joint_.items():
            x = check_responses(name, responses[name], self.dtype, len(part["x_mean"]))
            total = total + subtract(x, part["x_mean"], self.dtype) @ part["map"]
        return np.asarray(total), self.joint_mean_

    def _project(self, subject: str, X: ArrayLike, weights: NDArray) -> NDArray:
        x = check_responses(subject, X, self.dtype, len(weights))
        backend = Backend(self.device)
        centered = subtract(x, self.subjects_[subject]["x_mean"], self.dtype)
        return backend.to_numpy(backend.asarray(centered, self.dtype) @ backend.asarray(weights, self.dtype))

    def _known(self, subject: str) -> dict[str, Any]:
        if subject not in self.subjects_:
            raise UnknownNameError(
                "subject",
                subject,
                self.subjects_,
                todo="adapt the decoder to a new subject first: adapt(subject, X, y)",
            )
        return self.subjects_[subject]

    def _ridge(self) -> RidgeDecoder:
        return RidgeDecoder(
            self.alpha, cv=self.cv, device=self.device, dtype=self.dtype, target_block=self.target_block
        )

    def _targets(self, subject: str, y: Any, n_samples: int) -> Targets:
        targets = Targets(y, self.dtype, self.target_block)
        if targets.n_samples != n_samples:
            raise InputError(
                f"responses and targets of {subject} have different numbers of samples",
                given=f"X {n_samples}, y {targets.n_samples}",
                expected="one row of targets for each sample",
            )
        return targets
