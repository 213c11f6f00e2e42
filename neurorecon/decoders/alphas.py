"""Choose alpha by cross-validation over folds or by generalized cross-validation.

Errors over folds are computed in one of two ways:

- From one factorization of all samples (:func:`add_errors`). Let S be the smoother of ridge regression on all samples,
  including the intercept, and ``E = 1 - S``. The residuals of the held-out samples t in a fit without them are
  ``inverse(E_tt) E_t Y``, because removing rows of a ridge regression is a low-rank update. Folds then need neither a
  pass over the voxels nor a factorization, and the residuals of all folds are one matrix product per alpha. This is the
  block form of the leave-one-out identity (Allen 1974; Golub, Heath & Wahba 1979).
- From one factorization per fold (:func:`add_fold_errors`). This is used if there are more samples than voxels, if
  voxels are selected within folds, or if a candidate alpha is so small that the first way would lose precision.

Generalized cross-validation is the mean squared leave-one-out residual with the leverage of each sample replaced by
the mean leverage: ``n * |(1 - S) y|^2 / trace(1 - S)^2``. It leaves out single samples, so it must not be used with
repeated stimuli.

References
----------
Allen (1974). The relationship between variable selection and data augmentation and a method for prediction.
Technometrics 16(1), 125-127.
Golub, Heath & Wahba (1979). Generalized cross-validation as a method for choosing a good ridge parameter.
Technometrics 21(2), 215-223.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.decoders.solvers import (
    Backend,
    Factorization,
    Spectrum,
    center_targets,
    project,
    solve_positive,
    unit_vector,
)
from neurorecon.decoders.targets import Blocks, Targets
from neurorecon.decoders.validation import Fold, as_labels
from neurorecon.errors import AlphaEdgeWarning, InputError


class Sharing:
    """Groups of targets that share an alpha.

    Parameters
    ----------
    alpha_per : {"all", "target"}, int, str or array
        See :class:`~neurorecon.decoders.RidgeDecoder`.
    targets : Targets
        All targets.

    Raises
    ------
    InputError
        If the axis does not exist, or the labels do not match the targets.
    """

    def __init__(self, alpha_per: Any, targets: Targets) -> None:
        self.n_targets = targets.n_targets
        self.each = isinstance(alpha_per, str) and alpha_per == "target"
        self.codes: NDArray[np.int64] | None = None
        if not self.each and not (isinstance(alpha_per, str) and alpha_per == "all"):
            labels = _labels(alpha_per, targets)
            self.codes = np.unique(labels, return_inverse=True)[1].ravel()
        self.n_groups = self.n_targets if self.each else 1 if self.codes is None else int(self.codes.max()) + 1

    @property
    def together(self) -> bool:
        """Whether all targets share one alpha."""
        return not self.each and self.codes is None

    def add(self, total: NDArray[np.float64], columns: slice | NDArray[np.int64], values: NDArray) -> None:
        """Add values of some targets, (alpha, target), to the sums over each group, (alpha, group), in place."""
        if self.each:
            total[:, columns] += values
        elif self.codes is None:
            total[:, 0] += values.sum(axis=1)
        else:
            codes = self.codes[columns]
            for row, value in zip(total, values, strict=True):
                row += np.bincount(codes, weights=value, minlength=self.n_groups)

    def mean(self, total: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return means over the targets of each group, (alpha,) or (alpha, group), from their sums."""
        if self.each:
            return total
        if self.codes is None:
            return total[:, 0] / self.n_targets
        return total / np.bincount(self.codes, minlength=self.n_groups)

    def spread(self, alphas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the alpha of each target, () or (target,), from those of the groups."""
        return alphas if self.codes is None else alphas[self.codes]


@dataclass(frozen=True)
class AlphaSearch:
    """A search for alpha: candidates, targets and options.

    Parameters
    ----------
    targets : Targets or TargetPart
        All targets, in blocks.
    alphas : array, shape (alpha,)
        Candidates.
    sharing : Sharing
        Which targets share alpha.
    weights : array, shape (sample,), optional
        Sample weights.
    center : bool
        Fit an intercept.
    dtype : str
        Precision of arrays as large as the targets.
    """

    targets: Blocks
    alphas: NDArray[np.float64]
    sharing: Sharing
    weights: NDArray | None
    center: bool
    dtype: str


def _labels(alpha_per: Any, targets: Targets) -> NDArray:
    """Return one label for each of the flattened targets."""
    if isinstance(alpha_per, bool) or alpha_per is None:
        raise _unknown(alpha_per, targets)
    if isinstance(alpha_per, str):
        if alpha_per in targets.parts and targets.parts[alpha_per][-1] == targets.n_targets:
            return np.repeat(np.arange(len(targets.parts[alpha_per]) - 1), np.diff(targets.parts[alpha_per]))
        if alpha_per not in targets.names:
            raise _unknown(alpha_per, targets)
        alpha_per = targets.names.index(alpha_per)
    if isinstance(alpha_per, int | np.integer):
        if not -len(targets.shape) <= alpha_per < len(targets.shape):
            raise _unknown(alpha_per, targets)
        return _along(targets.shape, int(alpha_per))
    labels = np.asarray(alpha_per)
    if labels.size != targets.n_targets or labels.shape not in (targets.shape, (targets.n_targets,)):
        raise InputError(
            "the labels of targets that share alpha do not match the targets",
            given=f"alpha_per of shape {labels.shape}",
            expected=f"one label for each target: shape {targets.shape} or ({targets.n_targets},)",
        )
    return labels.ravel()


def _along(shape: tuple[int, ...], axis: int) -> NDArray[np.int64]:
    """Return the position of each flattened target along an axis."""
    return np.indices(shape)[axis].ravel()


def _unknown(alpha_per: Any, targets: Targets) -> InputError:
    names = "".join(f", {name!r}" for name in (*targets.names, *targets.parts))
    return InputError(
        "targets cannot share alpha in this way",
        given=f"alpha_per={alpha_per!r}, targets of shape {targets.shape}",
        expected=f"'all', 'target', the number of an axis of a target (0 to {len(targets.shape) - 1}){names}, "
        "or an array with one label for each target",
        todo="give the targets as an xarray.DataArray, whose dimensions have names"
        if isinstance(alpha_per, str) and not targets.names
        else "choose one of these",
    )


def best_alphas(errors: NDArray, alphas: NDArray) -> NDArray:
    """Return the alpha with the smallest error, () or (group,); of equals, the largest."""
    order = np.argsort(-alphas, kind="stable")
    return alphas[order][np.argmin(errors[order], axis=0)]


#: Share of the targets at an end of the grid from which on there is a warning.
MANY_AT_EDGE = 0.05

#: Share of the largest component that a model keeps at the largest alpha, up to which it predicts only the mean.
_MEAN_ONLY = 0.05

#: Mean share of all components that a model keeps at the smallest alpha, above which it is not regularized at all.
_UNREGULARIZED = 0.99


@dataclass(frozen=True)
class AlphaEdges:
    """How many alphas were chosen at the ends of their grid, where better ones may lie beyond it.

    Parameters
    ----------
    smallest, largest : int
        Targets whose alpha is the smallest or the largest candidate. The largest one counts only where the model still
        predicts something: in targets without signal it is expected, because there the mean predicts best.
    targets : int
        Number of targets.
    grid : (float, float)
        The smallest and the largest candidate.
    """

    smallest: int
    largest: int
    targets: int
    grid: tuple[float, float]

    def record(self) -> dict[str, Any]:
        """Return the counts and the grid, JSON types only."""
        return {**vars(self), "grid": list(self.grid)}

    def message(self, of: str = "targets") -> str | None:
        """Return a warning if at least :data:`MANY_AT_EDGE` of the targets are at an end, else None.

        Parameters
        ----------
        of : str
            What the targets of this fit are: ``"voxels"`` of an encoding model, ``"features"`` of a decoder.
        """
        counts = {"smallest": self.smallest, "largest": self.largest}
        many = [name for name, count in counts.items() if count and count >= MANY_AT_EDGE * self.targets]
        if not many:
            return None
        at = " and ".join(f"the {name} alpha in {counts[name]:,} of {self.targets:,} {of}" for name in many)
        further = {"smallest": f"below {self.grid[0]:g}", "largest": f"above {self.grid[1]:g}"}
        return (
            f"cross-validation chose {at}, at the end of the grid from {self.grid[0]:g} to {self.grid[1]:g}; "
            f"better alphas may lie {' and '.join(further[name] for name in many)}"
        )

    def warn(self) -> None:
        """Issue an :class:`~neurorecon.errors.AlphaEdgeWarning` if there is a message."""
        message = self.message()
        if message is not None:
            warnings.warn(message, AlphaEdgeWarning, stacklevel=4)


def alphas_at_edges(
    chosen: ArrayLike, candidates: ArrayLike, *, small: ArrayLike = True, predicts: ArrayLike = True
) -> AlphaEdges:
    """Count the alphas at the ends of their grid.

    Parameters
    ----------
    chosen : array, shape (target,) or ()
        Alphas that cross-validation chose. Targets with NaN do not count.
    candidates : array, shape (alpha,)
        The grid; the ends of fewer than two candidates are not counted.
    small : bool, or bool array, shape (target,)
        Where a smaller alpha could change the prediction. It could not if the smallest is next to no regularization.
    predicts : bool, or bool array, shape (target,)
        Where the model predicts more than the mean, e.g. where R2 is significant. Elsewhere the largest alpha is
        right, and a larger one would change nothing.
    """
    values = np.atleast_1d(np.asarray(chosen, dtype=np.float64))
    grid = np.unique(np.asarray(candidates, dtype=np.float64))
    ends = (float(grid[0]), float(grid[-1]))
    if len(grid) < 2:
        return AlphaEdges(0, 0, int((~np.isnan(values)).sum()), ends)
    # Rounding in single precision, or a mean of logarithms over folds, is not a choice within the grid.
    low, high = np.isclose(values, ends[0], rtol=1e-4), np.isclose(values, ends[1], rtol=1e-4)
    counts = [int((edge & np.asarray(where, dtype=bool)).sum()) for edge, where in ((low, small), (high, predicts))]
    return AlphaEdges(counts[0], counts[1], int((~np.isnan(values)).sum()), ends)


@contextmanager
def quiet_edges() -> Iterator[None]:
    """Let single fits be quiet about their alphas, where the caller counts those of all fits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AlphaEdgeWarning)
        yield


