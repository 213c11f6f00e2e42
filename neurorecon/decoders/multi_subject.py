"""Decoders of several subjects at once, for subjects of whom there is little data."""

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
    """Predict targets from the responses of any of several subjects, and of one more with an hour of data.

    Subjects have their own voxels, and saw stimuli that are partly the same or all different. Every prediction is
    ``y_mean + (x - x_mean) @ map @ basis``: means and a map (voxel, latent) of each subject, and one basis
    (latent, target) of all.

    ``method="latent"``: the targets are ridge-regressed on each subject's responses, and the leading directions
    of what all subjects' responses explain are the latents: reduced-rank ridge regression (Mukherjee & Zhu 2011)
    in the layout of MindEye2 (Scotti et al. 2024), in closed form. For a new subject the map is fitted to its own
    samples, and a decoder (latent, latent) follows that was learned from the other subjects, fitted to pieces of
    as few samples ("curds and whey", Breiman & Friedman 1997). Cross-validation on the new subject's samples says
    how far that decoder is trusted, down to not at all. Stimuli need not be shared.

    ``method="concatenated"``: the voxels of all subjects are put side by side for each stimulus that all of them
    saw (repeats averaged), and ridge regression is fitted to those. A single subject, fitted or new, is aligned
    to that: ridge regression from its responses to the stimuli's places in the common space, as in Ferrante
    et al. (2024), who align subjects by their shared NSD images.

    Parameters
    ----------
    method : {"latent", "concatenated"}
        See above.
    alpha : float or sequence of float
        Regularization of every ridge regression; a sequence is searched for each, as by :class:`RidgeDecoder`.
    n_latents : int, optional
        Latents to keep; by default all along which anything is explained. For ``"latent"`` only.
    adapt_samples : int, optional
        Samples of the pieces that the decoder for new subjects is learned from: 750 are an hour of NSD. None
        learns none. For ``"latent"`` only.
    cv : int
        Folds that choose alpha, and how far the shared decoder is trusted.
    device, dtype, target_block
        As for :class:`RidgeDecoder`.

    Attributes
    ----------
    subjects_ : dict
        By subject, ``x_mean`` (voxel,), ``map`` (voxel, latent), ``y_mean`` (target,), ``alpha``, ``n_samples``,
        whether it was ``adapted``, and then ``prior``: how much the shared decoder was held to the identity, infinite
        for "not used".
    basis_ : array, shape (latent, target)
        Targets of each latent; orthonormal rows with ``"latent"``.
    stimuli_, scores_, joint_ : array, array, dict
        With ``"concatenated"``: the shared stimuli, their latents (stimulus, latent) and, by subject, the map of its
        voxels as part of all.
    predicted_products_, cross_products_ : array, shape (latent, latent)
        What the shared decoder is made from, with ``"latent"``.
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
        """Fit to all data of some subjects.

        Parameters
        ----------
        X : dict of array, shape (sample, voxel)
            Responses of each subject, e.g. ``{"subj01": ..., "subj02": ...}``.
        y : dict of array, shape (sample, ...)
            Targets of each subject's samples, streamed where they are dask or xarray arrays.
        groups : dict of array, shape (sample,), optional
            Stimulus ids: samples of one are never on both sides of a fold. Needed by ``"concatenated"``, where they
            say which stimuli subjects share.

        Returns
        -------
        MultiSubjectRidge
            Itself.

        Raises
        ------
        InputError
            Where subjects do not match, shapes do not fit, values are not finite, or no stimuli are shared.
        """
        if self.method not in ("latent", "concatenated"):
            raise UnknownNameError("method", self.method, ("latent", "concatenated"))
        if self.n_latents is not None and self.n_latents < 1:
            raise InputError("a latent layer needs latents", given=f"n_latents={self.n_latents}", expected="1 or more")
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
                    expected="the same for all",
                )
        for attribute in [attribute for attribute in vars(self) if attribute.endswith("_")]:
            delattr(self, attribute)
        if self.method == "latent":
            fitted = fit_latent(
                responses, y, targets, labels, self._ridge, Backend(self.device), self.n_latents, self.adapt_samples
            )
        else:
            fitted = fit_concatenated(responses, targets, labels, self._ridge)
        self.subjects_: dict[str, dict[str, Any]] = fitted["subjects_"]
        for attribute, value in fitted.items():
            setattr(self, attribute, value)
        self.target_shape_ = shape
        return self

    def adapt(self, subject: str, X: ArrayLike, y: Any = None, groups: ArrayLike | None = None) -> MultiSubjectRidge:
        """Fit a new subject, of whom there may be little data, with what was learned from the others.

        Parameters
        ----------
        subject : str
            Name of the subject; one that was adapted before is adapted anew.
        X : array, shape (sample, voxel)
            Responses.
        y : array, shape (sample, ...)
            Targets; not needed by ``"concatenated"``, where the shared stimuli say all.
        groups : array, shape (sample,), optional
            Stimulus ids, needed by ``"concatenated"``.

        Returns
        -------
        MultiSubjectRidge
            Itself.

        Raises
        ------
        InputError
            Where the subject was fitted with the others, shapes do not fit, values are not finite, or no stimuli are
            shared.
        """
        check_is_fitted(self)
        if subject in self.subjects_ and not self.subjects_[subject]["adapted"]:
            raise InputError(
                "this subject was fitted with all its data",
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
                f"targets of {subject} are not those fitted",
                given=f"shape {targets.shape}",
                expected=f"{self.target_shape_}",
            )
        learned = (self.predicted_products_, self.cross_products_)
        self.subjects_[subject] = adapt_latent(x, targets, labels, self.basis_, learned, self._ridge)
        return self

    def predict(self, subject: str | Mapping[str, ArrayLike], X: ArrayLike | None = None) -> NDArray:
        """Predict targets.

        Parameters
        ----------
        subject : str, or dict of array, shape (stimulus, voxel)
            The subject; or, with ``"concatenated"``, responses of all fitted subjects to the same stimuli in the
            same order.
        X : array, shape (sample, voxel)
            Responses of the subject.

        Returns
        -------
        y : array, shape (sample, ...)
            Predicted targets, in the shape of those fitted.
        """
        check_is_fitted(self)
        if isinstance(subject, str):
            known = self._known(subject)
            if X is None:
                raise InputError("there are no responses to predict from", given=f"predict({subject!r})")
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
                "subjects are decoded one by one",
                given=f"method={self.method!r}",
                expected='predict("subj01", X)',
                todo='fit with method="concatenated" to decode the responses of all subjects together',
            )
        responses = check_subjects(given, "responses")
        check_same_subjects(list(self.joint_), responses, "responses")
        sizes = {name: len(np.asarray(x)) for name, x in responses.items()}
        if len(set(sizes.values())) > 1:
            raise InputError(
                "responses of all subjects together need the same stimuli in the same order",
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
