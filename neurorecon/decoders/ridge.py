"""Ridge regression from responses to targets, or from features to responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.alphas import Sharing
from neurorecon.decoders.persistence import Persistent
from neurorecon.decoders.ridge_fit import RidgeFit, check_rule
from neurorecon.decoders.smoother import (
    Moments,
    RidgeSmoother,
    check_renorm,
    check_samples,
    measure_factors,
    measure_smoother,
)
from neurorecon.decoders.solvers import Backend, subtract
from neurorecon.decoders.targets import Targets, output_columns, release_pages
from neurorecon.decoders.validation import (
    TargetScores,
    check_alphas,
    check_dtype,
    check_inputs,
    check_solver,
    check_weights,
)
from neurorecon.errors import InputError, UnknownNameError

#: Attributes that hold the moments of renormalization.
MOMENTS = ("target_mean_", "target_deviation_", "predicted_mean_", "predicted_deviation_")


class FittedRidge(TargetScores):
    """What :class:`neurorecon.decoders.RidgeDecoder` does once it is fitted; see there for the attributes."""

    device: str
    dtype: str
    target_block: int | None
    coordinates_: NDArray
    intercept_: NDArray[np.float64]
    n_features_in_: int
    sample_vectors_: NDArray
    selected_voxels_: NDArray[np.int64]
    singular_values_: NDArray[np.float64]
    target_deviation_: NDArray[np.float64]
    target_mean_: NDArray[np.float64]
    voxel_vectors_: NDArray
    x_mean_: NDArray[np.float64]
    _sample_roots_: NDArray[np.float64] | None

    def predict(self, X: ArrayLike, out: Any = None) -> Any:
        """Predict targets.

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses.
        out : array, shape (sample, ...), optional
            Where predictions are written block by block: a NumPy array, memory map or Zarr array, flattened or
            in the shape of the targets.

        Returns
        -------
        array, shape (sample, ...)
            Predicted targets, in the shape of those fitted: `out`, or a new array.

        Raises
        ------
        InputError
            Where responses do not fit the decoder, or predictions do not fit into `out`.
        """
        check_is_fitted(self, "coordinates_")
        inputs = self._inputs(X)
        out, written = output_columns(out, len(inputs), self.target_shape_, self.dtype)
        step = self.target_block or max(1, 2**25 // max(1, len(self.coordinates_)))
        for columns in written.blocks(step):
            written[columns] = self._predict_columns(inputs, columns)
        return out

    def predict_blocks(self, X: ArrayLike) -> Iterator[tuple[slice, NDArray]]:
        """Yield ``(columns, predictions)``, predictions of some of the flattened targets, (sample, target).

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses.
        """
        check_is_fitted(self, "coordinates_")
        inputs = self._inputs(X)
        step = self.target_block or max(1, 2**25 // max(1, len(self.coordinates_)))
        for start in range(0, self.coordinates_.shape[1], step):
            columns = slice(start, min(start + step, self.coordinates_.shape[1]))
            yield columns, self._predict_columns(inputs, columns)

    def _inputs(self, X: ArrayLike) -> Any:
        """Return responses along the right singular vectors, (sample, component), on the device."""
        backend = Backend(self.device)
        x = check_inputs(self, X, self.dtype, reset=False)
        x = x[:, self.selected_voxels_] if hasattr(self, "selected_voxels_") else x
        centered = backend.asarray(subtract(x, self.x_mean_, self.dtype), self.dtype)
        return centered @ backend.asarray(self.voxel_vectors_, self.dtype)

    def _predict_columns(self, inputs: Any, columns: slice) -> NDArray:
        backend = Backend(self.device)
        part = backend.to_numpy(inputs @ backend.asarray(self.coordinates_[:, columns], self.dtype))
        release_pages(self.coordinates_)
        predicted = part + self.intercept_[columns].astype(self.dtype)
        if not hasattr(self, "target_deviation_"):
            return predicted
        left_out = [getattr(self, name, None) for name in MOMENTS[2:]]
        return Moments(self.target_mean_, self.target_deviation_, *left_out).apply(predicted, columns)

    @property
    def coef_(self) -> NDArray:
        """Weights, shape (*target_shape, voxel) as in scikit-learn, computed at each access.

        They answer to responses less their means, and give predictions before `renorm`. Voxels that were not
        selected have a weight of zero. Weights are no map of where information is: see :meth:`haufe_patterns`.
        """
        check_is_fitted(self, "coordinates_")
        return self._all_voxels((self.voxel_vectors_ @ self.coordinates_).T, 0.0).reshape((*self.target_shape_, -1))

    @property
    def dual_coef_(self) -> NDArray:
        """Weights of the samples, (sample, target): ``coef_.T = (X - x_mean_).T @ dual_coef_``."""
        check_is_fitted(self, "coordinates_")
        scaled = self.sample_vectors_ / self.singular_values_.astype(self.dtype)
        if self._sample_roots_ is not None:
            scaled = scaled * self._sample_roots_[:, None].astype(self.dtype)
        return scaled @ self.coordinates_

    def haufe_patterns(self, targets: slice | NDArray[np.int64] | None = None) -> NDArray:
        """Return the activation pattern of each target: covariance of the responses times weights.

        Unlike weights, patterns say where responses vary with what is decoded; weights also cancel noise and
        are large in voxels that carry nothing but noise.

        Parameters
        ----------
        targets : slice or int array, optional
            Which of the flattened targets; by default all.

        Returns
        -------
        patterns : array, shape (target, voxel)
            Covariance of each voxel with the decoded value of each target over the training samples,
            in units of voxel times target; NaN for voxels that were not selected.

        References
        ----------
        Haufe et al. (2014). On the interpretation of weight vectors of linear models in multivariate
        neuroimaging. NeuroImage 87, 96-110.
        """
        check_is_fitted(self, "coordinates_")
        chosen = self.coordinates_ if targets is None else self.coordinates_[:, targets]
        variances = (self.singular_values_**2 / max(1, len(self.sample_vectors_) - 1)).astype(self.dtype)
        return self._all_voxels((self.voxel_vectors_ @ (variances[:, None] * chosen)).T, np.nan)

    def _all_voxels(self, values: NDArray, missing: float) -> NDArray:
        """Return values of the selected voxels, (target, voxel), among those of all voxels."""
        if not hasattr(self, "selected_voxels_"):
            return values
        found = np.full((len(values), self.n_features_in_), missing, dtype=values.dtype)
        found[:, self.selected_voxels_] = values
        return found


class RidgeDecoder(FittedRidge, Persistent, MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Predict any number of targets from responses by ridge regression.

    The responses are factorized once, whatever the number of targets, of folds and of candidates for alpha;
    targets are streamed in blocks, from memory or from disk. Predictions need no weight matrix of shape
    (voxel, target), and :meth:`fit_and_predict` not even the coordinates of the targets.

    Memory beside the data: three matrices of (sample, sample) in double precision while fitting (of (voxel,
    voxel) where there are fewer voxels), the factors of shapes (sample, component) and (voxel, component), the
    fitted coordinates (component, target), unless they are kept on disk, and two blocks of targets, with at
    most min(sample, voxel) components. Choosing alpha by folds for each target takes up to another gigabyte.

    Parameters
    ----------
    alpha : float or sequence of float
        Strength of the regularization, on the scale of the sum of squares over samples (as in scikit-learn).
        With a sequence, the candidate with the least squared error on held-out samples is taken; of equals,
        the largest.
    cv : int, "gcv", "leave-one-group-out", scikit-learn splitter or iterable of (train, test)
        What chooses alpha: folds (an int is their number; "leave-one-group-out" makes each group, such as each
        run, a fold; see `groups` of :meth:`fit`), or generalized cross-validation, which needs no folds and
        least time, for samples without repeats.
    alpha_per : {"all", "target"}, int, str or array
        Which targets share alpha: all; none (each target has its own); those at one position along an axis of
        a target, given by its number (0 for one alpha for each token of (token, channel)) or, where targets
        are an xarray array, its name; or those with one label, from an array with a label for each target.
    fit_intercept : bool
        Whether means are fitted. Without, responses and targets have to be centered.
    renorm : {"train", "test"}, optional
        Give predictions the mean and the standard deviation that each target has in the training samples.
        Before, they are standardized: "train" by the moments of predictions of up to 1,000 training samples,
        each made without its group; "test" by those of the predictions themselves, as released with
        Brain-Diffuser, so that one prediction depends on the others.
    select_voxels : int, float or str, optional
        Keep the voxels with the highest mean absolute correlation with the targets: a count (500), a share of
        all (0.25) or those above a threshold (">0.1"). Within cross-validation they are chosen in the training
        samples of each fold. That takes a product of all voxels with all targets for each fold.
    missing : {"raise", "omit"}
        What NaN in targets means: a mistake, or that a sample lacks this target, which is then fitted on the
        others. Targets that lack the same samples are fitted together.
    solver : {"auto", "dual", "primal"}
        Factorize the samples' or the voxels' products; "auto" takes the smaller matrix. Same results.
    device : str
        ``"cpu"`` (NumPy), ``"torch"`` (torch on the processor), ``"cuda"`` or ``"cuda:<number>"``.
    dtype : {"float32", "float64"}
        Precision of everything as large as the data. The factorization itself is always computed in float64.
        Measured (600 samples, 1,000 voxels, 300 targets, alpha from 4e-8 to 4 times the largest eigenvalue),
        predictions in float32 differ from those in float64 by at most 6e-6 of their standard deviation, and by
        1e-7 of the mean of a target that lies far from zero.
    target_block : int, optional
        Targets computed at once; by default as many as fit into 128 MB.

    Attributes
    ----------
    alpha_ : float or array, shape (target,)
        The regularization used.
    cv_scores_ : array, shape (alpha,), (alpha, target) or (alpha, group)
        Negative mean squared error on held-out samples, averaged over folds and the targets that share alpha,
        for each candidate (from generalized cross-validation, its estimate); only where alpha was chosen.
        Groups are in the order of their positions or sorted labels.
    selected_voxels_ : int array
        The voxels that were selected, ascending; only with `select_voxels`.
    x_mean_ : array, shape (selected voxel,)
        Means of the responses.
    intercept_, singular_values_, sample_vectors_, voxel_vectors_, coordinates_ : array
        Means of the targets, shape (target,), and the factorization: the prediction for responses x is
        ``intercept_ + (x - x_mean_) @ voxel_vectors_ @ coordinates_``.
    n_features_in_ : int
        Number of voxels.

    References
    ----------
    Hoerl & Kennard (1970). Ridge regression. Technometrics 12(1), 55-67.
    Saunders, Gammerman & Vovk (1998). Ridge regression learning algorithm in dual variables. ICML.
    Golub, Heath & Wahba (1979). Generalized cross-validation as a method for choosing a good ridge parameter.
    Technometrics 21(2), 215-223.
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 1.0,
        *,
        cv: Any = 5,
        alpha_per: Any = "all",
        fit_intercept: bool = True,
        renorm: Literal["train", "test"] | None = None,
        select_voxels: int | float | str | None = None,
        missing: Literal["raise", "omit"] = "raise",
        solver: Literal["auto", "dual", "primal"] = "auto",
        device: str = "cpu",
        dtype: Literal["float32", "float64"] = "float32",
        target_block: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.cv = cv
        self.alpha_per = alpha_per
        self.fit_intercept = fit_intercept
        self.renorm = renorm
        self.select_voxels = select_voxels
        self.missing = missing
        self.solver = solver
        self.device = device
        self.dtype = dtype
        self.target_block = target_block

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        coordinates: str | Path | None = None,
    ) -> RidgeDecoder:
        """Fit the decoder.

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses.
        y : array, shape (sample, ...)
            Targets of any shape; also dask, xarray, Zarr and memory-mapped arrays, which are read in blocks.
        groups : array, shape (sample,), optional
            Labels, usually stimulus ids: samples of one group are never on both sides of a fold.
        sample_weight : array, shape (sample,), optional
            Weights of the samples, in fitting and in cross-validation.
        coordinates : path, optional
            A file (``.npy``) that is written with the coordinates, (component, target), instead of keeping them
            in memory: with 8,859 samples and 350,000 targets they take 12 GB.

        Returns
        -------
        RidgeDecoder
            Itself.

        Raises
        ------
        InputError
            Where shapes do not fit, values are not finite, or a parameter is not known.
        """
        problem = self._start(X, y, groups, sample_weight)
        factors = problem.factorize()
        shape = (len(factors.singular_values), problem.targets.n_targets)
        if coordinates is None:
            found = np.empty(shape, dtype=problem.dtype)
        else:
            found = np.lib.format.open_memmap(coordinates, mode="w+", dtype=problem.dtype, shape=shape)
        self.intercept_ = problem.coordinates(factors, found)
        self._finish(problem)
        self.x_mean_ = factors.x_mean
        self.singular_values_ = factors.singular_values
        self.sample_vectors_ = problem.backend.to_numpy(factors.u)
        self.voxel_vectors_ = problem.backend.to_numpy(factors.v)
        self.coordinates_ = found
        self._sample_roots_ = None if problem.weights is None else np.sqrt(problem.weights)
        if self.renorm is not None:
            self._keep_moments(measure_factors(problem, factors, groups, train=self.renorm == "train"))
        return self

    def fit_and_predict(
        self,
        X: ArrayLike,
        y: Any,
        X_test: ArrayLike,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        out: Any = None,
    ) -> Any:
        """Fit, and predict responses that are known by now, with less work and memory than ``fit`` takes.

        The predictions are those of ``fit(X, y).predict(X_test)``, but made by one matrix for each alpha that
        is used (:class:`~neurorecon.decoders.RidgeSmoother`); coordinates of the targets are not computed, so
        that ``predict`` is not there afterwards.

        Parameters
        ----------
        X, y, groups, sample_weight
            As for :meth:`fit`.
        X_test : array, shape (test sample, voxel)
            Responses to predict from.
        out : array, shape (test sample, ...), optional
            Where predictions are written block by block, as for :meth:`predict`.

        Returns
        -------
        array, shape (test sample, ...)
            `out`, or a new array.
        """
        problem = self._start(X, y, groups, sample_weight)
        if problem.parts is not None:
            return self.fit(X, y, groups, sample_weight).predict(X_test, out=out)
        problem.choose()
        self._finish(problem)
        for name in ("coordinates_", "voxel_vectors_", "sample_vectors_", "intercept_"):
            if hasattr(self, name):
                delattr(self, name)
        test = check_inputs(self, X_test, problem.dtype, reset=False)
        test = test if problem.selected is None else test[:, problem.selected]
        smoother = RidgeSmoother(
            problem.inputs,
            test,
            sample_weight=problem.weights,
            fit_intercept=problem.center,
            solver=self.solver,
            device=self.device,
            dtype=problem.dtype,
            decomposed=problem.decomposed,
        )
        out, written = output_columns(out, len(test), problem.targets.shape, problem.dtype)
        moments = None
        if self.renorm is not None:
            moments = measure_smoother(problem, smoother, groups, train=self.renorm == "train")
        for columns, predicted in smoother.predict_blocks(problem.targets, problem.alpha):
            written[columns] = predicted if moments is None else moments.apply(predicted, columns)
        return out

    def _start(self, X: ArrayLike, y: Any, groups: ArrayLike | None, sample_weight: ArrayLike | None) -> RidgeFit:
        """Check everything that a fit is given."""
        check_solver(self.solver)
        if self.missing not in ("raise", "omit"):
            raise UnknownNameError("treatment of missing targets", self.missing, ("raise", "omit"))
        check_renorm(self.renorm)
        dtype, alphas = check_dtype(self.dtype), check_alphas(self.alpha)
        backend, omit = Backend(self.device), self.missing == "omit"
        rule = None if self.select_voxels is None else check_rule(self.select_voxels)
        if omit and (rule is not None or self.renorm is not None):
            raise InputError(
                "targets that are missing cannot be combined with selected voxels or renormalized predictions",
                given=f"missing='omit', select_voxels={self.select_voxels!r}, renorm={self.renorm!r}",
                todo="leave out the samples with NaN first",
            )
        x = check_inputs(self, X, dtype, reset=True)
        targets = Targets(y, dtype, self.target_block, missing=omit)
        check_samples(targets, len(x))
        problem = RidgeFit(
            x,
            targets,
            alphas,
            Sharing(self.alpha_per, targets),
            self.cv,
            groups,
            check_weights(sample_weight, len(x)),
            bool(self.fit_intercept),
            backend,
            dtype,
            self.solver,
            rule,
            omit,
        )
        problem.prepare()
        return problem

    def _finish(self, problem: RidgeFit) -> None:
        """Set what both ways of fitting find, and forget what an earlier fit found."""
        for name in ("cv_scores_", "selected_voxels_", *MOMENTS):
            if hasattr(self, name):
                delattr(self, name)
        if problem.scores is not None:
            self.cv_scores_ = problem.scores
        if problem.selected is not None:
            self.selected_voxels_ = problem.selected
        self.alpha_ = problem.alpha if problem.alpha.ndim else float(problem.alpha)
        self.target_shape_ = problem.targets.shape

    def _keep_moments(self, moments: Moments) -> None:
        values = (moments.mean, moments.deviation, moments.predicted_mean, moments.predicted_deviation)
        for name, value in zip(MOMENTS, values, strict=True):
            if value is not None:
                setattr(self, name, value)