def edges_of_fit(chosen: ArrayLike, candidates: ArrayLike, eigenvalues: ArrayLike) -> AlphaEdges:
    """Count the alphas of a fit at the ends of their grid, as far as it matters by the eigenvalues of its kernel.

    Parameters
    ----------
    chosen, candidates
        As for :func:`alphas_at_edges`.
    eigenvalues : array, shape (component,)
        Squared singular values of the inputs, or eigenvalues of their kernel.
    """
    found = np.asarray(eigenvalues, dtype=np.float64)
    found = found[found > 1e-12 * found.max(initial=0.0)]
    grid = np.asarray(candidates, dtype=np.float64)
    if not len(found):  # inputs that never vary
        return alphas_at_edges(chosen, grid, small=False, predicts=False)
    small = (found / (found + grid.min())).mean() < _UNREGULARIZED
    predicts = found.max() / (found.max() + grid.max()) > _MEAN_ONLY
    return alphas_at_edges(chosen, grid, small=small, predicts=predicts)


def add_fold_errors(
    total: NDArray[np.float64], factors: Factorization, x: NDArray, fold: Fold, search: AlphaSearch
) -> None:
    """Add the mean squared errors on the held-out samples of one fold.

    Parameters
    ----------
    total : array, shape (alpha, group)
        Sums over the targets of each group, modified in place.
    factors : Factorization
        Factorization of the training samples of the fold.
    x : array, shape (sample, feature)
        All inputs.
    fold : (train, test)
        Indices of samples.
    search : AlphaSearch
        Candidates and targets.
    """
    held_out = _HeldOut(factors, x, *fold, search.weights, search.center)
    if search.sharing.together:
        total[:, 0] += held_out.errors(search.targets, search.alphas)
    else:
        for columns, y in search.targets.blocks():
            search.sharing.add(total, columns, held_out.errors_by_target(y, search.alphas))


