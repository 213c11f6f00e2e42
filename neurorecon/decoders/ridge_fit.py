"""Fit ridge regressions with missing targets, voxel selection within folds, and shared or separate alphas."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.decoders.alphas import (
    AlphaSearch,
    GeneralizedCrossValidation,
    Sharing,
    add_errors,
    add_fold_errors,
    best_alphas,
    can_leave_out,
    refuse_repeats,
)
from neurorecon.decoders.solvers import Backend, Factorization, Spectrum, center_targets, factorize, means, spectrum
from neurorecon.decoders.targets import Blocks, TargetPart, Targets, release_pages
from neurorecon.decoders.validation import Fold, group_folds
from neurorecon.errors import InputError

#: Maximum number of patterns of missing samples; each takes a factorization.
MOST_PATTERNS = 64


def parts_by_missing(targets: Targets) -> list[TargetPart] | None:
    """Group targets that are missing (NaN) in the same samples.

    Parameters
    ----------
    targets : Targets
        Targets, read once in blocks.

    Returns
    -------
    list of TargetPart, optional
        Groups of targets, each with the samples that have them; None if nothing is missing.

    Raises
    ------
    InputError
        If there are more than 64 patterns of missing samples, or a target has fewer than two samples.
    """
    columns_of: dict[bytes, list[NDArray[np.int64]]] = {}
    for block, values in targets.blocks():
        packed = np.packbits(np.isnan(values), axis=0)
        patterns, codes = np.unique(packed, axis=1, return_inverse=True)
        for number in range(patterns.shape[1]):
            found = block.start + np.flatnonzero(codes.ravel() == number)
            columns_of.setdefault(patterns[:, number].tobytes(), []).append(found)
        if len(columns_of) > MOST_PATTERNS:
            raise InputError(
                "too many patterns of missing targets; each requires a separate fit",
                given=f"{len(columns_of)} patterns of NaN in the first {block.stop} targets",
                expected=f"at most {MOST_PATTERNS}",
                todo="drop samples or targets with missing values, or impute them before fitting",
            )
    parts = []
    for pattern, columns in columns_of.items():
        lacking = np.unpackbits(np.frombuffer(pattern, dtype=np.uint8), count=targets.n_samples).astype(bool)
        rows = np.flatnonzero(~lacking)
        if len(rows) < 2:
            raise InputError(
                "a target is missing in nearly all samples",
                given=f"{len(rows)} samples with target {columns[0][0]}",
                expected="two samples or more",
                todo="drop this target",
            )
        parts.append(TargetPart(targets, rows, np.concatenate(columns)))
    return None if len(parts) == 1 and len(parts[0].rows) == targets.n_samples else parts


def folds_of_part(folds: list[Fold], rows: NDArray[np.int64], n_samples: int) -> list[Fold]:
    """Restrict folds to some of the samples, as positions in `rows`, and drop folds without held-out samples.

    Raises
    ------
    InputError
        If no usable fold remains.
    """
    places = np.full(n_samples, -1)
    places[rows] = np.arange(len(rows))
    kept = [tuple(places[side][places[side] >= 0] for side in fold) for fold in folds]
    found: list[Fold] = [(train, test) for train, test in kept if len(train) and len(test)]
    if not found:
        raise InputError(
            "the samples of a target are all in one fold",
            given=f"{len(rows)} samples",
            expected="samples in two folds or more",
            todo="use fewer folds or groups, or drop this target",
        )
    return found


def check_rule(rule: Any) -> tuple[str, float]:
    """Parse a rule for voxel selection into ``("count" | "share" | "above", number)``.

    Parameters
    ----------
    rule : int, float or str
        A number of voxels (500), a fraction of all voxels (0.25) or a threshold of the mean absolute correlation
        (">0.1").

    Raises
    ------
    InputError
        If it is none of these.
    """
    if isinstance(rule, str) and rule.startswith(">"):
        try:
            return "above", float(rule[1:])
        except ValueError:
            pass
    elif isinstance(rule, int | np.integer) and not isinstance(rule, bool) and rule >= 1:
        return "count", float(rule)
    elif isinstance(rule, float | np.floating) and 0 < rule < 1:
        return "share", float(rule)
    raise InputError(
        "voxels cannot be selected by this rule",
        given=f"select_voxels={rule!r}",
        expected="a number (500), a fraction (0.25), or a threshold of the mean absolute correlation ('>0.1')",
    )


def relevance(
    x: NDArray, targets: Targets, samples: NDArray[np.int64], weights: NDArray | None, dtype: str, backend: Backend
) -> NDArray[np.float64]:
    """Return the mean absolute correlation of each voxel with the targets.

    Parameters
    ----------
    x : array, shape (sample, voxel)
        Responses.
    targets : Targets
        In blocks.
    samples : int array
        Which samples count.
    weights : array, shape (sample,), optional
        Weights of all samples.
    dtype : str
        Precision of the products.
    backend : Backend
        Where they are computed.

    Returns
    -------
    array, shape (voxel,)
        Mean absolute correlation. Voxels and targets that do not vary have a correlation of 0.
    """
    chosen = None if weights is None else weights[samples]
    total = np.zeros(x.shape[1])
    inputs = backend.asarray(_standardized(x[samples], chosen, dtype), dtype)
    for _, y in targets.blocks():
        correlations = inputs.T @ backend.asarray(_standardized(y[samples], chosen, dtype), dtype)
        total += backend.to_numpy(abs(correlations).sum(1))
    return total / targets.n_targets


def select(values: NDArray[np.float64], rule: tuple[str, float]) -> NDArray[np.int64]:
    """Return the indices of the voxels selected by a rule, ascending; of equals, the first.

    Raises
    ------
    InputError
        If no voxel is above the threshold.
    """
    kind, number = rule
    if kind == "above":
        found = np.flatnonzero(values > number)
        if not len(found):
            raise InputError(
                "no voxel correlates with the targets above the threshold",
                given=f"select_voxels='>{number:g}'",
                expected=f"a threshold below {values.max():.3g}, the highest mean absolute correlation",
            )
        return found
    count = int(number) if kind == "count" else max(1, round(number * len(values)))
    return np.sort(np.argsort(-values, kind="stable")[:count])


def _standardized(values: NDArray, weights: NDArray | None, dtype: str) -> NDArray:
    """Return columns centered and of length 1, or 0 where they do not vary."""
    centered = values.astype(np.float64) - means(values, weights, center=True)
    if weights is not None:
        centered *= np.sqrt(weights)[:, None]
    lengths = np.sqrt((centered**2).sum(axis=0))
    # Centered constant columns contain only rounding errors.
    still = lengths <= 1e-7 * np.sqrt(len(values)) * np.abs(values).max(axis=0, initial=0)
    return (centered / np.where(still, np.inf, lengths)).astype(dtype)


#: Choose alpha by generalized cross-validation instead of folds.
GCV = "gcv"


@dataclass
class RidgeFit:
    """Inputs and results of one fit.

    Parameters
    ----------
    x : array, shape (sample, voxel)
        Responses, checked.
    targets : Targets
        All targets.
    alphas : array, shape () or (alpha,)
        Alpha, or candidates.
    sharing : Sharing
        Which targets share alpha.
    cv, groups
        See :class:`~neurorecon.decoders.RidgeDecoder`.
    weights : array, shape (sample,), optional
        Sample weights.
    center : bool
        Fit an intercept.
    backend : Backend
        Where to compute.
    dtype : str
        Precision.
    solver : str
        Solver of the factorization.
    rule : tuple, optional
        Rule of voxel selection; see :func:`check_rule`.
    missing : bool
        Whether targets may be missing.

    Attributes
    ----------
    alpha : array, shape () or (target,)
        Alpha used.
    scores : array, optional
        Negative errors of the candidates.
    selected : int array, optional
        Selected voxels.
    parts : list of TargetPart, optional
        Groups of targets missing from the same samples.
    decomposed : Spectrum, optional
        Decomposition of all samples, once it is computed.
    """

    x: NDArray
    targets: Targets
    alphas: NDArray[np.float64]
    sharing: Sharing
    cv: Any
    groups: ArrayLike | None
    weights: NDArray | None
    center: bool
    backend: Backend
    dtype: str
    solver: str
    rule: tuple[str, float] | None = None
    missing: bool = False
    selected: NDArray[np.int64] | None = None
    scores: NDArray[np.float64] | None = None
    alpha: NDArray[np.float64] = field(default_factory=lambda: np.array(np.nan))
    parts: list[TargetPart] | None = None
    decomposed: Spectrum | None = None

    def prepare(self) -> None:
        """Find folds and missing targets, and select voxels."""
        self.folds: list[Fold] = []
        if self.alphas.ndim and isinstance(self.cv, str) and self.cv == GCV:
            refuse_repeats(self.groups)
        elif self.alphas.ndim:
            self.folds = group_folds(len(self.x), self.groups, self.cv)
        self.parts = parts_by_missing(self.targets) if self.missing else None
        if self.rule is not None:
            self.selected = self._select(np.arange(len(self.x)))

    @property
    def inputs(self) -> NDArray:
        """The selected voxels, (sample, voxel)."""
        return self.x if self.selected is None else self.x[:, self.selected]

    def choose(self, factors: Factorization | None = None, keep: NDArray | None = None) -> None:
        """Choose alpha if there are several candidates.

        Parameters
        ----------
        factors : Factorization, optional
            Factorization of the inputs, for generalized cross-validation and for missing targets; computed if needed.
        keep : array, shape (component, target), optional
            Array to which generalized cross-validation writes ``U'Y`` for later use.
        """
        if self.alphas.ndim == 0:
            self.alpha = self.alphas
            return
        total = np.zeros((len(self.alphas), self.sharing.n_groups))
        if self.parts is not None:
            components = self._components(factors or self.factorize())
            for part in self.parts:
                self._add_part(total, components[part.rows], part)
        elif not self.folds:
            self._add_generalized(total, factors or self._left_factors(), self.targets, self.weights, keep)
        elif self.rule is None:
            self._add_folds(total, self.inputs, self.targets, self.folds, self.weights, self.spectrum())
        else:
            for fold in self.folds:
                chosen = self.x[:, self._select(fold[0])]
                self._add_folds(total, chosen, self.targets, [fold], self.weights, None)
            total /= len(self.folds)
        errors = self.sharing.mean(total)
        self.scores = -errors
        self.alpha = self.sharing.spread(best_alphas(errors, self.alphas))

    def spectrum(self) -> Spectrum:
        """Return the decomposition of all samples, shared by the folds and the fit."""
        if self.decomposed is None:
            self.decomposed = spectrum(self.inputs, self.backend, self.solver, self.weights, self.center)
        return self.decomposed

    def release(self) -> None:
        """Free the memory of the decomposition."""
        self.decomposed = None

    def factorize(self) -> Factorization:
        """Return the factorization of all samples."""
        return self.spectrum().complete(self.inputs, self.dtype)

    def _left_factors(self) -> Factorization:
        """Return the factorization without right singular vectors, if the dual decomposition allows that."""
        found = self.spectrum()
        if not found.dual:
            return self.factorize()
        left = self.backend.asarray(found.vectors, self.dtype)
        return Factorization(self.backend, self.dtype, found.x_mean, left, found.singular_values, None)

    def coordinates(self, factors: Factorization, coordinates: NDArray) -> NDArray[np.float64]:
        """Choose alpha, fill the coordinates of all targets, and return their means, (target,).

        Parameters
        ----------
        factors : Factorization
            Factorization of all samples.
        coordinates : array, shape (component, target)
            Array in memory or on disk, written block by block.
        """
        means = np.empty(self.targets.n_targets)
        if self.parts is not None:
            self.choose(factors)
            components = self._components(factors)
            for part in self.parts:
                self._fit_part(components[part.rows], part, coordinates, means)
            return means
        if self.alphas.ndim and not self.folds:
            self._means = means
            self.choose(factors, keep=coordinates)
            for block in self.targets.column_blocks():
                coordinates[:, block] *= self._shrinkage(factors, block).astype(self.dtype)
                release_pages(coordinates)
            return means
        self.choose()
        self.release()
        for columns, y in self.targets.blocks():
            centered, means[columns] = center_targets(y, self.weights, self.center, self.backend, self.dtype)
            shrinkage = self.backend.asarray(self._shrinkage(factors, columns), self.dtype)
            coordinates[:, columns] = self.backend.to_numpy(shrinkage * (factors.u.T @ centered))
            release_pages(coordinates)
        return means

    def _shrinkage(self, factors: Factorization, columns: slice | NDArray) -> NDArray[np.float64]:
        alpha = np.atleast_1d(self.alpha if self.alpha.ndim == 0 else self.alpha[columns])
        return factors.singular_values[:, None] / (factors.singular_values[:, None] ** 2 + alpha)

    def _select(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        assert self.rule is not None
        values = relevance(self.x, self.targets, samples, self.weights, self.dtype, self.backend)
        return select(values, self.rule)

    def _add_folds(
        self,
        total: NDArray,
        x: NDArray,
        targets: Blocks,
        folds: list[Fold],
        weights: NDArray | None,
        whole: Spectrum | None,
    ) -> None:
        """Add the errors of the folds, or their mean if `whole` is given."""
        search = AlphaSearch(targets, self.alphas, self.sharing, weights, self.center, self.dtype)
        if whole is not None and can_leave_out(whole, folds, len(x), self.alphas):
            found = np.zeros_like(total)
            add_errors(found, whole, folds, search)
            total += found / len(folds)
            return
        for fold in folds:
            train_weights = None if weights is None else weights[fold[0]]
            factors = factorize(x[fold[0]], self.backend, self.dtype, self.solver, train_weights, self.center)
            found = np.zeros_like(total)
            add_fold_errors(found, factors, x, fold, search)
            total += found / (1 if whole is None else len(folds))

    def _add_generalized(
        self, total: NDArray, factors: Factorization, targets: Blocks, weights: NDArray | None, keep: NDArray | None
    ) -> None:
        criterion = GeneralizedCrossValidation(factors, self.alphas, weights, self.center)
        for columns, y in targets.blocks():
            centered, mean = center_targets(y, weights, self.center, self.backend, self.dtype)
            projected = factors.u.T @ centered
            norms = self.backend.to_numpy((centered**2).sum(0)) if criterion.outside else np.zeros(y.shape[1])
            self.sharing.add(total, columns, criterion.scores(projected, norms))
            if keep is not None:
                keep[:, columns] = self.backend.to_numpy(projected)
                release_pages(keep)
                self._means[columns] = mean

    def _components(self, factors: Factorization) -> NDArray:
        """Return samples along the right singular vectors; ridge regression on these equals that on the voxels."""
        return self.backend.to_numpy(factors.components(self.inputs))

    def _add_part(self, total: NDArray, components: NDArray, part: TargetPart) -> None:
        weights = None if self.weights is None else self.weights[part.rows]
        whole = spectrum(components, self.backend, "auto", weights, self.center)
        if not self.folds:
            self._add_generalized(total, whole.complete(components, self.dtype), part, weights, None)
        else:
            folds = folds_of_part(self.folds, part.rows, len(self.x))
            self._add_folds(total, components, part, folds, weights, whole)

    def _fit_part(self, components: NDArray, part: TargetPart, coordinates: NDArray, means: NDArray) -> None:
        weights = None if self.weights is None else self.weights[part.rows]
        factors = factorize(components, self.backend, self.dtype, "auto", weights, self.center)
        for columns, y in part.blocks():
            centered, mean = center_targets(y, weights, self.center, self.backend, self.dtype)
            shrinkage = self.backend.asarray(self._shrinkage(factors, columns), self.dtype)
            found = self.backend.to_numpy(factors.v @ (shrinkage * (factors.u.T @ centered)))
            coordinates[:, columns] = found
            means[columns] = mean - factors.x_mean @ found.astype(np.float64)
