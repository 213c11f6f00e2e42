"""Banded ridge regression (himalaya's multiple-kernel ridge), e.g. with one band for each target or ROI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import svdvals
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.alphas import alphas_at_edges, edges_of_fit
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
    """Create `bands` of :class:`neurorecon.decoders.BandedRidge` from masks of ROIs.

    Parameters
    ----------
    masks : mapping of str to bool array, shape (voxel,)
        Mask of each ROI, e.g. ``store.roi_masks("subj01")``.
    rois : sequence of str, or mapping of str to str or sequence of str, optional
        ROIs, one for each band, or a mapping from each band to its ROIs. By default, each ROI is a band.
    voxels : int array, shape (feature,), optional
        Voxel index of each column of X, e.g. ``store.responses("subj01", "nsdgeneral")["voxel"]``. By default, X
        contains all voxels.
    rest : str, optional
        Name of an additional band with the remaining voxels of X.

    Returns
    -------
    dict of str to int array
        Columns of X in each band.

    Raises
    ------
    InputError
        If two bands share voxels, a band has no voxels in X, or voxels of X are in no band and `rest` is not given.

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
            "bands share voxels, but each voxel must be in exactly one band",
            given=", ".join(f"{one} and {other} share {number}" for one, other, number in shared),
            expected="ROIs without voxels in common",
            todo="remove one of them, or choose disjoint ROIs (V1v and V1d rather than V1v and V1)",
        )
    empty = [band for band, part in columns.items() if not len(part)]
    if empty or not columns:
        raise InputError(
            "bands need voxels",
            given=f"no voxel of X is in {', '.join(empty) or 'any band'}",
            todo="remove these bands",
        )
    width = len(next(iter(masks.values()))) if voxels is None else len(np.asarray(voxels))  # type: ignore[arg-type]
    left = np.setdiff1d(np.arange(width), np.concatenate(list(columns.values())))
    if len(left) and rest is None:
        raise InputError(
            "some voxels are in no band",
            given=f"{len(left)} of {width} voxels are in none of {', '.join(columns)}",
            expected="each voxel in one band",
            todo="select only the voxels of these ROIs, or pass rest='other' to create a band of all others",
        )
    if rest is not None and rest in columns:
        raise InputError(
            "`rest` is already the name of a band", given=repr(rest), expected=f"a name other than {', '.join(columns)}"
        )
    return columns | ({rest: left} if rest is not None and len(left) else {})


def _union(masks: Mapping[str, ArrayLike], names: str | Sequence[str], voxels: ArrayLike | None) -> NDArray[np.bool_]:
    """Return a mask of the columns of X in any of these ROIs."""
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
            "`voxels` must contain the voxel index of each column of X",
            given=f"type {places.dtype}, shape {places.shape}",
            expected=f"whole numbers from 0 to {len(member) - 1}",
            todo='pass the coordinate "voxel" of the responses',
        )
    return member[places]


