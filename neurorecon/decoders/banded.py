"""Banded ridge regression (himalaya's multiple-kernel ridge) with one band for each target or ROI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.banded_search import (
    SearchSettings,
    Solution,
    check_mixtures,
    gradient,
    group_ridge,
    random_search,
    solve_by_block,
)
from neurorecon.decoders.kernels import (
    KernelScaling,
    band_scales,
    check_kernels,
    kernel_names,
    linear_kernels,
    overlaps,
    resolve_bands,
)
from neurorecon.decoders.persistence import Persistent
from neurorecon.decoders.solvers import DEVICES
from neurorecon.decoders.targets import Targets
from neurorecon.decoders.validation import (
    check_alphas,
    check_dtype,
    check_inputs,
    correlation_score,
    correlation_score_split,
    group_folds,
    r2_score,
    r2_score_split,
)
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.parallel import choose_device


def bands_of_rois(
    masks: Mapping[str, ArrayLike],
    rois: Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
    *,
    voxels: ArrayLike | None = None,
    rest: str | None = None,
) -> dict[str, NDArray[np.int64]]:
    """Return `bands` of :class:`neurorecon.decoders.BandedRidge` from masks of regions of interest.

    Parameters
    ----------
    masks : mapping of str to bool array, shape (voxel,)
        Membership of each ROI, e.g. ``store.roi_masks("subj01")``.
    rois : sequence of str, or mapping of str to str or sequence of str, optional
        ROIs, one band each; or for each band the ROIs that make it up. All ROIs where left out.
    voxels : int array, shape (feature,), optional
        Which voxel each column of X is, e.g. ``store.responses("subj01", "nsdgeneral")["voxel"]``. By default X has all
        voxels.
    rest : str, optional
        Name of a band for the voxels of X that are in none of the others.

    Returns
    -------
    dict of str to int array
        Columns of X of each band.

    Raises
    ------
    InputError
        Where two bands share voxels, a band has none in X, or voxels of X are in no band and `rest` is not given.

    Examples
    --------
    >>> X = store.responses("subj01", ["V1", "V2", "MT"])  # doctest: +SKIP
    >>> bands = bands_of_rois(store.roi_masks("subj01"), ["V1", "V2", "MT"], voxels=X["voxel"])  # doctest: +SKIP
    >>> BandedRidge(bands).fit(X, targets)  # doctest: +SKIP
    """
    parts = rois if isinstance(rois, Mapping) else {name: name for name in (masks if rois is None else rois)}
    columns = {str(band): np.flatnonzero(_union(masks, part, voxels)) for band, part in parts.items()}
    shared = overlaps(columns)
    if shared:
        raise InputError(
            "bands share voxels, and each voxel has to be in one band",
            given=", ".join(f"{one} and {other} share {number}" for one, other, number in shared),
            expected="regions without voxels in common",
            todo="leave one of them out, or name regions side by side (V1v and V1d, not V1v and V1)",
        )
    empty = [band for band, part in columns.items() if not len(part)]
    if empty or not columns:
        raise InputError(
            "bands need voxels", given=f"no voxel of X is in {', '.join(empty) or 'any band'}", todo="leave them out"
        )
    width = len(next(iter(masks.values()))) if voxels is None else len(np.asarray(voxels))  # type: ignore[arg-type]
    left = np.setdiff1d(np.arange(width), np.concatenate(list(columns.values())))
    if len(left) and rest is None:
        raise InputError(
            "some voxels are in no band",
            given=f"{len(left)} of {width} voxels are in none of {', '.join(columns)}",
            expected="each voxel in one band",
            todo="select the voxels of these regions only, or give rest='other' for a band of all others",
        )
    if rest is not None and rest in columns:
        raise InputError("the rest needs a name of its own", given=repr(rest), expected=f"none of {', '.join(columns)}")
    return columns | ({rest: left} if rest is not None and len(left) else {})


def _union(masks: Mapping[str, ArrayLike], names: str | Sequence[str], voxels: ArrayLike | None) -> NDArray[np.bool_]:
    """Return which columns of X lie in any of these ROIs."""
    wanted = [names] if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in masks:
            raise UnknownNameError("ROI", name, masks)
    member = np.any([np.asarray(masks[name], dtype=bool) for name in wanted], axis=0)
    if voxels is None:
        return member
    places = np.asarray(voxels)
    if (
        places.ndim != 1
        or places.dtype.kind not in "iu"
        or places.min(initial=0) < 0
        or places.max(initial=0) >= len(member)
    ):
        raise InputError(
            "`voxels` has to say which voxel each column of X is",
            given=f"type {places.dtype}, shape {places.shape}",
            expected=f"whole numbers from 0 to {len(member) - 1}",
            todo='give the coordinate "voxel" of the responses',
        )
    return member[places]


class FittedBands:
    """What :class:`neurorecon.decoders.BandedRidge` does once it is fitted; see there for the attributes."""

    dtype: str
    band_names_: list[str]
    band_columns_: list[NDArray[np.int64]]
    band_weights_: NDArray[np.float64]
    mixtures_: NDArray[np.float64]
    kernel_rows_: NDArray[np.float64]
    kernel_means_: NDArray[np.float64]
    kernel_scales_: NDArray[np.float64]
    dual_coef_: NDArray
    primal_coef_: NDArray
    intercept_: NDArray[np.float64]
    target_shape_: tuple[int, ...]
    x_mean_: NDArray[np.float64]
    X_fit_: NDArray
    n_features_in_: int

    def predict(self, X: ArrayLike, split: bool = False) -> NDArray:
        """Predict responses.

        Parameters
        ----------
        X : array, shape (sample, feature)
            Features.
        split : bool
            Return what each band contributes: deviations from ``intercept_``, which belongs to no band.
            ``predict(X) == predict(X, split=True).sum(0) + intercept_``.

        Returns
        -------
        y : array, shape (sample, target) or (band, sample, target)
            Predicted responses, or contributions.
        """
        check_is_fitted(self)
        self._require_features("predict_kernels(kernels)")
        x = check_inputs(self, X, self.dtype, reset=False)
        if hasattr(self, "primal_coef_"):
            return self._predict_features(x, split)
        kernels = linear_kernels(x, self.X_fit_, self.band_columns_, self.x_mean_)
        return self.predict_kernels(kernels, split)

    def _predict_features(self, x: NDArray, split: bool) -> NDArray:
        x = (x - self.x_mean_).astype(self.dtype)
        if split:
            parts = np.stack([x[:, columns] @ self.primal_coef_[columns] for columns in self.band_columns_])
            return parts.reshape((*parts.shape[:2], *self.target_shape_))
        predicted = x @ self.primal_coef_
        predicted += self.intercept_.astype(self.dtype)
        return predicted.reshape((len(predicted), *self.target_shape_))

    def predict_kernels(self, kernels: ArrayLike | Mapping[str, ArrayLike], split: bool = False) -> NDArray:
        """Predict responses from kernels between new and training samples.

        Parameters
        ----------
        kernels : array, shape (band, sample, train), or dict of str to array, shape (sample, train)
            Raw kernels, computed as those that were fitted.
        split : bool
            Return what each band contributes, without the intercept.

        Returns
        -------
        y : array, shape (sample, target) or (band, sample, target)
            Predicted responses, or contributions.
        """
        check_is_fitted(self)
        if hasattr(self, "primal_coef_"):
            raise InputError(
                "this model has weights of features, and cannot predict from kernels",
                given="a model fitted by the solver 'group_ridge'",
                todo="use predict(X), or fit with solver='random_search'",
            )
        names = kernel_names(kernels)
        if names is not None and names != self.band_names_:
            raise InputError("these are not the bands that were fitted", given=names, expected=self.band_names_)
        parts_of_bands = check_kernels(kernels, len(self.dual_coef_), len(self.band_names_))
        scaling = KernelScaling(self.kernel_rows_, self.kernel_means_, self.kernel_scales_)
        scaled = scaling.apply(parts_of_bands, self.dtype)
        weights = self.band_weights_.astype(self.dtype)
        if split:
            pairs = zip(scaled, weights, strict=True)
            parts = np.stack([(kernel @ self.dual_coef_) * row for kernel, row in pairs])
            return parts.reshape((*parts.shape[:2], *self.target_shape_))
        predicted = np.zeros((scaled.shape[1], self.dual_coef_.shape[1]), dtype=self.dtype)
        for kernel, row in zip(scaled, weights, strict=True):
            predicted += (kernel @ self.dual_coef_) * row
        predicted += self.intercept_.astype(self.dtype)
        return predicted.reshape((len(predicted), *self.target_shape_))

    def score(self, X: ArrayLike, y: ArrayLike, split: bool = False, metric: str = "r2") -> NDArray[np.float64]:
        """Return R2, or the correlation, of each target.

        Parameters
        ----------
        X : array, shape (sample, feature)
            Features of held-out samples.
        y : array, shape (sample, target)
            Their responses.
        split : bool
            Return the share of each band (product measure,
            :func:`neurorecon.decoders.validation.r2_score_split`). Shares sum to the joint R2 where the held-out
            responses have the training mean, e.g. where both were centered run by run; otherwise to the
            joint R2 of the responses less their mean.
        metric : {"r2", "correlation"}
            Which score; for shares of the correlation see
            :func:`neurorecon.decoders.validation.correlation_score_split`.

        Returns
        -------
        score : array, shape (target,) or (band, target)
            NaN for targets that do not vary.
        """
        return self._score(self.predict(X, split), y, split, metric)

    def score_kernels(
        self, kernels: ArrayLike | Mapping[str, ArrayLike], y: ArrayLike, split: bool = False, metric: str = "r2"
    ) -> NDArray[np.float64]:
        """Return scores as :meth:`score` does, from kernels as for :meth:`predict_kernels`."""
        return self._score(self.predict_kernels(kernels, split), y, split, metric)

    def _score(self, predicted: NDArray, y: ArrayLike, split: bool, metric: str) -> NDArray[np.float64]:
        scores: dict[str, Any] = {
            "r2": (r2_score, r2_score_split),
            "correlation": (correlation_score, correlation_score_split),
        }
        if metric not in scores:
            raise UnknownNameError("score", metric, scores)
        measured = np.asarray(y)
        measured = measured.reshape(len(measured), -1)
        return scores[metric][split](measured, predicted.reshape(*predicted.shape[: 1 + split], -1))

    def coef(self, band: str) -> NDArray:
        """Return the weights of one band's features, shape (feature of the band, target).

        They answer to features less their training mean; computed at each call.

        Parameters
        ----------
        band : str
            Its name.
        """
        check_is_fitted(self)
        self._require_features("weights of the samples (dual_coef_)")
        if band not in self.band_names_:
            raise UnknownNameError("band", band, self.band_names_)
        number = self.band_names_.index(band)
        columns = self.band_columns_[number]
        if hasattr(self, "primal_coef_"):
            return self.primal_coef_[columns]
        centered = self.X_fit_[:, columns].astype(np.float64) - self.x_mean_[columns]
        weights = self.band_weights_[number] / self.kernel_scales_[number]
        return ((centered.T @ self.dual_coef_) * weights).astype(self.dtype)

    @property
    def coef_(self) -> NDArray:
        """Weights of all features, (target, feature), or (feature,) for responses given as a vector."""
        weights = np.empty((self.n_features_in_, len(self.intercept_)), dtype=self.dtype)
        for name, columns in zip(self.band_names_, self.band_columns_, strict=True):
            weights[columns] = self.coef(name)
        return weights.T.reshape((*self.target_shape_, -1))

    def best_band(self, split_r2: ArrayLike | None = None) -> NDArray[np.str_]:
        """Return the winning band of each target.

        Parameters
        ----------
        split_r2 : array, shape (band, target), optional
            ``score(X, y, split=True)`` on held-out samples: the band with the largest share wins. Without
            it, the band with the largest weight in the fitted kernel does, which says what was used, not
            what was predicted.

        Returns
        -------
        names : str array, shape (target,)
            Empty where all shares are NaN.
        """
        check_is_fitted(self)
        shares = self.mixtures_ if split_r2 is None else np.asarray(split_r2, dtype=np.float64)
        if shares.ndim != 2 or len(shares) != len(self.band_names_):
            raise InputError(
                "the shares do not fit the bands", given=f"shape {shares.shape}", expected="(band, target)"
            )
        known = ~np.isnan(shares).all(axis=0)
        winners = np.where(np.isnan(shares), -np.inf, shares).argmax(axis=0)
        return np.where(known, np.asarray(self.band_names_)[winners], "")

    def _require_features(self, instead: str) -> None:
        if not hasattr(self, "band_columns_"):
            raise InputError("this model was fitted to kernels and does not know the features", todo=f"use {instead}")


#: Regularization strengths tried by default. Kernels are scaled to a mean diagonal of 1, so they fit any
#: data.
ALPHAS = tuple(float(value) for value in np.logspace(-1, 5, 13))

SOLVERS = ("auto", "random_search", "gradient", "group_ridge")

#: Bytes of targets read at once by default, unless these are fewer than so many for each sample: himalaya decomposes
#: all kernels again for each block, which takes as long as about two targets a sample.
_VOXEL_BYTES, _VOXELS_A_SAMPLE = 2**28, 4

#: The solver on features is the quicker one below so many features a sample. Processor time on kernels over that on
#: features, with 2 bands and 10 mixtures, at 0.25, 0.5, 0.75 and 1 feature a sample: 1.4, 1.0, 1.1 and 0.9 for 120
#: samples and 1,000 voxels; 1.8, 1.1, 0.7 and 0.5 for 480.
_GROUP_RIDGE_BELOW = 0.5

#: What a fit leaves behind, and another fit may not.
_STATE = ("X_fit_", "x_mean_", "band_columns_", "n_features_in_", "feature_names_in_", "dual_coef_", "primal_coef_",
          "kernel_rows_", "kernel_means_")  # fmt: skip


class BandedRidge(FittedBands, Persistent, MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Predict responses from bands of features, each with a regularization of its own, chosen for each voxel.

    The kernel of a target is a weighted sum of one linear kernel per band. Weights and overall
    regularization are chosen by himalaya's solvers with cross-validation over samples, its backend
    set only for the time it runs. Targets are read and fitted in blocks of voxels.

    For decoding, bands are regions: see :func:`neurorecon.decoders.bands_of_rois`. For features too wide for memory,
    compute kernels with :func:`neurorecon.decoders.kernels_by_block` and call :meth:`fit_kernels`. For time series,
    delay the features with :class:`neurorecon.decoders.Delayer`.

    Kernels are centered by the training mean of the features (again within each fold, on the fold's own
    training samples) and scaled to a mean diagonal of 1, so that a band does not win because it has more
    features or larger units. See :class:`neurorecon.decoders.kernels.KernelScaling`.

    Parameters
    ----------
    bands : dict of str to slice or index array, or sequence of one label per feature, optional
        Which features make up each band. By default all features are one band: ridge regression.
    solver : {"auto", "random_search", "gradient", "group_ridge"}
        ``"random_search"`` tries mixtures of the bands' kernels. ``"gradient"`` starts at their equal mixture and
        follows the gradient of the held-out error, many times slower for few bands and at its best with many.
        ``"group_ridge"`` is the random search on features instead of kernels, quicker with fewer features than
        samples; it predicts from features alone. ``"auto"`` is the random search, on features where that is quicker.
    solver_params : dict, optional
        Further parameters of himalaya's solver, e.g. ``{"max_iter": 50, "tol": 1e-3}`` for the gradient.
    alphas : sequence of float
        Regularization strengths tried, for kernels with a mean diagonal of 1. The gradient starts at the best.
    n_iter : int or array, shape (mixture, band), optional
        How many mixtures of bands are tried, or the mixtures; see :func:`candidate_mixtures`. Not for the gradient.
    cv : int, scikit-learn splitter or iterable of (train, test)
        Folds. See `groups` of :meth:`fit`.
    device : str
        ``"cpu"`` or ``"cuda"``.
    dtype : {"float32", "float64"}
        Precision of the search.
    random_state : int
        Seed of random mixtures, and of the gradient's step sizes.
    fit_intercept : bool
        Whether means are fitted. Without, features (or kernels) and responses have to be centered.
    n_targets_batch : int, optional
        Targets searched at once; by default as many as fit into 512 MB.
    voxel_block : int, optional
        Targets read at once, of which himalaya makes about five copies; by default 256 MB of them, and no fewer than
        four for each sample. Each block decomposes all kernels again, at the price of about two targets a sample.

    Attributes
    ----------
    band_names_ : list of str
        Names of the bands.
    band_weights_ : array, shape (band, target)
        Weight of each band's scaled kernel, mixture / alpha.
    mixtures_ : array, shape (band, target)
        Share of each band in the kernel; sums to 1.
    alphas_ : array, shape (target,)
        Regularization of each target.
    cv_scores_ : array, shape (mixture, target)
        Negative mean squared error on held-out samples for each mixture tried, with its best alpha; for the gradient,
        at each step.
    dual_coef_ : array, shape (train, target)
        Weights of the training samples; not after ``"group_ridge"``.
    primal_coef_ : array, shape (feature, target)
        Weights of the features; after ``"group_ridge"``.
    solver_ : str
        The solver used.
    intercept_ : array, shape (target,)
        Training mean of the responses.
    n_features_in_ : int
        Number of features; not after :meth:`fit_kernels`.

    References
    ----------
    Nunez-Elizalde, Huth & Gallant (2019). Voxelwise encoding models with non-spherical multivariate normal
    priors. NeuroImage 197, 482-492.
    Dupre la Tour, Eickenberg, Nunez-Elizalde & Gallant (2022). Feature-space selection with banded ridge
    regression. NeuroImage 264, 119728.
    """

    def __init__(
        self,
        bands: Any = None,
        *,
        solver: Literal["auto", "random_search", "gradient", "group_ridge"] = "auto",
        solver_params: Mapping[str, Any] | None = None,
        alphas: Any = ALPHAS,
        n_iter: Any = None,
        cv: Any = 5,
        device: str = "cpu",
        dtype: Literal["float32", "float64"] = "float32",
        random_state: int = 0,
        fit_intercept: bool = True,
        n_targets_batch: int | None = None,
        voxel_block: int | None = None,
    ) -> None:
        self.bands = bands
        self.solver = solver
        self.solver_params = solver_params
        self.alphas = alphas
        self.n_iter = n_iter
        self.cv = cv
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.fit_intercept = fit_intercept
        self.n_targets_batch = n_targets_batch
        self.voxel_block = voxel_block

    def fit(self, X: ArrayLike, y: Any = None, groups: ArrayLike | None = None) -> BandedRidge:
        """Fit the model.

        Parameters
        ----------
        X : array, shape (sample, feature)
            Features of all bands side by side.
        y : array, shape (sample, target) or (sample,)
            Responses; a target is a voxel.
        groups : array, shape (sample,), optional
            Labels, usually stimulus ids (runs for time series): samples of one group are never on both sides
            of a fold.

        Returns
        -------
        BandedRidge
            Itself.

        Raises
        ------
        InputError
            Where shapes do not fit, values are not finite, or bands do not share out the features.
        """
        self._forget()
        x = check_inputs(self, X, check_dtype(self.dtype), reset=True)
        columns = resolve_bands(self.bands, x.shape[1])
        mean = x.mean(axis=0, dtype=np.float64) if self.fit_intercept else np.zeros(x.shape[1])
        parts = list(columns.values())
        if self._choose_solver(x.shape) == "group_ridge":
            self._fit_features(x, parts, mean, y, groups, list(columns))
        else:
            self._fit_kernels(list(linear_kernels(x, x, parts, mean)), y, groups, list(columns))
            self.X_fit_ = x
        self.band_columns_, self.x_mean_ = parts, mean
        return self

    def fit_kernels(
        self, kernels: ArrayLike | Mapping[str, ArrayLike], y: Any, groups: ArrayLike | None = None
    ) -> BandedRidge:
        """Fit the model to kernels computed elsewhere, e.g. of features too wide for memory.

        Parameters
        ----------
        kernels : array, shape (band, sample, sample), or dict of str to array, shape (sample, sample)
            Raw kernels ``X X'`` of each band, neither centered nor scaled. Without a dict, bands are named
            by the keys of the parameter `bands` where it is a dict of as many, else ``band0``, ``band1`` ...
        y : array, shape (sample, target) or (sample,)
            Responses.
        groups : array, shape (sample,), optional
            As for :meth:`fit`.

        Returns
        -------
        BandedRidge
            Itself. Predict with :meth:`predict_kernels`.
        """
        self._forget()
        names, parts = kernel_names(kernels), check_kernels(kernels)
        if names is None and isinstance(self.bands, Mapping) and len(self.bands) == len(parts):
            names = [str(name) for name in self.bands]
        if self._choose_solver(None) == "group_ridge":
            raise InputError(
                "the solver 'group_ridge' needs features, not kernels",
                given="fit_kernels",
                todo="call fit, or choose another solver",
            )
        return self._fit_kernels(parts, y, groups, names or [f"band{number}" for number in range(len(parts))])

    def _fit_kernels(self, kernels: list[NDArray], y: Any, groups: ArrayLike | None, names: list[str]) -> BandedRidge:
        targets, settings = self._prepare(y, len(kernels[0]), groups, len(kernels))
        scaling = KernelScaling.fit(kernels, bool(self.fit_intercept))
        scaled = scaling.apply(kernels, self.dtype)
        del kernels
        solve = gradient if self.solver == "gradient" else random_search
        found = solve_by_block(targets, partial(solve, scaled, settings=settings), settings.center)
        self.kernel_rows_, self.kernel_means_ = scaling.rows, scaling.means
        self.dual_coef_ = found.weights
        return self._keep(found, scaling.scales, names, targets, "gradient" if solve is gradient else "random_search")

    def _fit_features(
        self, x: NDArray, columns: list[NDArray], mean: NDArray, y: Any, groups: ArrayLike | None, names: list[str]
    ) -> BandedRidge:
        targets, settings = self._prepare(y, len(x), groups, len(columns))
        scales = band_scales(x, columns, mean)
        roots = np.empty(x.shape[1])
        for part, scale in zip(columns, scales, strict=True):
            roots[part] = np.sqrt(scale)
        scaled = ((x - mean) / roots).astype(self.dtype)
        solve = partial(group_ridge, scaled, columns, settings=settings)
        found = solve_by_block(targets, solve, settings.center)
        self.primal_coef_ = found.weights
        self.primal_coef_ /= roots[:, None].astype(self.dtype)
        return self._keep(found, scales, names, targets, "group_ridge")

    def _prepare(
        self, y: Any, n_samples: int, groups: ArrayLike | None, n_bands: int
    ) -> tuple[Targets, SearchSettings]:
        """Return the targets in blocks, and what the solvers are told."""
        check_dtype(self.dtype)
        choose_device(self.device, DEVICES)
        targets = Targets(y, self.dtype, self._block_size(n_samples))
        if targets.n_samples != n_samples:
            raise InputError(
                "features and responses have different numbers of samples (inconsistent lengths)",
                given=f"X {n_samples}, y {targets.n_samples}",
                expected="one row of responses for each sample",
            )
        alphas = np.atleast_1d(check_alphas(self.alphas))
        if alphas.min() <= 0:
            raise InputError("regularization strengths of banded ridge are above 0", given=repr(self.alphas))
        return targets, SearchSettings(
            mixtures=check_mixtures(self.n_iter, n_bands, self.random_state),
            alphas=alphas,
            folds=group_folds(n_samples, groups, self.cv),
            center=bool(self.fit_intercept),
            device=self.device,
            random_state=self.random_state,
            n_targets_batch=self.n_targets_batch,
            options=dict(self.solver_params or {}),
        )

    def _block_size(self, n_samples: int) -> int:
        if self.voxel_block is None:
            size = np.dtype(self.dtype).itemsize
            return max(_VOXEL_BYTES // (size * n_samples), _VOXELS_A_SAMPLE * n_samples)
        if int(self.voxel_block) < 1:
            raise InputError("a block has at least one voxel", given=f"voxel_block={self.voxel_block!r}")
        return int(self.voxel_block)

    def _keep(self, found: Solution, scales: NDArray, names: list[str], targets: Targets, solver: str) -> BandedRidge:
        self.band_names_, self.target_shape_ = names, targets.shape
        self.kernel_scales_, self.solver_ = scales, solver
        self.mixtures_, self.alphas_, self.cv_scores_ = found.mixtures, found.alphas, found.scores
        self.band_weights_ = self.mixtures_ / self.alphas_
        self.intercept_ = found.intercept
        return self

    def _choose_solver(self, shape: tuple[int, int] | None) -> str:
        """Return the solver, by the shape of the features where they are given."""
        if self.solver not in SOLVERS:
            raise UnknownNameError("solver", self.solver, SOLVERS)
        if self.solver != "auto":
            return self.solver
        few = shape is not None and shape[1] < _GROUP_RIDGE_BELOW * shape[0]
        return "group_ridge" if few else "random_search"

    def _forget(self) -> None:
        for attribute in _STATE:
            self.__dict__.pop(attribute, None)