class _HeldOut:
    """Errors on the held-out samples of one fold."""

    def __init__(
        self,
        factors: Factorization,
        x: NDArray,
        train: NDArray,
        test: NDArray,
        weights: NDArray | None,
        center: bool,
    ) -> None:
        self.factors, self.train, self.test, self.center = factors, train, test, center
        self.train_weights = None if weights is None else weights[train]
        backend, dtype = factors.backend, factors.dtype
        roots = np.ones(len(test)) if weights is None else np.sqrt(weights[test])
        self.total_weight = float((roots**2).sum()) or 1.0
        self.roots = backend.asarray(roots[:, None], dtype)
        self.inputs = factors.components(x[test]) * self.roots

    def split(self, y: NDArray) -> tuple[Any, Any]:
        """Return projected training targets and centered held-out targets, (sample, target)."""
        projected, mean = project(self.factors, y[self.train], self.train_weights, self.center)
        held_out = self.factors.backend.asarray(y[self.test] - mean.astype(y.dtype), self.factors.dtype)
        return projected, held_out * self.roots

    def errors_by_target(self, y: NDArray, alphas: NDArray) -> NDArray[np.float64]:
        """Return errors of shape (alpha, target)."""
        backend = self.factors.backend
        projected, held_out = self.split(y)
        errors = np.empty((len(alphas), y.shape[1]))
        for row, alpha in zip(errors, alphas, strict=True):
            shrinkage = backend.asarray(self.factors.shrinkage(alpha)[:, None], self.factors.dtype)
            residual = held_out - self.inputs @ (shrinkage * projected)
            row[:] = backend.to_numpy((residual**2).sum(0))
        return errors / self.total_weight

    def errors(self, targets: Blocks, alphas: NDArray) -> NDArray[np.float64]:
        """Return errors of shape (alpha,), summed over targets.

        With A the held-out inputs, B the projected training targets and d the shrinkage, predictions are
        ``A diag(d) B``, so the sum of squared errors over all targets is ``sum(y ** 2) - 2 d.c + d'Qd`` with
        ``c = diag(A'y B')`` and ``Q = A'A * BB'``, which do not depend on alpha. Many alphas cost as much as one.
        """
        backend = self.factors.backend
        n_components = len(self.factors.singular_values)
        total, cross = 0.0, np.zeros(n_components)
        quadratic = np.zeros((n_components, n_components))
        for _, y in targets.blocks():
            projected, held_out = self.split(y)
            total += float((held_out**2).sum())
            products = (self.inputs.T @ held_out) * projected
            cross += backend.to_numpy(products.sum(1))
            quadratic += backend.to_numpy(projected @ projected.T)
        quadratic *= backend.to_numpy(self.inputs.T @ self.inputs)
        shrinkages = [self.factors.shrinkage(alpha) for alpha in alphas]
        errors = np.array([total - 2 * d @ cross + d @ quadratic @ d for d in shrinkages])
        return errors / self.total_weight