class FittedBands:
    """Methods of a fitted :class:`neurorecon.decoders.BandedRidge`; see there for the attributes."""

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
            Return the contribution of each band, without the intercept:
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
            Raw kernels, computed like those that were fitted.
        split : bool
            Return the contribution of each band, without the intercept.

        Returns
        -------
        y : array, shape (sample, target) or (band, sample, target)
            Predicted responses, or contributions.
        """
        check_is_fitted(self)
        if hasattr(self, "primal_coef_"):
            raise InputError(
                "this model has weights of features and cannot predict from kernels",
                given="a model fitted by the solver 'group_ridge'",
                todo="use predict(X), or fit with solver='random_search'",
            )
        names = kernel_names(kernels)
        if names is not None and names != self.band_names_:
            raise InputError(
                "these are not the bands that were fitted",
                given=", ".join(names),
                expected=", ".join(self.band_names_),
            )
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
        """Return the R2 or the correlation of each target.

        Parameters
        ----------
        X : array, shape (sample, feature)
            Features of held-out samples.
        y : array, shape (sample, target)
            Responses of held-out samples.
        split : bool
            Return the share of each band by the product measure; see
            :func:`neurorecon.decoders.validation.r2_score_split`. Shares sum to the joint R2 of the centered responses.
            This equals the joint R2 if training and held-out responses have the same mean, e.g. if they are centered
            within runs.
        metric : {"r2", "correlation"}
            Score. For the shares of the correlation, see
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
        """Return scores as :meth:`score`, with kernels as in :meth:`predict_kernels`."""
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
        """Return the weights of the features of a band, computed on each call.

        Parameters
        ----------
        band : str
            Name of the band.

        Returns
        -------
        array, shape (feature of the band, target)
            Weights of the centered features.
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
        """Weights of all features, (target, feature), or (feature,) if responses were a vector."""
        weights = np.empty((self.n_features_in_, len(self.intercept_)), dtype=self.dtype)
        for name, columns in zip(self.band_names_, self.band_columns_, strict=True):
            weights[columns] = self.coef(name)
        return weights.T.reshape((*self.target_shape_, -1))

    def best_band(self, split_r2: ArrayLike | None = None) -> NDArray[np.str_]:
        """Return the best band of each target.

        Parameters
        ----------
        split_r2 : array, shape (band, target), optional
            Shares of the bands on held-out samples, ``score(X, y, split=True)``; the largest is best. By default, the
            band with the largest weight in the fitted kernel is returned, which does not measure prediction.

        Returns
        -------
        names : str array, shape (target,)
            Name of the best band; empty if all shares are NaN.
        """
        check_is_fitted(self)
        shares = self.mixtures_ if split_r2 is None else np.asarray(split_r2, dtype=np.float64)
        if shares.ndim != 2 or len(shares) != len(self.band_names_):
            raise InputError(
                "the shares do not match the bands", given=f"shape {shares.shape}", expected="(band, target)"
            )
        known = ~np.isnan(shares).all(axis=0)
        winners = np.where(np.isnan(shares), -np.inf, shares).argmax(axis=0)
        return np.where(known, np.asarray(self.band_names_)[winners], "")

    def _require_features(self, instead: str) -> None:
        if not hasattr(self, "band_columns_"):
            raise InputError("this model was fitted to kernels and does not know the features", todo=f"use {instead}")


#: Default candidate alphas. They suit any data, as kernels are scaled to a mean diagonal of 1.
ALPHAS = tuple(float(value) for value in np.logspace(-1, 5, 13))

SOLVERS = ("auto", "random_search", "gradient", "group_ridge")

#: Default size of a block of targets in bytes, and its minimum number of targets per sample: himalaya decomposes all
#: kernels for each block, which takes as long as about two targets per sample.
_VOXEL_BYTES, _VOXELS_A_SAMPLE = 2**28, 4

#: Below this number of features per sample, the solver on features is faster. The ratio of CPU times on kernels and on
#: features, with 2 bands and 10 mixtures, at 0.25, 0.5, 0.75 and 1 features per sample, was 1.4, 1.0, 1.1 and 0.9 with
#: 120 samples and 1,000 voxels, and 1.8, 1.1, 0.7 and 0.5 with 480 samples.
_GROUP_RIDGE_BELOW = 0.5

#: Attributes that only some fits set, and that the next fit clears.
_STATE = ("X_fit_", "x_mean_", "band_columns_", "n_features_in_", "feature_names_in_", "dual_coef_", "primal_coef_",
          "kernel_rows_", "kernel_means_")  # fmt: skip


class BandedRidge(FittedBands, Persistent, MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Banded ridge regression: ridge regression with a separate regularization of each band of features.

    The kernel of a target is a weighted sum of one linear kernel per band. The weights and the overall regularization
    of each target are chosen by cross-validation over samples, with the solvers of himalaya (whose backend is restored
    afterwards). Targets are read and fitted in blocks of voxels.

    For decoding, the bands are ROIs; see :func:`neurorecon.decoders.bands_of_rois`. For features too wide for memory,
    compute kernels with :func:`neurorecon.decoders.kernels_by_block` and use :meth:`fit_kernels`. For time series,
    delay the features with :class:`neurorecon.decoders.Delayer`.

    Kernels are centered by the training mean of the features (and again by the training samples of each fold) and
    scaled to a mean diagonal of 1, so that the number of features and the units of a band have no influence. See
    :class:`neurorecon.decoders.kernels.KernelScaling`.

    Parameters
    ----------
    bands : dict of str to slice or index array, or sequence of one label per feature, optional
        Features of each band. By default, all features form one band, as in ridge regression.
    solver : {"auto", "random_search", "gradient", "group_ridge"}
        ``"random_search"`` evaluates mixtures of the kernels of the bands. ``"gradient"`` starts at their equal mixture
        and descends the gradient of the held-out error; it is slow, and pays off only for many bands.
        ``"group_ridge"`` is a random search on features instead of kernels, which is faster with fewer features than
        samples; the fitted model cannot predict from kernels. ``"auto"`` selects the faster random search.
    solver_params : dict, optional
        Additional parameters of himalaya's solver, e.g. ``{"max_iter": 50, "tol": 1e-3}`` for the gradient.
    alphas : sequence of float
        Candidate alphas, for kernels with a mean diagonal of 1. The gradient starts at the best one.
    n_iter : int or array, shape (mixture, band), optional
        Number of mixtures to evaluate, or the mixtures themselves; see :func:`candidate_mixtures`. Ignored by the
        gradient.
    cv : int, scikit-learn splitter or iterable of (train, test)
        Number of folds, splitter, or folds. See `groups` of :meth:`fit`.
    device : str
        ``"cpu"`` or ``"cuda"``.
    dtype : {"float32", "float64"}
        Precision of the search.
    random_state : int
        Seed of random mixtures and of the step sizes of the gradient.
    fit_intercept : bool
        Whether to fit an intercept. If False, features (or kernels) and responses must be centered.
    n_targets_batch : int, optional
        Number of targets searched at once; by default as many as fit in 512 MB.
    voxel_block : int, optional
        Number of targets read at once, of which himalaya makes about five copies; by default 256 MB, and at least four
        per sample. All kernels are decomposed for each block, which takes as long as about two targets per sample.

    Attributes
    ----------
    band_names_ : list of str
        Names of the bands.
    band_weights_ : array, shape (band, target)
        Weight of the scaled kernel of each band: mixture / alpha.
    mixtures_ : array, shape (band, target)
        Weight of each band in the mixture of kernels; sums to 1.
    alphas_ : array, shape (target,)
        Alpha of each target.
    cv_scores_ : array, shape (mixture, target)
        Negative mean squared error on held-out samples of each mixture with its best alpha, or at each step of the
        gradient.
    dual_coef_ : array, shape (train, target)
        Weights of the training samples. Not available with ``"group_ridge"``.
    primal_coef_ : array, shape (feature, target)
        Weights of the features. Only available with ``"group_ridge"``.
    solver_ : str
        Solver used.
    intercept_ : array, shape (target,)
        Mean of the training responses.
    n_features_in_ : int
        Number of features. Not available after :meth:`fit_kernels`.

    References
    ----------
    Nunez-Elizalde, Huth & Gallant (2019). Voxelwise encoding models with non-spherical multivariate normal
    priors. NeuroImage 197, 482-492.
    Dupre la Tour, Eickenberg, Nunez-Elizalde & Gallant (2022). Feature-space selection with banded ridge
    regression. NeuroImage 264, 119728.

    Examples
    --------
    >>> import numpy as np
    >>> import neurorecon as nr
    >>> generator = np.random.default_rng(0)
    >>> X = generator.standard_normal((60, 20))  # features, (sample, feature)
    >>> Y = X[:, :10] @ generator.standard_normal((10, 3)) + generator.standard_normal((60, 3))  # (sample, voxel)
    >>> model = nr.BandedRidge(bands={"gabor": slice(0, 10), "motion": slice(10, 20)}).fit(X, Y)
    >>> model.band_names_, model.band_weights_.shape, model.predict(X).shape
    (['gabor', 'motion'], (2, 3), (60, 3))
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
            Concatenated features of all bands.
        y : array, shape (sample, target) or (sample,)
            Responses; in encoding models, a target is a voxel.
        groups : array, shape (sample,), optional
            Group of each sample, usually its stimulus id (its run for time series). Groups are never split across a
            fold.

        Returns
        -------
        BandedRidge
            The fitted model.

        Raises
        ------
        InputError
            If shapes do not match, values are not finite, or bands do not partition the features.
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
        """Fit the model to precomputed kernels, e.g. of features too wide for memory.

        Parameters
        ----------
        kernels : array, shape (band, sample, sample), or dict of str to array, shape (sample, sample)
            Raw kernels ``X X'`` of each band, neither centered nor scaled. If it is not a dict, bands are named by the
            keys of the parameter `bands` (if it is a dict of equal length) or ``band0``, ``band1``, ...
        y : array, shape (sample, target) or (sample,)
            Responses.
        groups : array, shape (sample,), optional
            See :meth:`fit`.

        Returns
        -------
        BandedRidge
            The fitted model. Use :meth:`predict_kernels` for predictions.

        Raises
        ------
        InputError
            If shapes do not match, values are not finite, or the solver requires features.
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
        solver = "gradient" if solve is gradient else "random_search"
        return self._keep(
            found, scaling.scales, names, targets, solver, lambda: np.linalg.eigvalsh(scaled.mean(axis=0))
        )

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
        return self._keep(found, scales, names, targets, "group_ridge", lambda: svdvals(scaled) ** 2 / len(columns))

    def _prepare(
        self, y: Any, n_samples: int, groups: ArrayLike | None, n_bands: int
    ) -> tuple[Targets, SearchSettings]:
        """Return the targets in blocks and the settings of the solvers."""
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
            raise InputError("the alphas of banded ridge must be above 0", given=repr(self.alphas))
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
            raise InputError("a block needs at least one voxel", given=f"voxel_block={self.voxel_block!r}")
        return int(self.voxel_block)

    def _keep(
        self,
        found: Solution,
        scales: NDArray,
        names: list[str],
        targets: Targets,
        solver: str,
        spectrum: Callable[[], NDArray],
    ) -> BandedRidge:
        """Keep a solution; `spectrum` returns the eigenvalues of the mean kernel, which is rarely needed."""
        self.band_names_, self.target_shape_ = names, targets.shape
        self.kernel_scales_, self.solver_ = scales, solver
        self.mixtures_, self.alphas_, self.cv_scores_ = found.mixtures, found.alphas, found.scores
        self.band_weights_ = self.mixtures_ / self.alphas_
        self.intercept_ = found.intercept
        if solver != "gradient" and alphas_at_edges(self.alphas_, self.alphas).message() is not None:
            edges_of_fit(self.alphas_, self.alphas, spectrum()).warn()
        return self

    def _choose_solver(self, shape: tuple[int, int] | None) -> str:
        """Return the solver; with ``"auto"``, it depends on the shape of the features, if given."""
        if self.solver not in SOLVERS:
            raise UnknownNameError("solver", self.solver, SOLVERS)
        if self.solver != "auto":
            return self.solver
        few = shape is not None and shape[1] < _GROUP_RIDGE_BELOW * shape[0]
        return "group_ridge" if few else "random_search"

    def _forget(self) -> None:
        for attribute in _STATE:
            self.__dict__.pop(attribute, None)
