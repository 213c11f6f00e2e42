"""Ridge regression from responses to targets, or from features to responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.alphas import Sharing, edges_of_fit
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
    """Methods of a fitted :class:`neurorecon.decoders.RidgeDecoder`; see there for the attributes."""

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
    left_out_correlation_: NDArray[np.float64]
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
            Array to which predictions are written block by block: a NumPy array, memory map or Zarr array, either
            flattened or in the shape of the targets.

        Returns
        -------
        array, shape (sample, ...)
            Predicted targets: `out`, or a new array in the shape of the fitted targets.

        Raises
        ------
        InputError
            If the responses do not match the decoder, or `out` has the wrong shape.
        """
        check_is_fitted(self, "coordinates_")
        inputs = self._inputs(X)
        out, written = output_columns(out, len(inputs), self.target_shape_, self.dtype)
        step = self.target_block or max(1, 2**25 // max(1, len(self.coordinates_)))
        for columns in written.blocks(step):
            written[columns] = self._predict_columns(inputs, columns)
        return out

    def predict_blocks(self, X: ArrayLike) -> Iterator[tuple[slice, NDArray]]:
        """Predict targets in blocks.

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses.

        Yields
        ------
        columns : slice
            Indices of the flattened targets.
        predictions : array, shape (sample, target)
            Predictions of these targets.
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
        """Weights, shape ``(*target_shape, voxel)`` as in scikit-learn, computed on each access.

        They apply to centered responses and yield predictions before `renorm`. Voxels that were not selected have a
        weight of zero. Weights do not show where information is; see :meth:`haufe_patterns`.
        """
        check_is_fitted(self, "coordinates_")
        return self._all_voxels((self.voxel_vectors_ @ self.coordinates_).T, 0.0).reshape((*self.target_shape_, -1))

    @property
    def dual_coef_(self) -> NDArray:
        """Dual weights of the samples, (sample, target): ``coef_.T = (X - x_mean_).T @ dual_coef_``."""
        check_is_fitted(self, "coordinates_")
        scaled = self.samples_along_components() / self.singular_values_.astype(self.dtype)
        if self._sample_roots_ is not None:
            scaled = scaled * self._sample_roots_[:, None].astype(self.dtype)
        return scaled @ self.coordinates_

    def forget_samples(self) -> Self:
        """Forget the left singular vectors, from which the training responses can be computed (X = U S V').

        Predictions, weights and Haufe patterns stay the same to the bit. `dual_coef_`, and maps under permuted samples,
        are not available afterwards.

        Returns
        -------
        FittedRidge
            Itself; ``sample_vectors_`` has the shape (sample, 0).
        """
        check_is_fitted(self, "coordinates_")
        self.sample_vectors_ = self.sample_vectors_[:, :0].copy()
        self._sample_roots_ = None
        return self

    def samples_along_components(self) -> NDArray:
        """Return the left singular vectors of the training responses, (sample, component).

        Raises
        ------
        InputError
            If the decoder has forgotten them.
        """
        if self.sample_vectors_.shape[1] < len(self.singular_values_):
            raise InputError(
                "this decoder does not hold its training samples",
                given="a decoder without sample vectors, as systems are shared that were fitted to restricted data",
                expected="a decoder that was fitted here",
                todo="fit the system to your own copy of the data",
            )
        return self.sample_vectors_

    def haufe_patterns(self, targets: slice | NDArray[np.int64] | None = None) -> NDArray:
        """Return the activation pattern of each target: the covariance of the responses times the weights.

        Patterns show which voxels vary with the decoded target. Weights do not: they also serve to cancel noise, and
        can be large in voxels that contain only noise.

        Parameters
        ----------
        targets : slice or int array, optional
            Indices of the flattened targets; all by default.

        Returns
        -------
        patterns : array, shape (target, voxel)
            Covariance over the training samples of each voxel with the decoded value of each target, in units of
            voxel times target. NaN for voxels that were not selected.

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
        """Return values of the selected voxels, (target, voxel), as values of all voxels."""
        if not hasattr(self, "selected_voxels_"):
            return values
        found = np.full((len(values), self.n_features_in_), missing, dtype=values.dtype)
        found[:, self.selected_voxels_] = values
        return found


class RidgeDecoder(FittedRidge, Persistent, MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression from responses to any number of targets.

    Responses are factorized once, regardless of the number of targets, folds and candidate alphas. Targets are
    streamed in blocks from memory or disk. Predictions do not need the weight matrix (voxel, target), and
    :meth:`fit_and_predict` does not even need the coordinates of the targets.

    Memory in addition to the data: while fitting, three (sample, sample) matrices in double precision, or (voxel,
    voxel) if there are fewer voxels; the factors (sample, component) and (voxel, component); the fitted coordinates
    (component, target), unless they are kept on disk; and two blocks of targets. There are at most min(sample, voxel)
    components. Choosing a separate alpha for each target by folds takes up to another gigabyte.

    Parameters
    ----------
    alpha : float or sequence of float
        Regularization strength, on the scale of the sum of squares over samples (as in scikit-learn). From a sequence
        of candidates, the one with the smallest squared error on held-out samples is chosen; of equals, the largest.
    cv : int, "gcv", "leave-one-group-out", scikit-learn splitter or iterable of (train, test)
        Cross-validation to choose alpha: a number of folds, one fold for each group, e.g. for each run
        (``"leave-one-group-out"``; see `groups` of :meth:`fit`), or generalized cross-validation (``"gcv"``), which is
        fastest but requires samples without repeats.
    alpha_per : {"all", "target"}, int, str or array
        Which targets share an alpha. ``"all"`` uses one alpha for all targets, ``"target"`` one for each target. An
        axis of a target, given by its number or (for xarray targets) its name, uses one alpha for each position along
        it: 0 is one alpha for each token of (token, channel). The name of parts that a target consists of uses one
        alpha for each part: ``"group"`` for ``vdvae``, ``"layer"`` for ``clip_layers`` (their attributes
        ``group_boundaries`` and ``layer_boundaries``). An array with one label for each target uses one alpha for each
        label.
    fit_intercept : bool
        Whether to fit an intercept. If False, responses and targets must be centered.
    renorm : {"train", "test"}, optional
        Rescale predictions to the mean and standard deviation of each target in the training samples, after
        standardizing them. ``"train"`` standardizes by the mean and standard deviation of predictions of up to 1,000
        training samples, each from a fit without its group. ``"test"`` standardizes by those of the predictions
        themselves, as in the released code of Brain-Diffuser; each prediction then depends on the others.
    score_left_out : bool
        Also measure how well each target is predicted in up to 1,000 training samples, each from a fit without its
        group: :attr:`left_out_correlation_`.
    select_voxels : int, float or str, optional
        Keep the voxels with the highest mean absolute correlation with the targets: a number (500), a fraction (0.25)
        or those above a threshold (``">0.1"``). In cross-validation, voxels are selected from the training samples of
        each fold, which takes a product of all voxels with all targets for each fold.
    missing : {"raise", "omit"}
        Treatment of NaN in targets. ``"raise"`` raises an error. ``"omit"`` fits each target to the samples that have
        it; targets missing from the same samples are fitted together.
    solver : {"auto", "dual", "primal"}
        Factorize the Gram matrix of samples or of voxels; ``"auto"`` uses the smaller one. Results are the same.
    device : str
        ``"cpu"`` (NumPy), ``"torch"`` (torch on the CPU), ``"cuda"`` or ``"cuda:<number>"``.
    dtype : {"float32", "float64"}
        Precision of arrays as large as the data. The factorization is always computed in float64. In a test with 600
        samples, 1,000 voxels, 300 targets and alphas from 4e-8 to 4 times the largest eigenvalue, predictions in
        float32 and float64 differed by at most 6e-6 of their standard deviation, and by 1e-7 of the mean for targets
        far from zero.
    target_block : int, optional
        Number of targets computed at once; by default as many as fit in 128 MB.

    Attributes
    ----------
    alpha_ : float or array, shape (target,)
        Alpha used.
    cv_scores_ : array, shape (alpha,), (alpha, target) or (alpha, group)
        Negative mean squared error on held-out samples (or its estimate by generalized cross-validation) for each
        candidate, averaged over folds and over the targets that share an alpha. Groups are in the order of their
        positions or sorted labels. Only if alpha was chosen.
    selected_voxels_ : int array
        Indices of the selected voxels, ascending. Only with `select_voxels`.
    left_out_correlation_ : array, shape (target,)
        Correlation of predictions of left-out training samples with the targets, 0 where one of them is constant. Only
        with `score_left_out`.
    x_mean_ : array, shape (selected voxel,)
        Mean responses.
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

    Examples
    --------
    >>> import numpy as np
    >>> import neurorecon as nr
    >>> generator = np.random.default_rng(0)
    >>> X = generator.standard_normal((100, 20))  # responses, (sample, voxel)
    >>> Y = X @ generator.standard_normal((20, 5))  # a target, (sample, feature)
    >>> decoder = nr.RidgeDecoder(alpha=1.0).fit(X[:80], Y[:80])
    >>> decoder.predict(X[80:]).shape, bool(decoder.score(X[80:], Y[80:]) > 0.9)
    ((20, 5), True)
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 1.0,
        *,
        cv: Any = 5,
        alpha_per: Any = "all",
        fit_intercept: bool = True,
        renorm: Literal["train", "test"] | None = None,
        score_left_out: bool = False,
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
        self.score_left_out = score_left_out
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
            Targets of any shape. Dask, xarray, Zarr and memory-mapped arrays are read in blocks.
        groups : array, shape (sample,), optional
            Group of each sample, usually its stimulus id. Groups are never split across a fold.
        sample_weight : array, shape (sample,), optional
            Weights of the samples, used in fitting and in cross-validation.
        coordinates : path, optional
            File (``.npy``) for the coordinates, (component, target), instead of memory. They take 12 GB with 8,859
            samples and 350,000 targets.

        Returns
        -------
        RidgeDecoder
            The fitted decoder.

        Raises
        ------
        InputError
            If shapes do not match, values are not finite, or a parameter is invalid.
        """
        problem = self._start(X, y, groups, sample_weight)
        factors = problem.factorize()
        shape = (len(factors.singular_values), problem.targets.n_targets)
        if coordinates is None:
            found = np.empty(shape, dtype=problem.dtype)
        else:
            found = np.lib.format.open_memmap(coordinates, mode="w+", dtype=problem.dtype, shape=shape)
        self.intercept_ = problem.coordinates(factors, found)
        self._finish(problem, factors.singular_values)
        self.x_mean_ = factors.x_mean
        self.singular_values_ = factors.singular_values
        self.sample_vectors_ = problem.backend.to_numpy(factors.u)
        self.voxel_vectors_ = problem.backend.to_numpy(factors.v)
        self.coordinates_ = found
        self._sample_roots_ = None if problem.weights is None else np.sqrt(problem.weights)
        if self.renorm is not None or self.score_left_out:
            self._keep_moments(self._scored(measure_factors(problem, factors, groups, left_out=self._leaves_out)))
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
        """Fit the decoder and predict test samples, with less time and memory than :meth:`fit` and :meth:`predict`.

        Predictions equal those of ``fit(X, y).predict(X_test)`` but are computed with one matrix for each alpha (see
        :class:`~neurorecon.decoders.RidgeSmoother`). The coordinates of the targets are not computed, so ``predict``
        is not available afterwards.

        Parameters
        ----------
        X, y, groups, sample_weight
            See :meth:`fit`.
        X_test : array, shape (test_sample, voxel)
            Responses of the test samples.
        out : array, shape (test_sample, ...), optional
            Array to which predictions are written block by block; see :meth:`predict`.

        Returns
        -------
        array, shape (test_sample, ...)
            Predicted targets: `out`, or a new array.

        Raises
        ------
        InputError
            If shapes do not match, values are not finite, or a parameter is invalid.
        """
        problem = self._start(X, y, groups, sample_weight)
        if problem.parts is not None:
            return self.fit(X, y, groups, sample_weight).predict(X_test, out=out)
        problem.choose()
        self._finish(problem, None if problem.decomposed is None else problem.decomposed.singular_values)
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
        if self.renorm is not None or self.score_left_out:
            moments = self._scored(measure_smoother(problem, smoother, groups, left_out=self._leaves_out))
        for columns, predicted in smoother.predict_blocks(problem.targets, problem.alpha):
            written[columns] = (
                predicted if moments is None or self.renorm is None else moments.apply(predicted, columns)
            )
        return out

    @property
    def _leaves_out(self) -> bool:
        """Whether training samples are left out to measure their predictions."""
        return self.renorm == "train" or self.score_left_out

    def _start(self, X: ArrayLike, y: Any, groups: ArrayLike | None, sample_weight: ArrayLike | None) -> RidgeFit:
        """Check all inputs of a fit."""
        check_solver(self.solver)
        if self.missing not in ("raise", "omit"):
            raise UnknownNameError("treatment of missing targets", self.missing, ("raise", "omit"))
        check_renorm(self.renorm)
        dtype, alphas = check_dtype(self.dtype), check_alphas(self.alpha)
        backend, omit = Backend(self.device), self.missing == "omit"
        rule = None if self.select_voxels is None else check_rule(self.select_voxels)
        if omit and (rule is not None or self.renorm is not None):
            raise InputError(
                "missing='omit' cannot be combined with select_voxels or renorm",
                given=f"missing='omit', select_voxels={self.select_voxels!r}, renorm={self.renorm!r}",
                todo="drop the samples with NaN first",
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

    def _finish(self, problem: RidgeFit, singular_values: NDArray | None) -> None:
        """Set the attributes common to both ways of fitting, and clear those of an earlier fit."""
        for name in ("cv_scores_", "selected_voxels_", "left_out_correlation_", *MOMENTS):
            if hasattr(self, name):
                delattr(self, name)
        if problem.scores is not None:
            self.cv_scores_ = problem.scores
        if problem.selected is not None:
            self.selected_voxels_ = problem.selected
        if problem.alphas.ndim and singular_values is not None:
            edges_of_fit(problem.alpha, problem.alphas, singular_values**2).warn()
        self.alpha_ = problem.alpha if problem.alpha.ndim else float(problem.alpha)
        self.target_shape_ = problem.targets.shape

    def _scored(self, moments: Moments) -> Moments:
        """Keep the correlation of left-out predictions, and return the moments that `renorm` uses."""
        if self.score_left_out and moments.correlation is not None:
            self.left_out_correlation_ = moments.correlation
        return moments if self.renorm == "train" else Moments(moments.mean, moments.deviation)

    def _keep_moments(self, moments: Moments) -> None:
        if self.renorm is None:
            return
        values = (moments.mean, moments.deviation, moments.predicted_mean, moments.predicted_deviation)
        for name, value in zip(MOMENTS, values, strict=True):
            if value is not None:
                setattr(self, name, value)