#: An alpha below this fraction of the largest eigenvalue would cost more than half the digits of double precision.
_WEAKEST = 1e-7

#: Bytes of the operators kept in memory at once; further alphas take another pass over the targets.
_OPERATOR_BYTES = 2**30


def can_leave_out(spectrum: Spectrum, folds: list[Fold], n_samples: int, alphas: NDArray) -> bool:
    """Return whether held-out residuals can be computed from one factorization of all samples.

    This requires the dual factorization, folds that train on all samples except the held-out ones, and no alpha that
    is too small.
    """
    if not spectrum.dual or not len(spectrum.singular_values):
        return False
    if alphas.min() < _WEAKEST * spectrum.singular_values[0] ** 2:
        return False
    return all(np.array_equal(np.sort(np.concatenate(fold)), np.arange(n_samples)) for fold in folds)


def add_errors(total: NDArray[np.float64], spectrum: Spectrum, folds: list[Fold], search: AlphaSearch) -> None:
    """Add the mean squared errors on held-out samples of each fold, for each alpha.

    Parameters
    ----------
    total : array, shape (alpha, group)
        Sums over the targets of each group and over folds, modified in place.
    spectrum : Spectrum
        Decomposition of all samples.
    folds : list of (train, test)
        Indices of samples.
    search : AlphaSearch
        Candidates and targets. The operators are computed in float64.
    """
    backend, alphas, center, dtype = spectrum.backend, search.alphas, search.center, search.dtype
    n_samples = len(spectrum.vectors)
    scales = backend.asarray(_fold_scales(folds, search.weights, n_samples)[:, None], "float64")
    if search.sharing.together:
        products = _target_products(spectrum, search)
        for row, alpha in zip(total, alphas, strict=True):
            operator = residual_operator(spectrum, alpha, folds, center) * scales
            row[0] += float(((operator @ products) * operator).sum())
        return
    held = max(1, _OPERATOR_BYTES // (len(scales) * n_samples * np.dtype(dtype).itemsize))
    for start in range(0, len(alphas), held):
        part = slice(start, start + held)
        operators = [
            backend.asarray(residual_operator(spectrum, alpha, folds, center) * scales, dtype) for alpha in alphas[part]
        ]
        for columns, y in search.targets.blocks():
            values, _ = center_targets(y, search.weights, center, backend, dtype)
            errors = [backend.to_numpy(((operator @ values) ** 2).sum(0)) for operator in operators]
            search.sharing.add(total[part], columns, np.array(errors))


def residual_operator(spectrum: Spectrum, alpha: float, folds: list[Fold], center: bool) -> Any:
    """Return the matrix that maps targets to held-out residuals of all folds, (held-out sample, sample), float64.

    With sample weights, targets and residuals are multiplied by the square roots of the weights.
    """
    backend = spectrum.backend
    squares = spectrum.singular_values**2
    n_samples = len(spectrum.vectors)
    # A matrix times its own transpose takes half the work of a general product.
    half = spectrum.vectors * backend.asarray(np.sqrt(squares / (squares + alpha)), "float64")
    unexplained = -(half @ half.T)
    if center:
        unit = backend.asarray(unit_vector(n_samples, spectrum.roots), "float64")
        unexplained -= unit[:, None] * unit
    diagonal = np.arange(n_samples)
    unexplained[diagonal, diagonal] += 1.0
    rows = [
        solve_positive(unexplained[test][:, test], unexplained[test], backend, what="a fold leaves no samples to fit")
        for _, test in folds
    ]
    return _stack(rows, backend)


def _stack(rows: list[Any], backend: Backend) -> Any:
    if backend.is_numpy:
        return np.concatenate(rows)
    import torch

    return torch.cat(rows)


def _fold_scales(folds: list[Fold], weights: NDArray | None, n_samples: int) -> NDArray[np.float64]:
    """Return scales of the residuals such that sums of squares are means within folds."""
    values = np.ones(n_samples) if weights is None else weights
    for train, _ in folds:
        if not values[train].any():
            raise InputError(
                "all training samples of a fold have a weight of zero",
                given=f"{len(train)} samples",
                todo="drop samples with zero weight, or use other folds",
            )
    return np.concatenate([np.full(len(test), 1 / np.sqrt(values[test].sum() or 1.0)) for _, test in folds])


def _target_products(spectrum: Spectrum, search: AlphaSearch) -> Any:
    """Return ``Y Y'`` over all targets, (sample, sample), in float64, which does not depend on alpha."""
    backend = spectrum.backend
    total: Any = None
    for _, y in search.targets.blocks():
        values, _ = center_targets(y, search.weights, search.center, backend, search.dtype)
        product = backend.asarray(values @ values.T, "float64")
        if total is None:
            total = product
        else:
            total += product
    return total


class GeneralizedCrossValidation:
    """Score candidate alphas by generalized cross-validation.

    The refit test of :mod:`neurorecon.stats.refit` has a class of the same name, written for permutations of
    unweighted samples. It chooses the same alphas.

    Parameters
    ----------
    factors : Factorization
        Factorization of the inputs.
    alphas : array, shape (alpha,)
        Candidates.
    weights : array, shape (sample,), optional
        Sample weights; samples of weight zero do not count.
    center : bool
        Whether an intercept is fitted.
    """

    def __init__(self, factors: Factorization, alphas: NDArray, weights: NDArray | None, center: bool) -> None:
        squares = factors.singular_values**2
        n_samples = len(factors.u) if weights is None else int((weights > 0).sum())
        degrees = n_samples - int(center)
        # Not 1 - squares / (squares + alpha), which loses all digits if alpha is small.
        self.left = alphas[:, None] / np.where(squares + alphas[:, None] > 0, squares + alphas[:, None], 1.0)
        self.outside = max(0, degrees - len(squares))
        trace = self.left.sum(axis=1) + self.outside
        self.factor = np.full(len(alphas), np.inf)
        total_weight = float(n_samples) if weights is None else float(weights.sum())
        np.divide(n_samples**2 / total_weight, trace**2, out=self.factor, where=trace > 0)
        self.factors = factors

    def scores(self, projected: Any, squared_norms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the score of each alpha for a block of targets: an estimate of the mean squared error.

        Parameters
        ----------
        projected : array, shape (component, target)
            ``U'Y`` of the centered, weighted targets, on the device.
        squared_norms : array, shape (target,)
            Sums of squares of the centered, weighted targets.

        Returns
        -------
        array, shape (alpha, target)
            Scores; smaller is better.
        """
        backend, dtype = self.factors.backend, self.factors.dtype
        squares = projected**2
        residual = backend.to_numpy(backend.asarray(self.left**2, dtype) @ squares).astype(np.float64)
        if self.outside:
            # Variance outside the span of the responses; skipped if that is zero up to rounding.
            residual += np.maximum(squared_norms - backend.to_numpy(squares.sum(0)), 0.0)
        with np.errstate(invalid="ignore"):
            scores = residual * self.factor[:, None]
        return np.where(np.isfinite(scores), scores, np.inf)


def refuse_repeats(groups: ArrayLike | None) -> None:
    """Raise an InputError if groups repeat, as leaving out one sample would leave its repeats in."""
    if groups is None:
        return
    labels = as_labels(groups, len(np.asarray(groups)))
    if len(np.unique(labels)) < len(labels):
        raise InputError(
            "generalized cross-validation leaves out single samples, but these have repeats",
            given=f"{len(labels)} samples of {len(np.unique(labels))} groups",
            expected="one sample in each group",
            todo="average the repeats of each stimulus first, or use cv=<number of folds>",
        )
