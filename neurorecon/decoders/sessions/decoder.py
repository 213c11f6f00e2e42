"""Ridge regression that takes up new sessions without starting again."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin

from neurorecon.decoders.alphas import Sharing
from neurorecon.decoders.persistence import Persistent
from neurorecon.decoders.sessions.files import check_folder, kept, row_files
from neurorecon.decoders.sessions.fitted import FittedSessions
from neurorecon.decoders.sessions.rows import add_rows, fit_rows
from neurorecon.decoders.sessions.standardizing import (
    Options,
    check_session,
    session_folds,
    session_statistics,
    standardize,
)
from neurorecon.decoders.sessions.sums import add_sums, fit_sums
from neurorecon.decoders.targets import Targets
from neurorecon.decoders.validation import check_inputs, check_solver
from neurorecon.errors import InputError


class UpdatingRidge(FittedSessions, Persistent, MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression to which sessions are added: the same numbers as a fit to all of them at once.

    With fewer samples than voxels (the dual), a session of m samples costs its products with the n samples so
    far, ``2 m n voxel`` operations, where a new fit costs ``n^2 voxel``; with one alpha the rest is
    ``m n (n + target)`` more, and neither responses nor targets of earlier sessions are read again but for those
    products. With more samples than voxels (the primal), sums over samples are added to and no sample is kept.
    Where alpha is chosen among candidates, each session costs a decomposition and a pass over all targets (in the
    dual) or one decomposition for each fold (in the primal), as a new fit does, but none of the voxels' products.

    Memory in the dual: responses and targets of all sessions (or a `folder`), half a (sample, sample) matrix of
    kernel rows, another as Cholesky factor in double precision, and coordinates (sample, target). In the primal:
    sums (voxel, voxel) and (voxel, target) in double precision, once for each fold if alpha is chosen.

    Parameters
    ----------
    alpha : float or sequence of float
        As for :class:`RidgeDecoder`. With a sequence, alpha is chosen again with each session.
    cv : int
        Number of folds that choose alpha. A sample's fold never changes: see `groups` of :meth:`partial_fit`.
    alpha_per : {"all", "target"}, int, str or array
        Which targets share alpha, as for :class:`RidgeDecoder`.
    fit_intercept : bool
        Whether means are fitted: those of all sessions together, which move with each.
    standardize : bool
        First z-score each voxel within its session, as is usual with NSD. Targets that drift (responses, where
        features predict them) are standardized by :func:`standardize_sessions` before they are given.
    solver : {"auto", "dual", "primal"}
        "auto" keeps samples while there are fewer than voxels, and changes to sums over them then.
    folder : path, optional
        Where responses, targets and kernel rows of the dual are kept and mapped from ``.npy`` files; by default in
        memory, but for lazy targets. Sessions are added to it and nothing in it is ever changed, so that decoders
        that were saved earlier, which refer to it, stay as they were.
    device : str
        Where products and decompositions are computed, as for :class:`RidgeDecoder`.
    dtype : {"float32", "float64"}
        Precision of responses, targets and predictions. The kernel and sums are in float64. Measured against
        scikit-learn's SVD (83 samples, 40 and 200 voxels, alpha from 0.01 to 1,000), predictions of targets of
        variance 2 in float64 differ by 1e-10 where the means of sessions lie 30 standard deviations apart, 6e-8
        where 1,000 and 7e-6 where 10,000; in float32 by 2e-5, 4e-4 and 3e-3 (with 4 voxels and a penalty of 1, by 1e-4
        at 30). Standardize such sessions.
    target_block : int, optional
        Targets computed at once; by default as many as fit into 128 MB.

    Attributes
    ----------
    alpha_, cv_scores_, target_shape_
        As of :class:`RidgeDecoder`.
    sessions_ : list of dict
        ``name``, ``n_samples``, and ``mean`` and ``scale`` of each voxel of each session, in the order they came.
    folds_ : array, shape (sample,)
        The fold of each sample, in the order they came.
    solver_ : {"dual", "primal"}
        What is in use.
    rows_, sums_, weights_ : dict or list
        What is kept, and what was fitted to it; internal.
    n_features_in_ : int
        Number of voxels.
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 1.0,
        *,
        cv: int = 5,
        alpha_per: Any = "all",
        fit_intercept: bool = True,
        standardize: bool = False,
        solver: Literal["auto", "dual", "primal"] = "auto",
        folder: str | None = None,
        device: str = "cpu",
        dtype: Literal["float32", "float64"] = "float32",
        target_block: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.cv = cv
        self.alpha_per = alpha_per
        self.fit_intercept = fit_intercept
        self.standardize = standardize
        self.solver = solver
        self.folder = folder
        self.device = device
        self.dtype = dtype
        self.target_block = target_block

    def fit(
        self, X: ArrayLike, y: Any = None, groups: ArrayLike | None = None, sessions: ArrayLike | None = None
    ) -> UpdatingRidge:
        """Forget all sessions and fit to these.

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses.
        y : array, shape (sample, ...)
            Targets of any shape.
        groups : array, shape (sample,), optional
            Labels, usually stimulus ids.
        sessions : array, shape (sample,), optional
            Session of each sample; by default all are of one.

        Returns
        -------
        UpdatingRidge
            Itself.
        """
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        check_folder(self.folder)
        if sessions is None:
            return self.partial_fit(X, y, groups)
        labels = np.asarray(sessions)
        y = np.asarray(y) if isinstance(y, list | tuple) or type(y).__module__.startswith("pandas") else y
        if labels.shape != (len(np.asarray(X)),):
            raise InputError(
                "`sessions` needs one label for each sample",
                given=f"shape {labels.shape}",
                expected=f"({len(np.asarray(X))},)",
            )
        for label in np.unique(labels).tolist():
            rows = np.flatnonzero(labels == label)
            chosen = None if groups is None else np.asarray(groups)[rows]
            targets = y.isel({y.dims[0]: rows}) if type(y).__module__.startswith("xarray") else y[rows]
            self._take_up(np.asarray(X)[rows], targets, chosen, session=label)
        return self._refit()

    def partial_fit(
        self, X: ArrayLike, y: Any = None, groups: ArrayLike | None = None, session: Hashable | None = None
    ) -> UpdatingRidge:
        """Add a session.

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses of the session.
        y : array, shape (sample, ...)
            Its targets; dask, xarray and memory-mapped arrays are read in blocks.
        groups : array, shape (sample,), optional
            Labels, usually stimulus ids: samples of one label are in one fold, in whatever session. Without
            labels, each session is cut into contiguous pieces, one for each fold.
        session : str or int, optional
            Name of the session, by default its number. No two have the same.

        Returns
        -------
        UpdatingRidge
            Itself. Where an error is raised it is as it was before.

        Raises
        ------
        InputError
            Where the session does not fit those before it, values are not finite, or a parameter is not known.
        """
        before = dict(vars(self))
        number = len(before.get("sessions_", [])) + 1
        files = [file for file in row_files(self.folder, number) if not file.exists()]
        try:
            self._take_up(X, y, groups, session)
            return self._refit()
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            for file in files:
                file.unlink(missing_ok=True)
            raise

    def _take_up(self, X: ArrayLike, y: Any, groups: ArrayLike | None, session: Hashable | None) -> None:
        """Add a session to what is kept."""
        check_solver(self.solver)
        before: list[dict[str, Any]] = getattr(self, "sessions_", [])
        options = self._options()
        x = check_inputs(self, X, options.dtype, reset=not before)
        targets = Targets(y, options.dtype, self.target_block)
        name = str(len(before) + 1 if session is None else session)
        check_session(name, len(x), targets, before, getattr(self, "target_shape_", None))
        if not before:
            check_folder(self.folder)
        self.n_folds_ = self._n_folds(options)
        self.target_shape_, self.target_names_ = targets.shape, targets.names
        folds = session_folds(len(x), groups, self.n_folds_)
        mean, scale = session_statistics(x)
        self.sessions_ = [*before, {"name": name, "n_samples": len(x), "mean": mean, "scale": scale}]
        self.folds_ = np.concatenate([getattr(self, "folds_", folds[:0]), folds])
        self.solver_ = self._solver(x.shape[1])
        if self.standardize:
            x = standardize(x, mean, scale)
        if self.solver_ == "dual":
            self.rows_ = add_rows(getattr(self, "rows_", None), x, y, folds, options)
            return
        rows, parts = self.__dict__.pop("rows_", None), getattr(self, "sums_", None)
        for number in range(0 if rows is None else len(before)):
            parts = self._sums_of(rows, number, parts, options)
        self.sums_ = add_sums(parts, x, targets, folds, self.n_folds_, options)

    def _refit(self) -> UpdatingRidge:
        """Fit to what is kept."""
        options = self._options()
        layout = Targets(np.empty((0, *self.target_shape_)), options.dtype)
        layout.names = self.target_names_
        sharing = Sharing(self.alpha_per, layout)
        if self.solver_ == "dual":
            fitted = self.rows_ = fit_rows(self.rows_, sharing, options)
        else:
            fitted = self.weights_ = fit_sums(self.sums_, sharing, options)
        self.alpha_ = fitted["alpha"]
        self.__dict__.pop("cv_scores_", None)
        if fitted["errors"] is not None:
            self.cv_scores_ = -fitted["errors"]
        return self

    def _solver(self, n_voxels: int) -> str:
        """Return what to use after a session; there is no way back from sums to samples."""
        if self.solver == "auto" and len(self.folds_) > n_voxels:
            return "primal"
        return str(getattr(self, "solver_", "dual" if self.solver == "auto" else self.solver))

    def _n_folds(self, options: Options) -> int:
        """Return the number of folds; sums are of one if alpha is given."""
        asked = 1
        if options.alphas.ndim:
            if isinstance(self.cv, bool) or not isinstance(self.cv, int | np.integer) or self.cv < 2:
                raise InputError(
                    "sessions that arrive one after another need a number of folds",
                    given=f"cv={self.cv!r}",
                    expected="a whole number of 2 or more",
                )
            asked = int(self.cv)
        if asked not in (1, getattr(self, "n_folds_", asked)):
            raise InputError(
                "the folds of earlier sessions were made already",
                given=f"{asked} folds to choose alpha",
                expected=f"{self.n_folds_}, as at the first session",
                todo="call fit with all sessions to begin again",
            )
        return int(getattr(self, "n_folds_", asked))

    def _sums_of(self, rows: Any, number: int, parts: Any, options: Options) -> Any:
        """Add to sums a session that was kept as rows."""
        x = np.asarray(kept(rows["responses"][number], self.folder))
        targets = Targets(kept(rows["targets"][number], self.folder), options.dtype, self.target_block)
        return add_sums(parts, x, targets, rows["folds"][number], self.n_folds_, options)
